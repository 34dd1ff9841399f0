//! The token embedding at the paper's sizes: how many multiplications and launches the compiler leaves.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use enel_bundle::{Plan, Step, check_desc, check_plan, flops};
use enel_lower::{Compiled, FrontConfig, compile};
use enel_model::{Bounds, EnelConfig, Extent, Goal, TapLevel, decode_graph, embed_graph, prefill_graph, step_graph};
use enel_passes::{Mode, Passes};

fn config(off: &[&str]) -> FrontConfig {
    FrontConfig { mode: Mode::F32, passes: Passes::AllBut(off.iter().map(|s| (*s).to_owned()).collect()), memory: None }
}

/// GFLOP of one run, and the number of kernel calls.
fn cost(compiled: &Compiled, plan: &Plan, symbols: &[i64]) -> (f64, usize) {
    let mut total = 0;
    for step in &plan.steps {
        if let Step::Call(call) = step {
            let dynamics: Vec<i64> = call.dynamics.iter().map(|d| d.eval(symbols).unwrap()).collect();
            let kernel = &compiled.kernels[call.kernel as usize];
            let parts = kernel.descs().zip(kernel.split_dynamics(&dynamics));
            total += parts.map(|(desc, own)| flops(desc, own).unwrap()).sum::<u64>();
        }
    }
    (total as f64 / 1e9, plan.steps.len())
}

fn checked(compiled: &Compiled) {
    for kernel in &compiled.kernels {
        kernel.descs().for_each(|desc| check_desc(desc).unwrap());
    }
    for plan in &compiled.plans {
        check_plan(plan, &compiled.kernels).unwrap();
    }
}

#[test]
fn linear_before_gather_halves_the_embedder() {
    let mut point = EnelConfig::preset("enel-7b").unwrap().point;
    point.n_points = Extent::fixed(8192);
    let (graph, _) = embed_graph(&point, None, &Bounds::default(), TapLevel::Off).unwrap();
    let gflop = |off: &[&str]| {
        let compiled = compile(&[&graph], &config(off)).unwrap();
        checked(&compiled);
        cost(&compiled, &compiled.plans[0], &[1])
    };
    let (naive, _) = gflop(&["linear-before-gather"]);
    let (fused, launches) = gflop(&[]);
    assert_eq!((naive.round(), fused.round()), (385.0, 199.0), "GFLOP as written and rewritten");
    let why = "fps, centres, raw embedding and first map, knn, spreads and maps, codes, then net1, net2 of each stage";
    assert_eq!(launches, 14, "{why}");
}

#[test]
fn decode_takes_at_most_nine_launches_per_layer() {
    let config_7b = EnelConfig::preset("enel-7b").unwrap().llama;
    let layers = config_7b.num_hidden_layers;
    let graph = decode_graph(&config_7b, &Bounds::default()).unwrap();
    let compiled = compile(&[&graph], &config(&[])).unwrap();
    checked(&compiled);
    let launches = compiled.plans[0].steps.len();
    // Norm, qkv, cache, attention, output, norm, gate and up, their product, down.
    assert!(launches <= 9 * layers + 6, "{launches} launches for {layers} layers");
}

#[test]
fn the_tiny_model_lowers_in_every_mode() {
    let config_tiny = EnelConfig::tiny();
    let prefill = prefill_graph(&config_tiny, &Bounds::default()).unwrap();
    let step = step_graph(&config_tiny.llama, &Bounds::default(), Goal::LastLogits).unwrap();
    let decode = decode_graph(&config_tiny.llama, &Bounds::default()).unwrap();
    for mode in [Mode::F32, Mode::Bf16] {
        for passes in [Passes::None, Passes::all()] {
            checked(&compile(&[&prefill, &step, &decode], &FrontConfig { mode, passes, memory: None }).unwrap());
        }
    }
}
