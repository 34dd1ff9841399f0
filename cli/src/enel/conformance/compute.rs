//! What does this project compute of a case? Results on the device, inner activations on the interpreter.
//!
//! Law: the device runs the compiled graph in f32 mode with hidden states as outputs, the interpreter the graph as it
//! was written; neither sees the golden results.

use super::files::{Case, Tensors, from_host, host, host_all, read_tensors};
use super::samples::{Samples, row_inputs, vector};
use super::settings;
use crate::enel::decode::{Decoding, Start};
use crate::enel::engine::Engine;
use anyhow::{Context, Result, bail};
use enel_autodiff::{GRAD, differentiate};
use enel_interp::{Rounding, Run, Tensor, Values};
use enel_ir::{Graph, InputKind, NodeId, TensorType, verify};
use enel_model::{
    Bounds, Goal, Layout, TapLevel, Taps, Vocabulary, decode_graph, embed_graph, forward_graph, names, prefill_graph,
    step_graph, text_forward_graph,
};
use enel_passes::Mode;
use enel_runtime::HostTensors;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// How the names of states after a run begin.
const AFTER: &str = "after.";

/// Values computed in one place.
#[derive(Debug)]
pub struct Part {
    /// `device` or `interpreter`.
    pub computed_on: &'static str,
    /// What is computed here, and how it lies beside the golden tensor.
    pub layouts: BTreeMap<String, Layout>,
    /// The values, or why there are none.
    pub values: Result<Tensors>,
}

/// Everything computed of a case.
#[derive(Debug, Default)]
pub struct Computed {
    /// The first part that has a name is the one compared.
    pub parts: Vec<Part>,
    /// Real tokens of each padded sample.
    pub used: Vec<usize>,
}

/// What is kept between cases: compiled graphs with their weights.
#[derive(Debug)]
pub struct Lab {
    device: String,
    engines: BTreeMap<String, Engine>,
    weights: BTreeMap<PathBuf, Rc<Tensors>>,
}

/// Where weights come from and how their names begin there.
pub(super) struct Weights {
    path: PathBuf,
    pub(super) tensors: Rc<Tensors>,
    pub(super) prefix: &'static str,
}

impl Weights {
    /// The value a state or weight called `name` starts with; zeros where the file has none, as sums start.
    pub(super) fn start(&self, name: &str, ty: &TensorType) -> Result<Tensor> {
        if let Some(tensor) = self.tensors.get(&format!("{}{name}", self.prefix)) {
            return Ok(tensor.clone());
        }
        let extents: Option<Vec<usize>> =
            ty.shape.iter().map(|d| d.as_const().and_then(|n| usize::try_from(n).ok())).collect();
        let shape = extents.with_context(|| format!("the size of the state {name} is not constant"))?;
        let count = shape.iter().product();
        let zeros = if ty.dtype.is_float() { Values::F(vec![0.0; count]) } else { Values::I(vec![0; count]) };
        Ok(Tensor::new(ty.dtype, &shape, zeros)?)
    }
}

/// A graph at certain sizes.
pub(super) struct Call<'a> {
    pub(super) symbols: &'a [(&'a str, i64)],
    pub(super) inputs: &'a Tensors,
    pub(super) weights: &'a Weights,
}

impl Lab {
    /// Compiles for `device` when something is first computed.
    pub fn new(device: &str) -> Lab {
        Lab { device: device.to_owned(), engines: BTreeMap::new(), weights: BTreeMap::new() }
    }

    /// Computes what can be computed of a case of this kind.
    ///
    /// # Errors
    /// Files or tensors of the case that are missing or do not fit each other.
    pub fn compute(&mut self, case: &Case, golden: &Tensors) -> Result<Computed> {
        match case.kind {
            'a' => self.token_embedding(case, golden),
            'b' => self.embedding_in_training(case, golden),
            'c' => self.whole(case, golden),
            'd' => self.training_step(case, golden),
            'e' => self.greedy(case, golden),
            'f' => self.text(case, golden),
            'g' => self.chamfer(case, golden),
            _ => Ok(Computed::default()),
        }
    }

