//! The commands enel and enel-compile.
