//! Sessions over hand-built plans, on every device that needs no GPU and on a plain one written here.

#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it")]

mod bind;
#[cfg(target_os = "linux")]
mod cuda;
mod emulated;
mod plain;
mod plans;
mod replay;
mod run;
mod state;

use enel_bundle::Bundle;
use enel_runtime::{Device, HostTensor, HostTensors, Session};
use std::sync::Arc;

/// Every device the plans run on, with its name.
fn devices() -> Vec<(&'static str, Device)> {
    let plain = Device::from_backend(Box::new(plain::PlainDevice::default()));
    vec![("plain", plain), ("cpu", Device::open("cpu:1").unwrap()), ("cpu, threads", Device::open("cpu:3").unwrap())]
}

fn session(bundle: Bundle, device: Device) -> Session {
    Session::new(Arc::new(bundle), device).unwrap()
}

fn tensors(items: &[(&str, HostTensor)]) -> HostTensors {
    items.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect()
}

/// Small whole numbers, so that sums are exact in any order.
fn numbers(shape: &[usize], seed: usize) -> HostTensor {
    let n: usize = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|i| ((i * 7 + seed * 3) % 11) as f32 - 5.0).collect();
    HostTensor::from_f32(shape, &values).unwrap()
}
