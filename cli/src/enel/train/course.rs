//! How does a run go? From its newest checkpoint, or from the beginning, to its last step, and what it says meanwhile.
//!
//! Law: a log line is written before the next step begins, a checkpoint before the log is said to be kept; Ctrl-C is a
//! wish that is met after the step in hand.

use super::{TrainArgs, base};
use crate::device;
use crate::enel::interrupt::Answering;
use crate::enel::progress::Progress;
use crate::out;
use anyhow::{Result, bail};
use enel_runtime::Device;
use enel_train::config::Config;
use enel_train::log::{Line, Log, StepLine};
use enel_train::{Checkpoint, CheckpointError, Run, Trainer};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Steps whose mean speed is shown.
const SPEED_STEPS: usize = 20;
/// Dense bf16 and f32 rates of cards, in TFLOP/s, by what their names hold. **Source** NVIDIA's data sheets.
const PEAKS: [(&str, f64, f64); 4] =
    [("H200", 989.0, 67.0), ("H100", 989.0, 67.0), ("A100", 312.0, 19.5), ("L40S", 362.0, 91.6)];

/// Runs what the settings say.
///
/// # Errors
/// [`enel_train::TrainError`] with what to do; being stopped by Ctrl-C.
pub(super) fn run(args: &TrainArgs, config: Config) -> Result<()> {
    let base = base::open(&config.model)?;
    let run = Run::open(&config.run.out)?;
    let from = newest(&run, args, &config)?;
    let device_name = config.run.device.clone();
    let progress = Progress::spinner(format!("getting ready on {device_name}"));
    let mut device = String::new();
    let mut trainer = Trainer::new(base, config, &mut |graphs, front| {
        let opened = Device::open(&device_name)?;
        device = opened.name();
        let bundle = device::build(graphs, front, &device::targets(&opened))?;
        Ok(enel_runtime::Session::new(std::sync::Arc::new(bundle), opened)?)
    })?;
    if let Some(from) = &from {
        trainer.resume(from)?;
    }
    drop(progress);
    let log = Log::open(run.path(), trainer.step_count())?;
    tell_start(&trainer, &device, from.as_ref());
    let course = Course { args, run, log, device, newest: from.map(|from| from.path), speeds: Vec::new() };
    course.go(&mut trainer)
}

/// The checkpoint to go on from; those that cannot be read are told and passed over.
fn newest(run: &Run, args: &TrainArgs, config: &Config) -> Result<Option<Checkpoint>> {
    let Some((found, broken)) = run.newest()? else {
        if args.resume {
            bail!(CheckpointError::None { path: run.checkpoints() });
        }
        return Ok(None);
    };
    for fault in broken {
        eprintln!("passed over: {:#}", anyhow::Error::new(fault));
    }
    found.suits(config)?;
    let changed = found.changed(config);
    if !changed.is_empty() {
        eprintln!(
            "the settings of [{}] are not those the run began with; it goes on with the new ones",
            changed.join("], [")
        );
    }
    Ok(Some(found))
}

fn tell_start(trainer: &Trainer, device: &str, from: Option<&Checkpoint>) {
    let (samples, held_out, missing) = trainer.samples();
    let held_out = if held_out > 0 { format!(", {held_out} held out") } else { String::new() };
    eprintln!("{samples} samples{held_out}, {} steps on {device}", trainer.total());
    if !missing.is_empty() {
        let first = missing.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        eprintln!(
            "left out {} object(s) without a cloud: {first}{}",
            missing.len(),
            if missing.len() > 3 { ", .." } else { "" }
        );
    }
    if let Some(from) = from {
        eprintln!("goes on from {} after step {}", from.path.display(), from.place.step);
    }
}

/// A run under way.
struct Course<'a> {
    args: &'a TrainArgs,
    run: Run,
    log: Log,
    device: String,
    newest: Option<PathBuf>,
    /// Seconds and tokens of the last steps.
    speeds: Vec<(f64, u64)>,
}

