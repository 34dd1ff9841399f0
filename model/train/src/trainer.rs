//! How does a model get better? Step after step: samples are drawn, calls add derivatives up, a step applies them.
//!
//! Law: a step is a function of the weights, the means of the optimizer, the seed and its number; nothing else lasts
//! from one to the next. A step with a number that is none changes nothing on disk.

use crate::base::Base;
use crate::batch::{Call, Purpose, call};
use crate::checkpoint::{self, Checkpoint, CheckpointError, Kept, Run, Saved};
use crate::config::{Config, MAX_STEPS, MeanConfig, Policy};
use crate::data::{Reader, Ready, Set};
use crate::error::{DataError, TrainError};
use crate::feed::{Feed, Supply};
use crate::log::{HeldOutLine, StepLine};
use crate::memory::plan_flop;
use crate::order::Order;
use crate::start::Start;
use crate::steps::{self, Graphs, Opener};
use enel_model::names;
use enel_model::train::{Objective, TrainConfig};
use enel_runtime::{HostTensor, HostTensors, Session};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Samples that are read ahead at most: 50 MB of clouds of the released size, 8192 points of six f32.
const MAX_AHEAD: u64 = 256;

/// A model that is being trained.
#[derive(Debug)]
pub struct Trainer {
    supply: Supply,
    /// Samples that are read ahead.
    feed: Option<Feed>,
    config: Config,
    train: TrainConfig,
    held_out: Option<Set>,
    start: Start,
    kept: Kept,
    session: Session,
    total: u64,
    step: u64,
    /// Samples that were seen, over all epochs.
    position: u64,
    calls: u64,
    history: [u8; 32],
    left_out: Vec<DataError>,
    last_flop: u64,
}

