//! What is there to time? A compiled graph with weights and inputs of the right sizes, ready for its next run.

use super::measure::WARM_ON_GPU;
use super::{BenchArgs, Work, train};
use crate::enel::engine::indices;
use crate::{device, source};
use anyhow::{Context, Result, bail};
use enel_bundle::{Body, BufferKind, Bundle, Desc, Extent, Step, flops};
use enel_ir::{DType, Graph, InputKind};
use enel_lower::FrontConfig;
use enel_model::{CacheMap, EnelConfig, LlamaConfig, PRESETS, TapLevel, embed_graph, names};
use enel_passes::Passes;
use enel_runtime::limits::GemmShape;
use enel_runtime::{Device, HostTensor, HostTensors, RunOptions, RunOutput, Session, WeightSource, WeightView};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Name of the graph that takes a prompt.
const PROMPT: &str = "step";

/// Graphs on a device, and the runs of them that are timed together.
pub(super) struct Workload {
    session: Session,
    plan: &'static str,
    cache: Option<CacheMap>,
    points: Option<HostTensor>,
    n_tokens: usize,
    /// Runs that are the same every time; none where the cache grows.
    calls: Vec<Call>,
    /// How the device calls itself.
    pub(super) device: String,
    /// Floating-point operations of a timed run.
    pub(super) flop: f64,
    /// Bytes of weights and cache a timed run has to read.
    pub(super) read_bytes: f64,
    /// The products that make up the arithmetic, with how often each occurs.
    pub(super) products: BTreeMap<GemmShape, usize>,
}

/// A run of a graph with given inputs.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) plan: &'static str,
    pub(super) symbols: Vec<(&'static str, i64)>,
    pub(super) inputs: HostTensors,
}

/// Compiles, binds and fills what `args` asks for.
pub(super) fn prepare(args: &BenchArgs) -> Result<Workload> {
    let mode = args.mode.into();
    let mut calls = Vec::new();
    let (graphs, plan) = match args.work {
        Work::TrainStep => {
            let step = train::prepare(args)?;
            calls = step.calls;
            (step.graphs, train::MICRO_STEP)
        }
        Work::Embed => {
            (vec![embed_graph(&point_config(args)?, None, &source::bounds(mode), TapLevel::Off)?.0], "embed")
        }
        Work::Prefill => (vec![source::step(&llama_config(args)?, mode)?], PROMPT),
        Work::Decode => {
            let config = llama_config(args)?;
            (vec![source::step(&config, mode)?, source::decode(&config, mode)?], "decode")
        }
    };
    let device = Device::open(&args.device).with_context(|| format!("cannot open device `{}`", args.device))?;
    eprintln!("compiling for {}", device.name());
    let targets = device::targets(&device);
    // A step is compiled as the trainer compiles it.
    let front = match args.work {
        Work::TrainStep => enel_train::steps::front(args.mode.into(), None),
        Work::Embed | Work::Prefill | Work::Decode => FrontConfig { mode, passes: Passes::all(), memory: None },
    };
    let bundle = device::build(&graphs.iter().collect::<Vec<_>>(), &front, &targets)?;
    let mut session = Session::new(Arc::new(bundle), device)?;
    let noise = Noise::new(&graphs);
    session.bind(&noise)?;
    if args.work == Work::TrainStep {
        train::start(&mut session, &graphs, &noise)?;
    }

    let n_tokens = if args.work == Work::Decode { 1 } else { args.tokens as usize };
    let points = match args.work {
        Work::Embed => Some(cloud(&point_config(args)?, args.clouds as usize)?),
        Work::Prefill | Work::Decode | Work::TrainStep => None,
    };
    let mut work = Workload {
        device: session.device_name(),
        session,
        plan,
        cache: None,
        points,
        n_tokens,
        calls,
        flop: 0.0,
        read_bytes: 0.0,
        products: BTreeMap::new(),
    };
    if matches!(args.work, Work::Prefill | Work::Decode) {
        work.fill_cache(args)?;
    }
    if work.calls.is_empty() {
        work.count(args, work.plan, &work.symbols(n_tokens))?;
    } else {
        let runs: Vec<_> = work.calls.iter().map(|call| (call.plan, call.symbols.clone())).collect();
        for (plan, symbols) in runs {
            work.count(args, plan, &symbols)?;
        }
    }
    Ok(work)
}

fn point_config(args: &BenchArgs) -> Result<enel_model::PointConfig> {
    let Some(config) = EnelConfig::preset(&args.config) else {
        bail!("`{}` is no preset with an embedder; there are {}", args.config, PRESETS.join(", "));
    };
    Ok(config.point)
}

fn llama_config(args: &BenchArgs) -> Result<LlamaConfig> {
    match (args.config.as_str(), EnelConfig::preset(&args.config)) {
        ("llama-110m", _) => Ok(LlamaConfig::llama_110m()),
        (_, Some(config)) => Ok(config.llama),
        (name, None) => bail!("`{name}` is no preset; there are llama-110m, {}", PRESETS.join(", ")),
    }
}

