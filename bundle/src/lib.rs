//! The contract between compiler and runtime: Desc, Config, Plan and the bundle file.
