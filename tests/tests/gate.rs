//! The compile gate: shipped kernels compile for every target without spills or performance notes.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and says what it skips")]

use enel_bundle::{Body, Desc, Extent, ImageKind};
use enel_lower::{FrontConfig, compile};
use enel_model::{Bounds, EnelConfig, Goal, TapLevel, decode_graph, embed_graph, prefill_graph, step_graph};
use enel_nvrtc::{Arch, Limits, gate};
use enel_passes::{Mode, Passes};
use enel_tests::forge::{bundle, compiler, forge};

/// Up to this many rows or tokens, weights or keys are streamed past them.
const FEW_ROWS: i64 = 8;

fn rows_max(desc: &Desc, rows: &[Extent]) -> i64 {
    let max = |extent: &Extent| match extent {
        Extent::Const(n) => *n,
        Extent::Dyn(at) => desc.dynamics[*at as usize].max,
    };
    rows.iter().map(max).product()
}

fn faults(preset: &str, mode: Mode, targets: &[Arch]) -> Vec<String> {
    let Some(compiler) = compiler() else { return vec![] };
    let config = EnelConfig::preset(preset).unwrap();
    let bounds = Bounds::default();
    let (embed, _) = embed_graph(&config.point, Some(config.llama.hidden_size), &bounds, TapLevel::Off).unwrap();
    let prefill = prefill_graph(&config, &bounds).unwrap();
    let step = step_graph(&config.llama, &bounds, Goal::LastLogits).unwrap();
    let decode = decode_graph(&config.llama, &bounds).unwrap();
    let front = FrontConfig { mode, passes: Passes::all(), memory: None };
    let mut bundle = bundle(compile(&[&embed, &prefill, &step, &decode], &front).unwrap(), "f32");
    let results = forge(&mut bundle, targets, compiler).unwrap();
    println!("{preset} {mode:?}: {} kernels, {} compilations", bundle.kernels.len(), results.len());
    let mut list = Vec::new();
    for image in bundle.images.iter().filter(|i| mode == Mode::Bf16 && i.kind == ImageKind::Ptx) {
        let kernel = &bundle.kernels[image.kernel as usize];
        let low = kernel.descs().any(|desc| match &desc.body {
            // A few rows are matrix-vector products: bound by reading the weights, multiplied in f32.
            Body::Contract(b) => b.bf16 && rows_max(desc, &b.rows) > FEW_ROWS,
            Body::Attention(b) => b.bf16 && rows_max(desc, &[b.tokens]) > FEW_ROWS,
            _ => false,
        });
        if low && !String::from_utf8_lossy(&image.bytes).contains("mma.sync") {
            list.push(format!("{} has no tensor-core instruction", kernel.name));
        }
    }
    for result in results {
        for fault in gate(&result.report, &Limits::default()) {
            let kernel = &bundle.kernels[result.kernel as usize];
            list.push(format!("{} {}: {fault}\n{:?}\n{}", kernel.name, result.target, result.report, kernel));
        }
    }
    list
}

#[test]
fn kernels_of_the_7b_model_pass_the_gate() {
    for mode in [Mode::F32, Mode::Bf16] {
        let faults = faults("enel-7b", mode, &[Arch::SM_80]);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