impl Trainer {
    /// Reads the data, compiles the graphs and puts a model at its start on the device.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn new(base: Base, config: Config, open: Opener<'_>) -> Result<Trainer, TrainError> {
        let (set, held_out) = Set::load(&config)?;
        let total = total_steps(&config, set.samples.len());
        if total > MAX_STEPS {
            return Err(TrainError::Steps { total });
        }
        let train = base.train_config(&config)?;
        let graphs = Graphs::build(&base, &train, &config, total)?;
        let kept = Kept::new(&graphs, train.trainable.adapters.clone());
        let start = Start::open(&base.source, &kept.shapes, config.run.seed)?;
        let reader = Reader::new(&base, &config)?;
        let mut session = open(&graphs.list(), &steps::front(config.run.mode, config.batch.temporaries_gb))
            .map_err(TrainError::Open)?;
        drop(graphs);
        session.bind(&start)?;
        kept.begin(&mut session, &start).map_err(steps::at(0))?;
        Ok(Trainer {
            supply: Supply { base: Arc::new(base), set: Arc::new(set), reader: Arc::new(reader) },
            feed: None,
            config,
            train,
            held_out,
            start,
            kept,
            session,
            total,
            step: 0,
            position: 0,
            calls: 0,
            history: [0; 32],
            left_out: Vec::new(),
            last_flop: 0,
        })
    }

    /// Goes on from a checkpoint.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] when it does not suit the settings or the model.
    pub fn resume(&mut self, from: &Checkpoint) -> Result<(), TrainError> {
        from.suits(&self.config)?;
        self.kept.restore(&mut self.session, from)?;
        self.step = from.place.step;
        self.position = from.place.position;
        self.calls = from.place.calls;
        let digit = |at: usize| from.place.history.get(2 * at..2 * at + 2);
        self.history = std::array::from_fn(|at| digit(at).and_then(|d| u8::from_str_radix(d, 16).ok()).unwrap_or(0));
        Ok(())
    }

    /// The model.
    pub fn base(&self) -> &Base {
        &self.supply.base
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The device, with everything that lasts.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Steps that are done.
    pub fn step_count(&self) -> u64 {
        self.step
    }

    /// Steps in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Samples that are learned from, those held out, and objects whose clouds are missing.
    pub fn samples(&self) -> (usize, usize, &[String]) {
        let held_out = self.held_out.as_ref().map_or(0, |set| set.samples.len());
        (self.supply.set.samples.len(), held_out, &self.supply.set.left_out)
    }

    /// Samples that were left out since the last call, and why.
    pub fn left_out(&mut self) -> Vec<DataError> {
        std::mem::take(&mut self.left_out)
    }

    /// Floating-point operations of the last step's calls.
    pub fn last_flop(&self) -> u64 {
        self.last_flop
    }

    /// One step.
    ///
    /// # Errors
    /// [`TrainError::Data`], [`TrainError::Run`], [`TrainError::NotFinite`].
    pub fn step(&mut self) -> Result<StepLine, TrainError> {
        let clock = Instant::now();
        let number = self.step + 1;
        let calls = self.step_calls()?;
        let shares = shares(&calls, self.config.batch.mean);
        let mut sums: BTreeMap<String, f64> = BTreeMap::new();
        for (call, share) in calls.iter().zip(&shares) {
            let inputs = call.with_shares(&self.train.objective, *share);
            let outputs =
                steps::run(&mut self.session, steps::MICRO, &call.symbols, &inputs).map_err(steps::at(number))?;
            for (name, value) in scalars(&outputs) {
                // The loss is weighted by the graph, its terms are not.
                let part = match name {
                    names::LOSS => 1.0,
                    names::LOSS_CE => share.0,
                    _ => share.1,
                };
                *sums.entry(name.to_owned()).or_default() += part * value;
            }
        }
        let loss = sums.remove(names::LOSS).unwrap_or(f64::NAN);
        finite(number, "loss", loss)?;
        let applied =
            steps::run(&mut self.session, steps::APPLY, &[], &HostTensors::new()).map_err(steps::at(number))?;
        let applied: BTreeMap<&str, f64> = scalars(&applied).collect();
        let of = |name: &str| applied.get(name).copied().unwrap_or(f64::NAN);
        let (grad_norm, learning_rate) = (of(names::GRAD_NORM), of(names::LEARNING_RATE));
        finite(number, "length of the derivatives", grad_norm)?;
        self.step = number;
        self.position += self.step_samples();
        self.calls += calls.len() as u64;
        let bundle = self.session.bundle();
        self.last_flop = calls.iter().map(|call| plan_flop(bundle, steps::MICRO, &call.symbols)).sum();
        let mut hash = Sha256::new();
        hash.update(self.history);
        hash.update(loss.to_bits().to_le_bytes());
        hash.update(grad_norm.to_bits().to_le_bytes());
        self.history = hash.finalize().into();
        Ok(StepLine {
            step: number,
            epoch: self.position as f64 / self.supply.set.samples.len().max(1) as f64,
            loss,
            terms: sums,
            grad_norm,
            learning_rate,
            tokens: calls.iter().map(|c| c.n_tokens as u64).sum(),
            labels: calls.iter().map(|c| c.n_labels as u64).sum(),
            seconds: clock.elapsed().as_secs_f64(),
        })
    }

    /// Mean cross-entropy of held-out answers, where samples are held out.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn held_out(&mut self) -> Result<Option<HeldOutLine>, TrainError> {
        let Some(set) = &self.held_out else { return Ok(None) };
        let objective = Objective::cross_entropy();
        let (mut sum, mut n_labels) = (0.0, 0);
        for samples in set.samples.chunks(self.config.batch.size) {
            let mut ready = Vec::with_capacity(samples.len());
            for sample in samples {
                match self.supply.reader.ready(&self.supply.base, sample) {
                    Ok(made) => ready.push((sample.object.as_str(), made)),
                    Err(fault) => leave_out(&mut self.left_out, fault, self.config.data.corrupt)?,
                }
            }
            if !ready.iter().any(|(_, ready)| ready.points.is_some()) {
                continue;
            }
            let purpose =
                Purpose { objective: &objective, shift: 0.0, seed: self.config.run.seed, step: 0, first_cloud: 0 };
            let call = call(&self.supply.base, &ready, &purpose)?;
            let inputs = call.with_shares(&objective, (1.0, 1.0));
            let outputs =
                steps::run(&mut self.session, steps::HELD_OUT, &call.symbols, &inputs).map_err(steps::at(self.step))?;
            let ce = scalars(&outputs).find(|(name, _)| *name == names::LOSS_CE).map_or(f64::NAN, |(_, value)| value);
            sum += ce * call.n_labels as f64;
            n_labels += call.n_labels;
        }
        let held_out_loss = sum / n_labels as f64;
        finite(self.step, "held-out loss", held_out_loss)?;
        Ok(Some(HeldOutLine { step: self.step, held_out_loss }))
    }

    /// Saves a checkpoint into a run's folder and removes old ones.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`]; the checkpoints before are as they were.
    pub fn save(&mut self, run: &Run) -> Result<std::path::PathBuf, TrainError> {
        let path = run.checkpoint(self.step);
        let before = run.saved()?.into_iter().rfind(|&step| step < self.step);
        if path.exists() {
            match Checkpoint::open(&path) {
                Ok(_) => return Ok(path),
                // One that was passed over gives way.
                Err(_) => run.remove(self.step)?,
            }
        }
        let counts = (self.position, self.calls);
        let place = checkpoint::place(&self.config, (self.step, self.total), counts, &self.history);
        let mut saved = Saved { session: &mut self.session, start: &self.start, kept: &self.kept };
        let failed = |source| CheckpointError::Save { path: path.clone(), before, source: Box::new(source) };
        checkpoint::save(&path, &self.supply.base, &place, &mut saved).map_err(failed)?;
        run.prune(self.step, self.config.run.keep)?;
        Ok(path)
    }

    /// Samples of a step.
    fn step_samples(&self) -> u64 {
        (self.config.batch.size * self.config.batch.accumulation) as u64
    }

    /// The calls of the next step; one whose samples were all left out is none.
    fn step_calls(&mut self) -> Result<Vec<Call>, TrainError> {
        let size = self.config.batch.size;
        let first = self.position;
        let last = first + self.step_samples() - 1;
        let mut calls = Vec::with_capacity(self.config.batch.accumulation);
        let mut first_cloud = 0;
        let read_ahead = self.feed.take().filter(|feed| feed.is_at(first));
        let mut feed = read_ahead.unwrap_or_else(|| self.read_ahead());
        for _ in 0..self.config.batch.accumulation {
            let mut ready: Vec<(&str, Ready)> = Vec::with_capacity(size);
            for (at, made) in feed.by_ref().take(size) {
                match made {
                    Ok(made) => ready.push((&self.supply.set.samples[at].object, made)),
                    Err(fault) => leave_out(&mut self.left_out, fault, self.config.data.corrupt)?,
                }
            }
            if ready.is_empty() {
                continue;
            }
            if !ready.iter().any(|(_, ready)| ready.points.is_some()) {
                return Err(DataError::Without { first, last, what: "cloud" }.into());
            }
            let shift = self.config.objective.contrast.as_ref().map_or(0.0, |views| views.shift);
            let (seed, step) = (self.config.run.seed, self.step);
            let purpose = Purpose { objective: &self.train.objective, shift, seed, step, first_cloud };
            let made = call(&self.supply.base, &ready, &purpose)?;
            first_cloud += made.n_clouds as u32;
            calls.push(made);
        }
        if calls.is_empty() {
            return Err(DataError::Without { first, last, what: "answer" }.into());
        }
        self.feed = Some(feed);
        Ok(calls)
    }

    /// Begins to read from the next step to the last: the samples of a step while the one before is computed.
    fn read_ahead(&self) -> Feed {
        let order = Order::new(self.config.run.seed, self.supply.set.samples.len());
        let (n_steps, n_samples) = (self.total.saturating_sub(self.step).max(1), self.step_samples());
        let last = self.position.saturating_add(n_steps.saturating_mul(n_samples));
        Feed::begin(self.supply.clone(), order, self.position..last, n_samples.min(MAX_AHEAD) as usize)
    }
}

