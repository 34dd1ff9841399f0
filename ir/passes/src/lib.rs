//! How a program changes: rewrites and partition.