    fn token_embedding(&mut self, case: &Case, golden: &Tensors) -> Result<Computed> {
        let points = input(golden, "in.points")?;
        let config = settings::point(&case.json, &points.shape)?;
        let weights = self.weights_of(case)?;
        let inputs = Tensors::from([(names::POINTS.to_owned(), points.clone())]);
        let symbols = [("B", points.shape[0] as i64)];
        let call = Call { symbols: &symbols, inputs: &inputs, weights: &weights };
        let graph = |taps| Ok(embed_graph(&config, None, &Bounds::default(), taps)?);
        let parts = self.both(golden, &graph, &call)?;
        Ok(Computed { parts, used: Vec::new() })
    }

    fn whole(&mut self, case: &Case, golden: &Tensors) -> Result<Computed> {
        let weights = self.weights_of(case)?;
        let points = input(golden, "in.point_clouds")?;
        let (config, vocabulary) = settings::whole(case, &points.shape, &weights.tensors, weights.prefix)?;
        let samples = Samples::read(golden)?;
        let packed = samples.pack(&vocabulary)?;
        let n_clouds = points.shape[0];
        let mut inputs = row_inputs(&packed.ids, &packed.rows)?;
        inputs.insert(names::POINTS.to_owned(), points.clone());
        let point_row = samples.point_row(&packed, &vocabulary, n_clouds)?;
        inputs.insert(names::POINT_ROW.to_owned(), vector(&point_row)?);
        let goal = goal(&samples, &mut inputs)?;
        let symbols = [("B", n_clouds as i64), ("T", packed.ids.len() as i64)];
        let call = Call { symbols: &symbols, inputs: &inputs, weights: &weights };
        let graph = |taps| Ok(forward_graph(&config, &Bounds::default(), goal, taps)?);
        let parts = self.both(golden, &graph, &call)?;
        Ok(Computed { parts, used: samples.used() })
    }

    fn text(&mut self, case: &Case, golden: &Tensors) -> Result<Computed> {
        let weights = self.weights_of(case)?;
        let config = settings::llama(&case.json, &weights.tensors, weights.prefix)?;
        let samples = Samples::read(golden)?;
        let vocabulary = Vocabulary { size: config.vocab_size, patch: -1, frame: None, tokens_per_cloud: 0 };
        let packed = samples.pack(&vocabulary)?;
        let mut inputs = row_inputs(&packed.ids, &packed.rows)?;
        let goal = goal(&samples, &mut inputs)?;
        let symbols = [("T", packed.ids.len() as i64)];
        let call = Call { symbols: &symbols, inputs: &inputs, weights: &weights };
        let graph = |taps| {
            let (graph, taps) = text_forward_graph(&config, &Bounds::default(), goal, taps)?;
            Ok((with_derivatives(graph, golden)?, taps))
        };
        let parts = self.both(golden, &graph, &call)?;
        Ok(Computed { parts, used: samples.used() })
    }

    fn greedy(&mut self, case: &Case, golden: &Tensors) -> Result<Computed> {
        let weights = self.weights_of(case)?;
        let points = input(golden, "in.point_clouds")?;
        let (config, vocabulary) = settings::whole(case, &points.shape, &weights.tensors, weights.prefix)?;
        let samples = Samples::read(golden)?;
        let packed = samples.pack(&vocabulary)?;
        let point_row = samples.point_row(&packed, &vocabulary, points.shape[0])?;
        let steps_of = |name: &str| golden.get(name).and_then(|t| t.shape.get(1)).copied();
        let Some(n_steps) = steps_of("new_ids").or(steps_of("step_logits")) else {
            bail!("the case has neither new_ids nor step_logits");
        };
        let longest = samples.used().into_iter().max().unwrap_or(0);
        let points = host(points);
        let start = Start { packed: &packed, point_row: &point_row, points: &points };
        let capacity = longest + n_steps;
        let graphs = || -> Result<Vec<Graph>> {
            let bounds = Bounds::default();
            let step = step_graph(&config.llama, &bounds, Goal::LastLogits)?;
            Ok(vec![prefill_graph(&config, &bounds)?, step, decode_graph(&config.llama, &bounds)?])
        };
        let values = self
            .engine(&graphs()?, &weights)
            .and_then(|engine| decode((engine, capacity), &start, (n_steps, config.llama.vocab_size)));
        let layouts = ["new_ids", "step_logits"].map(|name| (name.to_owned(), Layout::Same)).into();
        Ok(Computed { parts: vec![Part { computed_on: "device", layouts, values }], used: samples.used() })
    }

