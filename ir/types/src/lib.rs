//! Scalar dtypes, size expressions and the scalar op table: the words every room shares.