impl Course<'_> {
    fn go(mut self, trainer: &mut Trainer) -> Result<()> {
        let listening = Answering::begin();
        let (begin, total) = (trainer.step_count(), trainer.total());
        let progress = Progress::count("training", total);
        let mut last: Option<StepLine> = None;
        let mut held_out = None;
        while trainer.step_count() < total {
            let line = trainer.step()?;
            for fault in trainer.left_out() {
                progress.talk(&format!("left out: {:#}", anyhow::Error::new(fault)));
            }
            let step = line.step;
            self.log.write(&Line::Step(line.clone()))?;
            progress.at(step);
            progress.say(self.words(trainer, &line));
            let is_last = step == total;
            let is_stopped = listening.is_stopped() || self.args.stop_after.is_some_and(|n| step >= begin + n);
            let every = trainer.config().held_out.as_ref().map(|held_out| held_out.every);
            if every.is_some_and(|every| step.is_multiple_of(every) || is_last)
                && let Some(looked) = trainer.held_out()?
            {
                progress.talk(&format!("step {step}: loss {:.4}, held out {:.4}", line.loss, looked.held_out_loss));
                held_out = Some(looked.held_out_loss);
                self.log.write(&Line::HeldOut(looked))?;
            }
            if step.is_multiple_of(trainer.config().run.save_every) || is_last || is_stopped {
                self.log.sync()?;
                let path = trainer.save(&self.run)?;
                progress.talk(&format!("step {step}: loss {:.4}, saved {}", line.loss, path.display()));
                self.newest = Some(path);
            }
            last = Some(line);
            if is_stopped && !is_last {
                drop(progress);
                bail!("stopped after step {step} of {total}, which is saved; go on by: {}", self.again());
            }
        }
        drop(progress);
        self.finish(trainer, last.as_ref(), held_out)
    }

    /// What the moving line says: loss, speed, time left, and the part of the card's rate where that is known.
    fn words(&mut self, trainer: &Trainer, line: &StepLine) -> String {
        self.speeds.push((line.seconds, line.tokens));
        if self.speeds.len() > SPEED_STEPS {
            self.speeds.remove(0);
        }
        let seconds: f64 = self.speeds.iter().map(|(seconds, _)| seconds).sum();
        let tokens: u64 = self.speeds.iter().map(|(_, tokens)| tokens).sum();
        let per_step = seconds / self.speeds.len() as f64;
        let left = Duration::from_secs_f64((trainer.total() - line.step) as f64 * per_step);
        let mfu = self.utilisation(trainer, line).map_or(String::new(), |part| format!(", MFU {:.1} %", part * 100.0));
        format!("loss {:.4}, {:.0} tokens/s, {} left{mfu}", line.loss, tokens as f64 / seconds, clock(left))
    }

    fn utilisation(&self, trainer: &Trainer, line: &StepLine) -> Option<f64> {
        let (_, bf16, f32) = PEAKS.iter().find(|(name, ..)| self.device.contains(name))?;
        let peak = match trainer.config().run.mode {
            enel_train::config::ModeConfig::Bf16 => bf16,
            enel_train::config::ModeConfig::F32 => f32,
        };
        Some(trainer.last_flop() as f64 / line.seconds / (peak * 1e12))
    }

    fn again(&self) -> String {
        let what = match (&self.args.config, &self.args.preset) {
            (Some(path), _) => path.display().to_string(),
            (None, preset) => format!("--preset {}", preset.as_deref().unwrap_or_default()),
        };
        format!("enel train {what} --out {} --resume", self.run.path().display())
    }

    fn finish(self, trainer: &Trainer, last: Option<&StepLine>, held_out: Option<f64>) -> Result<()> {
        let path = self.newest.as_deref().unwrap_or(Path::new("")).display().to_string();
        if self.args.json {
            return out::json(&json!({
                "steps": trainer.step_count(), "loss": last.map(|line| line.loss), "held_out_loss": held_out,
                "checkpoint": path, "log": self.run.path().join(enel_train::log::LOG), "device": self.device,
            }));
        }
        match last {
            None => eprintln!("nothing is left to do: all {} steps are done", trainer.total()),
            Some(line) => eprintln!("{} steps are done, the last loss is {:.4}", line.step, line.loss),
        }
        crate::outln!("{path}")
    }
}

/// Hours, minutes and seconds, as far as there are any.
fn clock(left: Duration) -> String {
    let seconds = left.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}