/// Points on a torus, in a fixed order that walks it unevenly.
pub(super) fn cloud(config: &enel_model::PointConfig, clouds: usize) -> Result<HostTensor> {
    let (n, channels) = (config.n_points.max, config.point_dims);
    let mut bytes = Vec::with_capacity(4 * clouds * n * channels);
    for i in 0..clouds * n {
        // Golden and plastic ratio: successive points spread over both angles.
        let (u, v) = (i as f64 * 0.618_033_988_749_895, i as f64 * 0.754_877_666_246_693);
        let (u, v) = ((u.fract() * std::f64::consts::TAU), (v.fract() * std::f64::consts::TAU));
        let ring = 0.7 + 0.3 * v.cos();
        let point = [ring * u.cos(), ring * u.sin(), 0.3 * v.sin(), u.cos().abs(), v.sin().abs(), 0.5];
        bytes.extend((0..channels).flat_map(|c| (point[c % 6] as f32).to_ne_bytes()));
    }
    Ok(HostTensor::new(DType::F32, &[clouds, n, channels], bytes)?)
}

impl Workload {
    /// Runs once, as timed.
    pub(super) fn run(&mut self, time_steps: bool) -> Result<RunOutput> {
        let options = RunOptions { time_steps, ..RunOptions::default() };
        let n_tokens = self.n_tokens;
        if self.calls.is_empty() {
            return self.run_tokens(self.plan, n_tokens, &options);
        }
        let mut all: Option<RunOutput> = None;
        for call in &self.calls {
            let output = self.session.run_with(call.plan, &call.symbols, &call.inputs, &options)?;
            all = Some(match all {
                None => output,
                Some(mut sum) => {
                    sum.stats.launches += output.stats.launches;
                    sum.stats.copies += output.stats.copies;
                    sum.stats.arena_bytes = sum.stats.arena_bytes.max(output.stats.arena_bytes);
                    sum.stats.workspace_bytes = sum.stats.workspace_bytes.max(output.stats.workspace_bytes);
                    sum.stats.steps.extend(output.stats.steps);
                    sum
                }
            });
        }
        all.context("a step has runs")
    }

    fn run_tokens(&mut self, plan: &str, n_tokens: usize, options: &RunOptions) -> Result<RunOutput> {
        let mut inputs = HostTensors::new();
        let symbols = self.symbols(n_tokens);
        if let Some(points) = &self.points {
            inputs.insert(names::POINTS.to_owned(), points.clone());
        }
        if let Some(map) = &mut self.cache {
            if map.length(0).unwrap_or(0) + n_tokens > map.slots() {
                map.reset(0)?;
            }
            let cached = map.append(&[(0, n_tokens)])?;
            let ids: Vec<i32> = (0..n_tokens as i32).map(|i| i * 37 % 251).collect();
            let rows = &cached.rows;
            let list = [
                (names::IDS, &ids),
                (names::POSITION, &rows.position),
                (names::LOW, &rows.low),
                (names::HIGH, &rows.high),
                (names::SLOT, &cached.slot),
            ];
            inputs.extend(list.into_iter().map(|(name, values)| (name.to_owned(), indices(values))));
            inputs.insert(names::LAST_ROW.to_owned(), indices(&[n_tokens as i32 - 1]));
        }
        let name = plan;
        let plan = self.session.bundle().plan(name).context("the bundle has the graph it was built from")?;
        let wanted: BTreeSet<&String> = input_names(plan).collect();
        inputs.retain(|name, _| wanted.contains(name));
        let symbols: Vec<(&str, i64)> =
            symbols.into_iter().filter(|(name, _)| plan.symbols.find(name).is_some()).collect();
        Ok(self.session.run_with(name, &symbols, &inputs, options)?)
    }

    fn symbols(&self, n_tokens: usize) -> Vec<(&'static str, i64)> {
        let clouds = self.points.as_ref().map_or(0, |points| points.shape()[0]);
        let slots = self.cache.as_ref().map_or(0, CacheMap::slots);
        vec![("B", clouds as i64), ("T", n_tokens as i64), ("S", slots as i64), ("L", 1)]
    }

    /// Sizes the cache and, for decoding, runs the prompt.
    fn fill_cache(&mut self, args: &BenchArgs) -> Result<()> {
        let prompt = args.tokens as usize;
        // Room for the warm-up, every timed step, and the one whose kernels are timed.
        let steps = if args.work == Work::Decode { (args.repeat + WARM_ON_GPU + 1) as usize } else { 0 };
        let map = CacheMap::new(&[prompt + steps])?;
        let slots = map.slots() as i64;
        self.session.set_state_symbols(&[("S", slots)])?;
        self.session.zero_states()?;
        self.cache = Some(map);
        if args.work == Work::Decode {
            eprintln!("running the prompt of {prompt} tokens");
            let none = RunOptions { outputs: Some(Vec::new()), ..RunOptions::default() };
            self.run_tokens(PROMPT, prompt, &none)?;
        }
        Ok(())
    }

