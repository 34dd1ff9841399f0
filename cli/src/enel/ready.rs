//! How does a model get ready to answer? Opened, compiled for its device and bound, with a word on stderr about each.

use super::cloud::{CloudReport, ReadingArgs};
use super::decode::{Decoding, Start};
use super::engine::Engine;
use super::flags::ModelArgs;
use super::model::Model;
use super::progress::Progress;
use crate::source::{self, MAX_SCORED};
use anyhow::{Result, bail};
use enel_ir::{DType, Graph};
use enel_model::{Prompt, pack};
use enel_passes::Mode;
use enel_runtime::HostTensor;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

/// Channels of a prepared point: x, y, z, red, green, blue.
const PREPARED_CHANNELS: usize = 6;

/// What a command asks a model about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Text alone.
    Text,
    /// A cloud.
    Cloud,
}

/// A model that can be asked.
#[derive(Debug)]
pub struct Ready {
    /// The model; its weights are on the device.
    pub model: Model,
    /// Its graphs.
    pub engine: Engine,
    /// How the device calls itself.
    pub device: String,
    load_ms: f64,
    compile_ms: f64,
}

/// A cloud as a model takes it.
#[derive(Clone, Debug)]
pub struct ReadyCloud {
    /// `[1, points, channels]`.
    pub points: HostTensor,
    /// What became of the file's points.
    pub report: CloudReport,
}

impl Ready {
    /// Opens a model, which must be able to do what is asked, but compiles nothing yet; see [`Opened::compile`].
    ///
    /// # Errors
    /// Names the file that cannot be used, or says that the model reads text alone.
    pub fn open(args: &ModelArgs, about: About, points: Option<usize>) -> Result<Opened> {
        let clock = Instant::now();
        let model = Model::open(&args.model, points)?;
        if about == About::Cloud {
            model.clouds()?;
        }
        if model.is_random() {
            eprintln!("model `{}` has random, untrained weights: the text below is noise", model.name);
        }
        Ok(Opened { model, about, load_ms: ms(clock) })
    }

    /// How long it took to load and to compile, in milliseconds.
    pub fn timings(&self) -> (f64, f64) {
        (self.load_ms, self.compile_ms)
    }

    /// What every report says of the model.
    pub fn facts(&self) -> Value {
        json!({ "model": self.model.name, "random_weights": self.model.is_random(), "device": self.device })
    }

    /// An empty cache for one sample of up to `capacity` tokens, and the model beside it.
    ///
    /// # Errors
    /// A capacity beyond what the graphs take, memory.
    pub fn sample(&mut self, capacity: usize) -> Result<(Sample<'_>, &Model)> {
        let decoding = Decoding::new(&mut self.engine, &[capacity])?;
        Ok((Sample { decoding }, &self.model))
    }
}

/// A model that is open and not compiled: what needs no device can be checked first.
#[derive(Debug)]
pub struct Opened {
    /// The model.
    pub model: Model,
    about: About,
    load_ms: f64,
}

impl Opened {
    /// Compiles the model for its device and binds its weights.
    ///
    /// # Errors
    /// Weights that do not fit, a device that cannot be opened, what compiling reports.
    pub fn compile(self, args: &ModelArgs) -> Result<Ready> {
        let Opened { mut model, about, load_ms } = self;
        let clock = Instant::now();
        let mode = args.mode.into();
        let graphs = graphs(&model, mode, about)?;
        let graphs: Vec<&Graph> = graphs.iter().collect();
        let weights = model.weights(&graphs)?;
        let progress = Progress::spinner(format!("compiling for {}", args.device));
        let mut engine = Engine::open(&graphs, mode, &args.device)?;
        progress.say("binding weights");
        engine.bind(weights.as_ref())?;
        drop(weights);
        model.close_weights();
        drop(progress);
        let device = engine.device_name();
        let compile_ms = ms(clock);
        eprintln!("compiled and bound for {device} in {compile_ms:.0} ms");
        Ok(Ready { model, engine, device, load_ms, compile_ms })
    }
}

/// One conversation in the cache.
#[derive(Debug)]
pub struct Sample<'e> {
    decoding: Decoding<'e>,
}

impl Sample<'_> {
    /// Runs a prompt from the beginning; gives the scores of the next token.
    ///
    /// # Errors
    /// A prompt whose patch tokens do not suit the cloud, a full cache, what the device reports.
    pub fn start(&mut self, model: &Model, ids: &[i32], cloud: Option<&ReadyCloud>) -> Result<Vec<f32>> {
        let clouds = usize::from(cloud.is_some());
        let packed = pack(&[Prompt { ids, clouds }], &model.vocabulary)?;
        match cloud {
            Some(cloud) => {
                let start = Start { packed: &packed, point_row: &packed.point_row, points: &cloud.points };
                self.decoding.start(&start)
            }
            None => {
                self.decoding.truncate(0, 0)?;
                self.decoding.extend(0, ids)
            }
        }
    }

    /// Runs more tokens; gives the scores of the next one.
    ///
    /// # Errors
    /// A full cache, what the device reports.
    pub fn extend(&mut self, ids: &[i32]) -> Result<Vec<f32>> {
        self.decoding.extend(0, ids)
    }

    /// Runs more tokens; gives the scores of what follows each, one after the other.
    ///
    /// # Errors
    /// More than [`MAX_SCORED`] tokens, a full cache, what the device reports.
    pub fn extend_scored(&mut self, ids: &[i32]) -> Result<Vec<f32>> {
        if ids.len() > MAX_SCORED {
            bail!("{} tokens are more than can be scored at once, {MAX_SCORED}", ids.len());
        }
        self.decoding.extend_scored(0, ids)
    }

    /// Keeps the first `length` tokens only.
    ///
    /// # Errors
    /// None in practice: there is one sample.
    pub fn truncate(&mut self, length: usize) -> Result<()> {
        self.decoding.truncate(0, length)
    }
}

/// Reads a cloud and makes it what the model takes.
///
/// # Errors
/// Names the file that cannot be used.
pub fn read_cloud(path: &Path, reading: &ReadingArgs, model: &Model) -> Result<ReadyCloud> {
    let config = &model.clouds()?.config.point;
    let channels = config.point_dims;
    if channels > PREPARED_CHANNELS {
        bail!("the model reads {channels} channels of a point, a cloud has {PREPARED_CHANNELS}");
    }
    let (prepared, report) = reading.prepare(path, config.n_points)?;
    let rows = prepared.points.chunks_exact(PREPARED_CHANNELS);
    let bytes = rows.flat_map(|row| &row[..channels]).flat_map(|value| value.to_ne_bytes()).collect();
    let shape = [1, prepared.report.n_points, channels];
    Ok(ReadyCloud { points: HostTensor::new(DType::F32, &shape, bytes)?, report })
}

/// Milliseconds since then.
pub fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Prompts with clouds, where clouds are asked about, and tokens alone.
fn graphs(model: &Model, mode: Mode, about: About) -> Result<Vec<Graph>> {
    let mut graphs = Vec::new();
    if about == About::Cloud {
        graphs.push(source::prefill(&model.clouds()?.config, mode)?);
    }
    graphs.extend([source::step(&model.llama, mode)?, source::decode(&model.llama, mode)?]);
    Ok(graphs)
}
