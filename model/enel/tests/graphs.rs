//! Every graph of every preset is well formed, and its weights are those of the released state dict.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use enel_ir::{DType, Graph, InputKind, parse, verify};
use enel_model::{
    Bounds, EnelConfig, Extent, Goal, LlamaConfig, ModelError, PRESETS, PointConfig, Pooling, SigmaMode, TapLevel,
    embed_graph, forward_graph, prefill_graph, step_graph, text_forward_graph,
};
use std::collections::BTreeMap;

fn graphs_of(config: &EnelConfig, bounds: &Bounds) -> Vec<Graph> {
    let mut graphs = vec![prefill_graph(config, bounds).unwrap()];
    for goal in [Goal::Logits, Goal::LastLogits, Goal::Loss] {
        graphs.push(step_graph(&config.llama, bounds, goal).unwrap());
        for taps in [TapLevel::Off, TapLevel::Hidden, TapLevel::All] {
            graphs.push(forward_graph(config, bounds, goal, taps).unwrap().0);
            graphs.push(text_forward_graph(&config.llama, bounds, goal, taps).unwrap().0);
        }
    }
    for taps in [TapLevel::Off, TapLevel::Hidden, TapLevel::All] {
        for hidden_size in [None, Some(config.llama.hidden_size)] {
            graphs.push(embed_graph(&config.point, hidden_size, bounds, taps).unwrap().0);
        }
    }
    graphs
}

fn weights(graph: &Graph) -> BTreeMap<String, i64> {
    let elems = |id| graph.ty(id).elems().as_const().unwrap();
    let weights = graph.inputs().filter(|(_, _, kind)| *kind == InputKind::Weight);
    weights.map(|(id, name, _)| (name.to_owned(), elems(id))).collect()
}

fn trainable(graph: &Graph) -> i64 {
    weights(graph).iter().filter(|(name, _)| !name.contains(".running_")).map(|(_, n)| n).sum()
}

#[test]
fn every_graph_of_every_preset_verifies_in_both_storage_modes() {
    for name in PRESETS {
        let config = EnelConfig::preset(name).unwrap();
        for storage in [DType::F32, DType::BF16] {
            for graph in graphs_of(&config, &Bounds { storage, ..Bounds::default() }) {
                verify(&graph).unwrap_or_else(|faults| panic!("{name}/{}: {faults:?}", graph.name()));
            }
        }
    }
}

#[test]
fn graphs_survive_the_text_form() {
    for graph in graphs_of(&EnelConfig::tiny(), &Bounds::default()) {
        assert_eq!(parse(&graph.to_string()).unwrap(), graph, "{}", graph.name());
    }
}

#[test]
fn parameter_counts_are_what_graphs_hold() {
    let bounds = Bounds::default();
    for name in PRESETS {
        let config = EnelConfig::preset(name).unwrap();
        let (graph, _) = forward_graph(&config, &bounds, Goal::Logits, TapLevel::Off).unwrap();
        assert_eq!(trainable(&graph), config.params() as i64, "{name}");
        let prefill = prefill_graph(&config, &bounds).unwrap();
        assert_eq!(weights(&graph), weights(&prefill), "{name}");
    }
    let (backbone, _) = embed_graph(&PointConfig::paper(), None, &bounds, TapLevel::Off).unwrap();
    assert_eq!(trainable(&backbone), 13_973_472);
    let text = LlamaConfig::llama_110m();
    let (graph, _) = text_forward_graph(&text, &bounds, Goal::Loss, TapLevel::Off).unwrap();
    assert_eq!(trainable(&graph), text.params() as i64);
    assert!(!weights(&graph).contains_key("lm_head.weight"), "a tied table is one weight");
}

#[test]
fn graphs_declare_only_the_symbols_they_use() {
    let names = |graph: &Graph| -> Vec<String> { graph.symbols.iter().map(|s| s.name.clone()).collect() };
    let mut config = EnelConfig::tiny();
    let bounds = Bounds::default();
    assert_eq!(names(&prefill_graph(&config, &bounds).unwrap()), ["B", "T", "S", "L"]);
    config.point.n_points = Extent::range(64, 8192);
    assert_eq!(names(&prefill_graph(&config, &bounds).unwrap()), ["B", "N", "T", "S", "L"]);
    assert_eq!(names(&step_graph(&config.llama, &bounds, Goal::Logits).unwrap()), ["T", "S"]);
    let fixed = Bounds { clouds: Extent::fixed(1), tokens: Extent::fixed(64), ..bounds };
    assert!(names(&forward_graph(&config, &fixed, Goal::Loss, TapLevel::All).unwrap().0) == ["N"]);
}

#[test]
fn caches_are_state_with_one_tied_update_per_layer() {
    let config = LlamaConfig::smollm2_135m();
    let graph = step_graph(&config, &Bounds::default(), Goal::Logits).unwrap();
    let states: Vec<_> = graph.inputs().filter(|(_, _, kind)| *kind == InputKind::State).collect();
    assert_eq!(states.len(), 30);
    for (layer, (id, name, _)) in states.iter().enumerate() {
        assert_eq!(*name, enel_model::names::cache(layer));
        assert_eq!(graph.ty(*id).display(&graph.symbols), "f32[2, S, 3, 64]");
        assert_eq!(graph.outputs().iter().filter(|o| o.updates == Some(*id) && o.name == *name).count(), 1);
    }
}

#[test]
fn variants_of_the_embedding_verify() {
    let bounds = Bounds::default();
    for sigma in [SigmaMode::Batch, SigmaMode::PerCloud] {
        for pooling in [Pooling::Max, Pooling::MaxMean] {
            for (pose_alpha, pose_beta) in [(1.0, 1.0), (1000.0, 100.0)] {
                let tiny = EnelConfig::tiny().point;
                let config = PointConfig { sigma, pooling, pose_alpha, pose_beta, class_token: false, ..tiny };
                let (graph, taps) = embed_graph(&config, Some(40), &bounds, TapLevel::All).unwrap();
                verify(&graph).unwrap();
                let spread = taps.list().iter().find(|t| t.name == "act.stage1.std_x").unwrap();
                assert_eq!(graph.ty(spread.value).rank(), usize::from(sigma == SigmaMode::PerCloud));
                assert_eq!(graph.ty(taps.list().last().unwrap().value).display(&graph.symbols), "f32[B, 16, 40]");
            }
        }
    }
}

#[test]
fn broken_configs_give_errors_not_graphs() {
    let mut config = EnelConfig::tiny();
    config.llama.num_key_value_heads = 3;
    let bounds = Bounds::default();
    assert!(matches!(prefill_graph(&config, &bounds), Err(ModelError::Config(_))));
    let config = EnelConfig::tiny();
    let none = Bounds { tokens: Extent::range(0, 4), ..bounds };
    assert!(matches!(step_graph(&config.llama, &none, Goal::Logits), Err(ModelError::Extent(_))));
    let backwards = Bounds { slots: Extent::range(9, 4), ..bounds };
    assert!(matches!(step_graph(&config.llama, &backwards, Goal::Logits), Err(ModelError::Extent(_))));
}
