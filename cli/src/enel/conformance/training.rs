//! What does training compute of a case? Embeddings by their own statistics, whole steps, distances between sets.
//!
//! Law: derivatives, statistics, steps and curves come from the graphs the trainer runs, on the device.

use super::compute::{Call, Computed, Lab, Part, Weights, input, with_derivatives};
use super::files::{Case, Description, Tensors, from_host, host, host_all};
use super::samples::{Samples, row_inputs, vector};
use super::settings;
use crate::enel::engine::Engine;
use anyhow::{Context, Result, bail};
use enel_autodiff::{GRAD, differentiate};
use enel_interp::{Tensor, Values};
use enel_ir::{Composite, DType, Dim, Graph, InputKind, ReduceOp, Symbols, TensorType, UnaryOp, verify};
use enel_model::train::{
    EmbeddingRows, Masked, MicroStep, Objective, Optimizer, Prediction, Schedule, Target, TrainConfig, Trainable,
    apply_graph, chamfer, micro_step_graph, nearest, training_graph,
};
use enel_model::{
    BatchNorms, Bounds, EnelConfig, Layout, Packed, PointConfig, Scope, TapLevel, Taps, Vocabulary, names,
    token_embedding,
};
use std::collections::BTreeMap;

/// The loss of a token embedding is the mean of its features times these.
const LOSS_WEIGHTS: &str = "loss_weights";

impl Lab {
    /// The token embedding by its own statistics, and derivatives of a weighted mean of its tokens.
    pub(super) fn embedding_in_training(&mut self, case: &Case, golden: &Tensors) -> Result<Computed> {
        let points = input(golden, "in.points")?;
        let config = settings::point(&case.json, &points.shape)?;
        let weights = self.weights_of(case)?;
        let mut inputs = Tensors::from([(names::POINTS.to_owned(), points.clone())]);
        inputs.insert(LOSS_WEIGHTS.to_owned(), input(golden, "in.loss_weights")?.clone());
        let call = Call { symbols: &[], inputs: &inputs, weights: &weights };
        let graph = |taps| {
            let (graph, noted) = embedding_graph(&config, points.shape[0], taps)?;
            // The interpreter only shows what is inside.
            let graph = if taps == TapLevel::All { graph } else { with_derivatives(graph, golden)? };
            Ok((graph, noted))
        };
        let parts = self.both(golden, &graph, &call)?;
        Ok(Computed { parts, used: Vec::new() })
    }

    /// Every term of the loss, every derivative, statistics, a step, and steps along a curve.
    pub(super) fn training_step(&mut self, case: &Case, golden: &Tensors) -> Result<Computed> {
        let weights = self.weights_of(case)?;
        let points = input(golden, "in.point_clouds")?;
        let (config, vocabulary) = settings::whole(case, &points.shape, &weights.tensors, weights.prefix)?;
        let samples = Samples::read(golden)?;
        let packed = samples.pack(&vocabulary)?;
        let train = train_config(&case.json, (&config, &vocabulary))?;
        let batch = Batch { case, golden, config: &config, packed: &packed, objective: &train.objective };
        let inputs = batch.inputs(&samples)?;
        let symbols = [("B", points.shape[0] as i64), ("T", packed.ids.len() as i64)];
        let call = Call { symbols: &symbols, inputs: &inputs, weights: &weights };

        let micro = micro_step_graph(&config, &train, &Bounds::default())?;
        let values = self.steps(&batch, &micro, &call);
        let stepped = |name: &&String| {
            let starts = [GRAD, "step1.", "after_bn.", "curve", "act.loss"];
            starts.iter().any(|start| name.starts_with(start))
        };
        let layouts = golden.keys().filter(stepped).map(|name| (name.clone(), Layout::Same)).collect();
        let mut parts = vec![Part { computed_on: "device", layouts, values }];
        parts.push(batch.places());
        let graph = |taps| Ok(training_graph(&config, &train, &Bounds::default(), taps)?);
        parts.extend(self.both(golden, &graph, &call)?);
        Ok(Computed { parts, used: samples.used() })
    }

