//! Loads bundles, binds weights and runs plans on cpu, emulated and cuda devices.

pub mod cpu;
