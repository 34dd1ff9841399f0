//! How is a compiled program kept? One file: plans, kernels, images, and free-form metadata.

use crate::plan::{Kernel, Plan};
use serde::{Deserialize, Serialize};

/// Version of the file format; a reader refuses newer ones.
pub const FORMAT_VERSION: u32 = 1;

/// Kind of a compiled image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageKind {
    /// Text the driver or the emulator compiles further.
    Ptx,
    /// Machine code of one architecture.
    Cubin,
}

/// Compiled code of one kernel for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Kernel of the bundle.
    pub kernel: u32,
    /// Architecture, as in `sm_80` or `compute_80`.
    pub target: String,
    /// PTX or cubin.
    pub kind: ImageKind,
    /// The code.
    pub bytes: Vec<u8>,
}

/// A compiled program: everything a runtime needs but the weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bundle {
    /// Numeric mode the graphs were compiled in, `f32` or `bf16`.
    pub mode: String,
    /// Plans by graph, such as `prefill` and `decode`.
    pub plans: Vec<Plan>,
    /// Kernels the plans call.
    pub kernels: Vec<Kernel>,
    /// Compiled code; empty for a bundle that runs on cpu only.
    pub images: Vec<Image>,
    /// What the compiler and the model want to keep beside: model config, reports, sources.
    pub meta: serde_json::Value,
}