/// A cloud that cannot be used stops the run or is left out, as the settings say; a conversation without an answer is
/// always left out, as the released code leaves it; other faults always stop the run.
fn leave_out(list: &mut Vec<DataError>, fault: DataError, policy: Policy) -> Result<(), DataError> {
    match (&fault, policy) {
        (DataError::NoAnswer { .. }, _) | (DataError::Cloud { .. } | DataError::Prepare { .. }, Policy::Skip) => {
            list.push(fault);
            Ok(())
        }
        _ => Err(fault),
    }
}

/// Steps of a run.
pub fn total_steps(config: &Config, n_samples: usize) -> u64 {
    let per_step = (config.batch.size * config.batch.accumulation).max(1);
    let by_epochs = (config.run.epochs * n_samples as f64 / per_step as f64).ceil().max(1.0) as u64;
    config.run.steps.unwrap_or(by_epochs)
}

/// What each call counts in its step: its part of the labels, and of the clouds.
fn shares(calls: &[Call], mean: MeanConfig) -> Vec<(f64, f64)> {
    let total = |count: fn(&Call) -> usize| calls.iter().map(count).sum::<usize>().max(1) as f64;
    let (labels, clouds, n) = (total(|c| c.n_labels), total(|c| c.n_clouds), calls.len() as f64);
    let share = |call: &Call| match mean {
        MeanConfig::Tokens => (call.n_labels as f64 / labels, call.n_clouds as f64 / clouds),
        MeanConfig::Calls => (1.0 / n, 1.0 / n),
    };
    calls.iter().map(share).collect()
}

/// Outputs that are one number.
fn scalars(outputs: &HostTensors) -> impl Iterator<Item = (&str, f64)> {
    let first = |tensor: &HostTensor| tensor.to_f32()?.first().map(|&value| f64::from(value));
    outputs.iter().filter_map(move |(name, tensor)| Some((name.as_str(), first(tensor)?)))
}

fn finite(step: u64, what: &'static str, value: f64) -> Result<(), TrainError> {
    if value.is_finite() { Ok(()) } else { Err(TrainError::NotFinite { step, what, value }) }
}
