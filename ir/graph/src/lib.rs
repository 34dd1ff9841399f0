//! What a program is: tensor ops in SSA, builder, text format, verifier.