    /// One step at the rate of the case, then as many as its curve has rows, both from its weights.
    fn steps(&mut self, batch: &Batch<'_>, micro: &MicroStep, call: &Call<'_>) -> Result<Tensors> {
        let json = &batch.case.json;
        let constant = optimizer(json, json.number_or("optimizer.lr", f64::NAN)?, Schedule::Constant)?;
        let graphs = [micro.graph.clone(), apply_graph(&micro.weights, &constant)?];
        let engine = self.engine(&graphs, call.weights)?;
        restart(engine, &graphs, call.weights)?;
        let inputs = host_all(call.inputs);
        let mut values = from_host(&engine.run("micro_step", call.symbols, &inputs)?)?;
        let terms: Vec<String> = values.keys().filter(|name| name.starts_with(names::LOSS)).cloned().collect();
        let mut row = Vec::new();
        for name in [names::LOSS, names::LOSS_CE, names::LOSS_MASKED, names::LOSS_RECONSTRUCTION] {
            row.push(values.get(name).map_or(0.0, |t| t.to_f64()[0]));
        }
        for name in terms {
            let value = values[&name].clone();
            values.insert(format!("act.{name}"), value);
        }
        read_back(engine, &mut values, (&graphs[0], "after_bn."), &|name| !name.starts_with(GRAD))?;
        read_back(engine, &mut values, (&graphs[0], ""), &|name| name.starts_with(GRAD))?;
        let applied = from_host(&engine.run("apply", &[], &BTreeMap::new())?)?;
        row.extend([names::GRAD_NORM, names::LEARNING_RATE].map(|name| applied[name].to_f64()[0]));
        let is_weight = |name: &str| micro.weights.iter().any(|(weight, _)| weight == name);
        read_back(engine, &mut values, (&graphs[1], "step1."), &is_weight)?;
        values.insert("curve1".to_owned(), Tensor::from_f64(DType::F32, &[1, row.len()], &row)?);
        if let Some(curve) = batch.golden.get("curve8") {
            values.insert("curve8".to_owned(), self.curve(batch, micro, (call, curve))?);
        }
        Ok(values)
    }

    fn curve(&mut self, batch: &Batch<'_>, micro: &MicroStep, (call, theirs): (&Call<'_>, &Tensor)) -> Result<Tensor> {
        let (warmup, total) = schedule(&batch.case.json)?;
        let rate = batch.case.json.number_or("curve8.lr_peak", f64::NAN)?;
        let adam = optimizer(&batch.case.json, rate, Schedule::Cosine { warmup, total })?;
        let graphs = [micro.graph.clone(), apply_graph(&micro.weights, &adam)?];
        let engine = self.engine(&graphs, call.weights)?;
        restart(engine, &graphs, call.weights)?;
        let mut rows = Vec::new();
        for step in 0..theirs.shape.first().copied().unwrap_or(0) {
            let mut inputs = call.inputs.clone();
            inputs.extend(batch.masks(step)?);
            let lost = engine.run("micro_step", call.symbols, &host_all(&inputs))?;
            let applied = engine.run("apply", &[], &BTreeMap::new())?;
            let (lost, applied) = (from_host(&lost)?, from_host(&applied)?);
            let terms = [names::LOSS, names::LOSS_CE, names::LOSS_MASKED, names::LOSS_RECONSTRUCTION];
            rows.extend(terms.map(|name| lost.get(name).map_or(0.0, |t| t.to_f64()[0])));
            rows.extend([names::GRAD_NORM, names::LEARNING_RATE].map(|name| applied[name].to_f64()[0]));
        }
        Ok(Tensor::from_f64(DType::F32, &theirs.shape, &rows)?)
    }

    /// Nearest points both ways, the losses made of them, and derivatives by both sets.
    pub(super) fn chamfer(&mut self, case: &Case, golden: &Tensors) -> Result<Computed> {
        let weights = self.weights_of(case)?;
        let mut values = Ok(Tensors::new());
        let sets: Vec<&str> = golden.keys().filter_map(|name| name.strip_suffix(".in.x")).collect();
        if sets.is_empty() {
            bail!("the case has no tensor NAME.in.x");
        }
        for set in sets {
            let given = |name: &str| Ok::<_, anyhow::Error>(input(golden, &format!("{set}.in.{name}"))?.clone());
            let mut inputs = Tensors::new();
            for name in ["x", "y", "grad_dist1", "grad_dist2"] {
                inputs.insert(name.to_owned(), given(name)?);
            }
            let one = self.distances(set, &inputs, &weights);
            values = values.and_then(|mut all| {
                all.extend(one?);
                Ok(all)
            });
        }
        let layouts = golden.keys().map(|name| (name.clone(), Layout::Same)).collect();
        Ok(Computed { parts: vec![Part { computed_on: "device", layouts, values }], used: Vec::new() })
    }

    fn distances(&mut self, set: &str, inputs: &Tensors, weights: &Weights) -> Result<Tensors> {
        let mut values = Tensors::new();
        // Each loss of the case, and what the derivatives by x and y are called there.
        for (loss, suffix) in [("weighted", "_weighted"), ("L2.loss", ""), ("L1.loss", "")] {
            let derived = distance_graph((inputs["x"].shape.clone(), inputs["y"].shape.clone()), loss)?;
            let engine = self.engine(std::slice::from_ref(&derived), weights)?;
            // Inputs a loss does not use are not the graph's.
            let mut given = inputs.clone();
            given.retain(|name, _| derived.inputs().any(|(_, known, _)| known == name));
            let got = from_host(&engine.run(derived.name(), &[], &host_all(&given))?)?;
            let group = loss.strip_suffix(".loss").map_or(String::new(), |group| format!("{group}."));
            for (name, tensor) in got {
                let called = match name.strip_prefix(GRAD) {
                    Some(by) => format!("{group}g{by}{suffix}"),
                    None => name,
                };
                values.insert(format!("{set}.{called}"), tensor);
            }
        }
        Ok(values)
    }
}