    /// Results on the device, and whatever else the golden values hold on the interpreter.
    pub(super) fn both(
        &mut self,
        golden: &Tensors,
        graph: &dyn Fn(TapLevel) -> Result<(Graph, Taps)>,
        call: &Call<'_>,
    ) -> Result<Vec<Part>> {
        let (compiled, taps) = graph(TapLevel::Hidden)?;
        let mut layouts = layouts(&taps);
        layouts.insert(names::LOGITS.to_owned(), Layout::Tokens);
        layouts.insert(names::LOSS.to_owned(), Layout::Same);
        layouts.retain(|name, _| compiled.outputs().iter().any(|output| output.name == *name));
        let grads = compiled.outputs().iter().filter(|output| output.name.starts_with(GRAD));
        layouts.extend(grads.map(|output| (output.name.clone(), Layout::Same)));
        let updates = compiled.outputs().iter().filter(|output| output.updates.is_some());
        layouts.extend(updates.map(|output| (format!("{AFTER}{}", output.name), Layout::Same)));
        let values = self.on_device(compiled, call);
        let device = Part { computed_on: "device", layouts, values };
        let (written, taps) = graph(TapLevel::All)?;
        let inner = self::layouts(&taps);
        let is_open = |name: &String| inner.contains_key(name) && !device.layouts.contains_key(name);
        if !golden.keys().any(is_open) {
            return Ok(vec![device]);
        }
        let values = interpret(&written, call);
        Ok(vec![device, Part { computed_on: "interpreter", layouts: inner, values }])
    }

    /// Outputs, and under `after.NAME` what the states of the graph are then.
    fn on_device(&mut self, graph: Graph, call: &Call<'_>) -> Result<Tensors> {
        let engine = self.engine(std::slice::from_ref(&graph), call.weights)?;
        let states = graph.inputs().filter(|(_, _, kind)| *kind == InputKind::State);
        let states: Vec<(NodeId, &str)> = states.map(|(id, name, _)| (id, name)).collect();
        for &(id, name) in &states {
            engine.write_state(name, &host(&call.weights.start(name, graph.ty(id))?))?;
        }
        let mut values = engine.run(graph.name(), call.symbols, &host_all(call.inputs))?;
        for (_, name) in states {
            values.insert(format!("{AFTER}{name}"), engine.read_state(name)?);
        }
        from_host(&values)
    }

    /// Compiled graphs with their weights; the same graphs with the same weights are compiled once.
    pub(super) fn engine(&mut self, graphs: &[Graph], weights: &Weights) -> Result<&mut Engine> {
        let texts: Vec<String> = graphs.iter().map(Graph::to_string).collect();
        let key = format!("{} {}\n{}", weights.path.display(), weights.prefix, texts.concat());
        if !self.engines.contains_key(&key) {
            let graphs: Vec<&Graph> = graphs.iter().collect();
            let mut engine = Engine::open(&graphs, Mode::F32, &self.device)?;
            let named = |(name, tensor): (&String, &Tensor)| {
                Some((name.strip_prefix(weights.prefix)?.to_owned(), host(tensor)))
            };
            let source: HostTensors = weights.tensors.iter().filter_map(named).collect();
            engine.bind(&source).with_context(|| weights.path.display().to_string())?;
            self.engines.insert(key.clone(), engine);
        }
        self.engines.get_mut(&key).context("the engine was just made")
    }

    pub(super) fn weights_of(&mut self, case: &Case) -> Result<Weights> {
        let (path, prefix) = case.weights()?;
        let tensors = match self.weights.get(&path) {
            Some(tensors) => tensors.clone(),
            None => Rc::new(read_tensors(&path)?),
        };
        self.weights.insert(path.clone(), tensors.clone());
        Ok(Weights { path, tensors, prefix })
    }

    /// Forgets the weights of one case's own file, and what was compiled for them.
    pub fn forget(&mut self, path: &Path) {
        self.weights.remove(path);
        let start = format!("{} ", path.display());
        self.engines.retain(|key, _| !key.starts_with(&start));
    }
}

