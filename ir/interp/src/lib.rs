//! What a program means: the reference interpreter.