/// A token embedding by its own statistics, and the mean of its tokens times given weights.
fn embedding_graph(config: &PointConfig, clouds: usize, taps: TapLevel) -> Result<(Graph, Taps)> {
    let mut scope = Scope::new(Graph::new("embed", Symbols::default()), &Bounds::default(), Taps::new(taps));
    scope.set_batch_norms(BatchNorms::Own);
    let constant = |n: usize| Dim::constant(n as i64);
    let shape = vec![constant(clouds), constant(config.n_points.min), constant(config.point_dims)];
    let points = scope.graph.input(names::POINTS, InputKind::Data, TensorType::new(DType::F32, shape))?;
    let tokens = token_embedding(&mut scope, config, points, "")?;
    let ty = scope.graph.ty(tokens.features).clone();
    let weights = scope.graph.input(LOSS_WEIGHTS, InputKind::Data, ty)?;
    let product = scope.graph.mul(tokens.features, weights)?;
    let loss = scope.graph.composite(Composite::Mean { axes: vec![0, 1, 2], keep: false }, &[product])?;
    scope.graph.output(names::LOSS, loss);
    Ok(scope.finish()?)
}

/// Squared distances and indices both ways, and one of the losses with its derivatives by x and y.
fn distance_graph((x, y): (Vec<usize>, Vec<usize>), loss: &str) -> Result<Graph> {
    let mut g = Graph::new("distances", Symbols::default());
    let ty = |shape: &[usize]| TensorType::new(DType::F32, shape.iter().map(|&n| Dim::constant(n as i64)).collect());
    let (a, b) = (g.input("x", InputKind::Data, ty(&x))?, g.input("y", InputKind::Data, ty(&y))?);
    let (there, back) = (nearest(&mut g, a, b)?, nearest(&mut g, b, a)?);
    let list = [("dist1", there.distance), ("dist2", back.distance), ("idx1", there.index), ("idx2", back.index)];
    for (name, value) in list {
        g.output(name, value);
    }
    let value = match loss {
        "L2.loss" => chamfer(&mut g, a, b)?,
        "L1.loss" => {
            let mut half = |distance| -> Result<enel_ir::NodeId> {
                let root = g.unary(UnaryOp::Sqrt, distance)?;
                Ok(g.composite(Composite::Mean { axes: vec![0, 1], keep: false }, &[root])?)
            };
            let (there, back) = (half(there.distance)?, half(back.distance)?);
            let sum = g.add(there, back)?;
            let two = g.scalar(2.0)?;
            g.div(sum, two)?
        }
        _ => {
            let mut weighted = |name: &str, distance| -> Result<enel_ir::NodeId> {
                let ty = g.ty(distance).clone();
                let weights = g.input(name, InputKind::Data, ty)?;
                let product = g.mul(distance, weights)?;
                Ok(g.reduce(ReduceOp::Sum, product, &[0, 1], false)?)
            };
            let (there, back) = (weighted("grad_dist1", there.distance)?, weighted("grad_dist2", back.distance)?);
            g.add(there, back)?
        }
    };
    g.output(loss, value);
    let verified = verify(&g).map_err(|faults| anyhow::anyhow!("the graph breaks rules: {faults:?}"))?;
    Ok(differentiate(verified, loss, &|name| name == "x" || name == "y")?)
}