/// Greedy tokens and the scores that chose them, as the golden values have them.
fn decode(
    (engine, capacity): (&mut Engine, usize),
    start: &Start<'_>,
    (n_steps, vocab): (usize, usize),
) -> Result<Tensors> {
    let n_samples = start.packed.last_row.len();
    let mut decoding = Decoding::new(engine, &vec![capacity; n_samples])?;
    let mut scores = decoding.start(start)?;
    let mut ids = vec![0i64; n_samples * n_steps];
    let mut all = vec![0f32; n_samples * n_steps * vocab];
    for step in 0..n_steps {
        let mut next = Vec::with_capacity(n_samples);
        for (sample, scores) in scores.chunks(vocab).enumerate() {
            let at = sample * n_steps + step;
            all[at * vocab..][..scores.len()].copy_from_slice(scores);
            // The first of equal best scores, as the released code takes it.
            let better = |best: usize, id: usize| if scores[id] > scores[best] { id } else { best };
            let best = (0..scores.len()).reduce(better).context("the vocabulary is empty")?;
            ids[at] = best as i64;
            next.push(best as i32);
        }
        if step + 1 < n_steps {
            scores = decoding.step(&next)?;
        }
    }
    let new_ids = Tensor::from_i64(&[n_samples, n_steps], &ids)?;
    let step_logits = Tensor::from_f32(&[n_samples, n_steps, vocab], &all)?;
    Ok(Tensors::from([("new_ids".to_owned(), new_ids), ("step_logits".to_owned(), step_logits)]))
}

pub(super) fn interpret(graph: &Graph, call: &Call<'_>) -> Result<Tensors> {
    let mut inputs = call.inputs.clone();
    for (id, name, kind) in graph.inputs() {
        match kind {
            InputKind::Data => {}
            InputKind::State => drop(inputs.insert(name.to_owned(), call.weights.start(name, graph.ty(id))?)),
            InputKind::Weight => {
                let weight = call.weights.tensors.get(&format!("{}{name}", call.weights.prefix));
                let missing = || format!("{} lacks the weight {name}", call.weights.path.display());
                inputs.insert(name.to_owned(), weight.with_context(missing)?.clone());
            }
        }
    }
    // A graph may do without inputs others of the case need.
    inputs.retain(|name, _| graph.inputs().any(|(_, known, _)| known == name));
    let value = |symbol: &str| call.symbols.iter().find(|(name, _)| *name == symbol).map(|(_, value)| *value);
    let symbols: Option<Vec<i64>> = graph.symbols.iter().map(|symbol| value(&symbol.name)).collect();
    let symbols = symbols.context("a symbol of the graph has no value")?;
    let graph = verify(graph).map_err(|faults| anyhow::anyhow!("the graph breaks rules: {faults:?}"))?;
    let run = Run { graph, symbols: &symbols, inputs: &inputs, rounding: Rounding::None, keep: &[] };
    Ok(enel_interp::run(&run)?.outputs)
}

/// `graph` with a derivative of its loss by every weight the case has one of.
pub(super) fn with_derivatives(graph: Graph, golden: &Tensors) -> Result<Graph> {
    let is_known = |name: &str| golden.contains_key(&format!("{GRAD}{name}"));
    let is_weight = |name: &str| graph.inputs().any(|(_, n, kind)| n == name && kind == InputKind::Weight);
    if !golden.keys().any(|name| name.starts_with(GRAD)) {
        return Ok(graph);
    }
    let verified = verify(&graph).map_err(|faults| anyhow::anyhow!("the graph breaks rules: {faults:?}"))?;
    Ok(differentiate(verified, names::LOSS, &|name| is_known(name) && is_weight(name))?)
}

fn layouts(taps: &Taps) -> BTreeMap<String, Layout> {
    taps.list().iter().map(|tap| (tap.name.clone(), tap.layout)).collect()
}

/// What is wanted of a pass: with labels also the loss.
pub(super) fn goal(samples: &Samples, inputs: &mut Tensors) -> Result<Goal> {
    let Some(labels) = samples.shifted_labels() else { return Ok(Goal::Logits) };
    inputs.insert(names::LABELS.to_owned(), vector(&labels)?);
    Ok(Goal::Loss)
}

pub(super) fn input<'g>(golden: &'g Tensors, name: &str) -> Result<&'g Tensor> {
    golden.get(name).with_context(|| format!("the case lacks {name}"))
}
