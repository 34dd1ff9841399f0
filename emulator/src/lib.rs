//! A PTX parser and SIMT machine: runs compiled CUDA kernels on a CPU and checks them.
