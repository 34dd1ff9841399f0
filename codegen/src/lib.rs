//! How groups become CUDA kernels and bundles.