/// A batch of a case as the graphs of a step take it.
struct Batch<'a> {
    case: &'a Case,
    golden: &'a Tensors,
    config: &'a EnelConfig,
    packed: &'a Packed,
    objective: &'a Objective,
}

impl Batch<'_> {
    fn inputs(&self, samples: &Samples) -> Result<Tensors> {
        let mut inputs = row_inputs(&self.packed.ids, &self.packed.rows)?;
        inputs.insert(names::POINTS.to_owned(), input(self.golden, "in.point_clouds")?.clone());
        inputs.insert(names::POINT_ROW.to_owned(), vector(&self.packed.point_row)?);
        let labels = samples.shifted_labels().context("the case lacks in.labels")?;
        inputs.insert(names::LABELS.to_owned(), vector(&labels)?);
        let whole = Tensor::from_f64(DType::F32, &[], &[1.0])?;
        inputs.insert(names::TOKEN_SHARE.to_owned(), whole.clone());
        if self.objective.masked.is_some() || self.objective.reconstruction.is_some() {
            inputs.insert(names::CLOUD_SHARE.to_owned(), whole);
        }
        inputs.extend(self.masks(0)?);
        Ok(inputs)
    }

    /// Which tokens are seen and which are masked in a step: columns after the class token, 1 for masked.
    fn masks(&self, step: usize) -> Result<Tensors> {
        if self.objective.masked.is_none() {
            return Ok(Tensors::new());
        }
        let name = format!("in.mask.{step}");
        let mask = input(self.golden, &name)?;
        let (&[clouds, columns], Values::I(bits)) = (mask.shape.as_slice(), &mask.values) else {
            bail!("{name} is {:?}, expected one row of bits for each cloud", mask.shape);
        };
        let before = usize::from(self.config.point.class_token);
        let of = |wanted: i64| -> Result<Tensor> {
            let rows = bits.chunks(columns.max(1)).map(|row| row.iter().skip(before).enumerate());
            let chosen = rows.flat_map(|row| row.filter(|(_, bit)| **bit == wanted).map(|(at, _)| at as i32));
            let chosen: Vec<i32> = chosen.collect();
            Ok(Tensor::from_i32(&[clouds, chosen.len() / clouds.max(1)], &chosen)?)
        };
        Ok(Tensors::from([(names::SEEN.to_owned(), of(0)?), (names::MASKED.to_owned(), of(1)?)]))
    }

    /// Where the seen and the masked slots begin in each sample.
    fn places(&self) -> Part {
        let slots = self.config.point.tokens_per_cloud();
        let before = usize::from(self.config.point.class_token);
        let masked = self.objective.masked.map_or(0, |masked| masked.count(slots - before));
        let at = |slot: usize| -> Result<Tensor> {
            let firsts = self.packed.point_row.chunks(slots.max(1));
            let rows = firsts
                .zip(&self.packed.offsets)
                .filter_map(|(rows, &first)| Some(i64::from(*rows.get(slot)?) - first as i64));
            let rows: Vec<i64> = rows.collect();
            Ok(Tensor::from_i64(&[rows.len()], &rows)?)
        };
        let list = [("act.recon_start", before), ("act.mask_start", slots - masked)];
        let values = list.iter().map(|&(name, slot)| Ok((name.to_owned(), at(slot)?))).collect();
        let layouts = list.iter().map(|&(name, _)| (name.to_owned(), Layout::Same)).collect();
        Part { computed_on: "host", layouts, values }
    }
}

