//! Finding, loading and calling NVRTC; the toolchain and the compile cache.