    /// Counts what a timed run computes and has to read.
    fn count(&mut self, args: &BenchArgs, name: &str, given: &[(&str, i64)]) -> Result<()> {
        let bundle = self.session.bundle().clone();
        let plan = bundle.plan(name).context("the bundle has the graph it was built from")?;
        let values = plan.symbols.iter().map(|s| given.iter().find(|(name, _)| *name == s.name).map_or(s.min, |g| g.1));
        let values: Vec<i64> = values.collect();
        let mut read: BTreeSet<u32> = BTreeSet::new();
        for step in &plan.steps {
            let Step::Call(call) = step else { continue };
            let kernel = &bundle.kernels[call.kernel as usize];
            let dynamics = call.dynamics.iter().map(|d| d.eval(&values)).collect::<Result<Vec<i64>, _>>()?;
            let mut first = 0;
            for (desc, own) in kernel.descs().zip(kernel.split_dynamics(&dynamics)) {
                self.flop += flops(desc, own).unwrap_or(0) as f64;
                if let Some(shape) = product(desc, own) {
                    *self.products.entry(shape).or_default() += 1;
                    // Only a product reads a weight whole; a table of embeddings gives a few rows.
                    let buffers = &call.buffers[first..first + desc.buffers.len()];
                    read.extend(buffers.iter().filter(|b| is_weight(&bundle, name, **b)));
                }
                first += desc.buffers.len();
            }
        }
        for buffer in read {
            self.read_bytes += plan.buffers[buffer as usize].bytes(&values)? as f64;
        }
        // A decoding step reads what is in the cache; a prefill writes it.
        if args.work == Work::Decode {
            let caches = plan.buffers.iter().filter(|b| matches!(b.kind, BufferKind::State(_)));
            let slots = self.cache.as_ref().map_or(1, CacheMap::slots) as f64;
            for cache in caches {
                self.read_bytes += cache.bytes(&values)? as f64 / slots * f64::from(args.tokens);
            }
        }
        Ok(())
    }
}

fn input_names(plan: &enel_bundle::Plan) -> impl Iterator<Item = &String> {
    plan.buffers.iter().filter_map(|buffer| match &buffer.kind {
        BufferKind::Input(name) => Some(name),
        _ => None,
    })
}

fn is_weight(bundle: &Bundle, plan: &str, buffer: u32) -> bool {
    let kind = bundle.plan(plan).map(|plan| &plan.buffers[buffer as usize].kind);
    kind.is_some_and(BufferKind::is_fixed)
}

/// Sizes of the product a Desc is, if it is one.
fn product(desc: &Desc, dynamics: &[i64]) -> Option<GemmShape> {
    let Body::Contract(body) = &desc.body else { return None };
    let size = |axes: &[Extent]| axes.iter().map(|e| e.value(dynamics).max(1) as usize).product::<usize>();
    Some(GemmShape { m: size(&body.batch) * size(&body.rows), n: size(&body.cols), k: size(&body.summed) })
}

/// Weights that are all cut from one tensor of noise, so that a model of any size takes no memory before it is bound.
pub(super) struct Noise {
    shapes: BTreeMap<String, (DType, Vec<usize>)>,
    matrix: Vec<u8>,
    vector: Vec<u8>,
    low: Vec<u8>,
}

impl Noise {
    fn new(graphs: &[Graph]) -> Noise {
        let mut shapes = BTreeMap::new();
        let (mut largest, mut longest, mut any_low) = (0, 0, false);
        for (graph, (id, name, kind)) in graphs.iter().flat_map(|graph| graph.inputs().map(move |input| (graph, input)))
        {
            // Of the states only those of a training step have a size, and its weights are among them.
            if kind == InputKind::Data || (kind == InputKind::State && !train::is_weight(name)) {
                continue;
            }
            let ty = graph.ty(id);
            let shape: Vec<usize> = ty.shape.iter().filter_map(|dim| dim.as_const()).map(|n| n as usize).collect();
            let n: usize = shape.iter().product();
            any_low |= ty.dtype == DType::BF16;
            if shape.len() >= 2 {
                largest = largest.max(n)
            } else {
                longest = longest.max(n)
            }
            shapes.insert(name.to_owned(), (ty.dtype, shape));
        }
        // About the spread of trained weights: sums of a thousand products stay near 1.
        let noise = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32 * 0.06 - 0.03;
        let matrix = (0..if any_low { 0 } else { largest }).flat_map(|i| noise(i).to_ne_bytes()).collect();
        let low =
            (0..if any_low { largest } else { 0 }).flat_map(|i| ((noise(i).to_bits() >> 16) as u16).to_ne_bytes());
        // Gains and variances must be positive.
        let vector = (0..longest).flat_map(|i| (1.0 + noise(i)).to_ne_bytes()).collect();
        Noise { shapes, matrix, vector, low: low.collect() }
    }
}

impl WeightSource for Noise {
    fn tensor(&self, name: &str) -> Option<WeightView<'_>> {
        let (dtype, shape) = self.shapes.get(name)?;
        let n: usize = shape.iter().product();
        let bytes = match (dtype, shape.len()) {
            (DType::BF16, _) => self.low.get(..2 * n)?,
            (_, 0 | 1) => self.vector.get(..4 * n)?,
            _ => self.matrix.get(..4 * n)?,
        };
        Some(WeightView { dtype: *dtype, shape, bytes })
    }
}