/// States as the weights of the case, and zero where it has none.
fn restart(engine: &mut Engine, graphs: &[Graph], weights: &Weights) -> Result<()> {
    for graph in graphs {
        for (id, name, _) in graph.inputs().filter(|(_, _, kind)| *kind == InputKind::State) {
            engine.write_state(name, &host(&weights.start(name, graph.ty(id))?))?;
        }
    }
    Ok(())
}

/// States of a graph that `wanted` accepts, under their names after a prefix.
fn read_back(
    engine: &mut Engine,
    values: &mut Tensors,
    (graph, prefix): (&Graph, &str),
    wanted: &dyn Fn(&str) -> bool,
) -> Result<()> {
    let states = graph.inputs().filter(|(_, name, kind)| *kind == InputKind::State && wanted(name));
    for (_, name, _) in states {
        let state = engine.read_state(name)?;
        let value = Tensor::from_bytes(state.dtype(), state.shape(), state.bytes())?;
        values.insert(format!("{prefix}{name}"), value);
    }
    Ok(())
}

/// The loss and the weights that learn, from what the case says of its run.
fn train_config(json: &Description, (config, vocabulary): (&EnelConfig, &Vocabulary)) -> Result<TrainConfig> {
    let flag = |name: &str| json.count(&format!("point_pn_params.{name}"));
    let ratio = json.number_or("point_pn_params.mask_ratio", 0.0)?;
    // The released code compares the ratio with these two and masks nothing for any other.
    let is_masking = ratio == 0.3 || ratio == 0.6;
    let mut objective = Objective::cross_entropy();
    if is_masking {
        let target = |flag: usize| if flag == 1 { Target::Feature } else { Target::Patch };
        let masked = Prediction::of(target(flag("mae_fp")?));
        objective.masked = Some(Masked { ratio, prediction: masked });
        objective.reconstruction = Some(Prediction::of(target(flag("recon_fp")?)));
    }
    let trainable = match json.count("stage")? {
        1 => {
            let (start, end) = vocabulary.frame.context("the vocabulary has no marks around a cloud")?;
            Trainable::first_stage(json.count("tune_layer")?, [start, end])
        }
        _ => Trainable { embedding_rows: EmbeddingRows::All, ..Trainable::all() },
    };
    objective.check(config)?;
    Ok(TrainConfig { objective, trainable, batch_norms: BatchNorms::Own })
}

fn optimizer(json: &Description, rate: f64, schedule: Schedule) -> Result<Optimizer> {
    let paper = Optimizer::paper(rate, schedule);
    let betas = json.get("optimizer.betas").and_then(serde_json::Value::as_array);
    let beta = |i: usize| betas.and_then(|list| list.get(i)).and_then(serde_json::Value::as_f64);
    Ok(Optimizer {
        betas: [beta(0).unwrap_or(paper.betas[0]), beta(1).unwrap_or(paper.betas[1])],
        eps: json.number_or("optimizer.eps", paper.eps)?,
        weight_decay: json.number_or("optimizer.weight_decay", paper.weight_decay)?,
        max_norm: json.number_or("optimizer.clip_grad_norm", paper.max_norm)?,
        ..paper
    })
}

/// Warm-up and total of a curve, which its description states in words: `warmup 2, total 10`.
fn schedule(json: &Description) -> Result<(u32, u32)> {
    let text = json.get("curve8.schedule").and_then(serde_json::Value::as_str).unwrap_or_default();
    let number = |key: &str| -> Option<u32> {
        let (_, rest) = text.split_once(&format!("{key} "))?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    let stated = number("warmup").zip(number("total"));
    stated.with_context(|| {
        format!("{}: `curve8.schedule` is {text:?}, expected `warmup N, total M` in it", json.path.display())
    })
}
