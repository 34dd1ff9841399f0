//! Which tensors does a checkpoint hold, and how do they come from the device and go back?
//!
//! Law: one tensor at a time is on the host. States are written exactly as the device has them, weights that learn as
//! f32; fixed ones as they began.

use super::{Checkpoint, CheckpointError, SaveError};
use crate::config::Config;
use crate::start::{Shapes, Start};
use crate::steps::{Graphs, is_factor};
use enel_io::{
    Dtype, SourceTensor, TensorSource, TensorView, WeightsError, WriteConfig, write_atomic, write_model,
    write_safetensors,
};
use enel_ir::DType;
use enel_model::train::Adapters;
use enel_runtime::{HostTensor, RunError, Session, WeightSource};
use serde_json::json;
use std::borrow::Cow;
use std::cell::RefCell;
use std::path::Path;

/// How PEFT begins the names of adapters of a causal model.
const PEFT: &str = "base_model.model.";

/// Which tensors of a run are where.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// All weights of the model, factors included.
    pub(crate) shapes: Shapes,
    /// Those that are states, running statistics included.
    pub(crate) states: Vec<String>,
    /// The optimizer's states.
    pub(crate) optimizer: Vec<String>,
    /// Counts of calls.
    pub(crate) counts: Vec<String>,
    /// Factors, where there are any.
    pub(crate) adapters: Option<Adapters>,
}

impl Kept {
    pub(crate) fn new(graphs: &Graphs, adapters: Option<Adapters>) -> Kept {
        let (shapes, states) = (graphs.shapes(), graphs.model_states());
        Kept { shapes, states, optimizer: graphs.optimizer_states(), counts: graphs.counts(), adapters }
    }

    /// Puts the states of a run that begins on the device: weights as they start, means zero.
    pub(crate) fn begin(&self, session: &mut Session, start: &Start) -> Result<(), RunError> {
        for name in &self.states {
            let value = start.wide(name).unwrap_or_else(|| unreachable!("every weight of the graphs has a start"));
            session.state(name)?.write(&value)?;
        }
        self.count(session, 0)
    }

    /// Puts the states of a checkpoint on the device.
    pub(crate) fn restore(&self, session: &mut Session, from: &Checkpoint) -> Result<(), CheckpointError> {
        let [model, optimizer] = from.tensors()?;
        let mut faults = Vec::new();
        let states = self.states.iter().map(|name| (if is_factor(name) { &optimizer } else { &model }, name));
        let all = states.chain(self.optimizer.iter().map(|name| (&optimizer, name)));
        for (weights, name) in all {
            let mut state = session.state(name)?;
            let wanted = state.shape().to_vec();
            let dtype = written(state.dtype());
            match weights.view_shaped(name, &wanted) {
                Ok(view) if view.dtype == dtype => {
                    let Ok(value) = HostTensor::new(state.dtype(), &wanted, view.bytes.to_vec()) else { continue };
                    state.write(&value)?;
                }
                Ok(view) => faults.push(format!("tensor `{name}` is {:?}, expected {dtype:?}", view.dtype)),
                Err(fault) => faults.push(fault.to_string()),
            }
        }
        if !faults.is_empty() {
            return Err(CheckpointError::Misfit { path: from.path.clone(), faults });
        }
        self.count(session, from.place.calls)?;
        Ok(())
    }

    fn count(&self, session: &mut Session, calls: u64) -> Result<(), RunError> {
        for name in &self.counts {
            let mut state = session.state(name)?;
            if state.dtype() == DType::I64
                && let Ok(value) = HostTensor::from_i64(&[], &[calls as i64])
            {
                state.write(&value)?;
            }
        }
        Ok(())
    }
}

/// The tensors of a run now.
#[derive(Debug)]
pub(crate) struct Saved<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) start: &'a Start,
    pub(crate) kept: &'a Kept,
}

impl Saved<'_> {
    pub(crate) fn has_adapters(&self) -> bool {
        self.kept.adapters.is_some()
    }

    /// The whole model, factors merged into their matrices.
    pub(crate) fn write_model(&mut self, dir: &Path) -> Result<(), SaveError> {
        let Saved { session, start, kept } = self;
        let source = ModelTensors { states: States::new(session), start, kept };
        let written = write_model(dir, &source, &WriteConfig::default(), &mut |_| {});
        finish(source.states, written)
    }

    pub(crate) fn write_optimizer(&mut self, dir: &Path) -> Result<(), SaveError> {
        let factors = self.kept.states.iter().filter(|name| is_factor(name));
        let names: Vec<&str> = self.kept.optimizer.iter().chain(factors).map(String::as_str).collect();
        let states = States::new(self.session);
        let source = StateTensors { names: &names, states: &states };
        let written = write_model(dir, &source, &WriteConfig::default(), &mut |_| {});
        finish(states, written)
    }

    /// Factors alone, in the layout of PEFT 0.4 and later.
    pub(crate) fn write_adapter(&mut self, dir: &Path, config: &Config) -> Result<(), SaveError> {
        let mut tensors = Vec::new();
        for name in self.kept.states.iter().filter(|name| is_factor(name)) {
            tensors.push((format!("{PEFT}{name}"), self.session.state(name)?.read()?));
        }
        let view = |tensor| -> TensorView<'_> {
            let tensor: &HostTensor = tensor;
            TensorView { dtype: Dtype::F32, shape: tensor.shape(), bytes: tensor.bytes() }
        };
        let views = tensors.iter().map(|(name, tensor)| (name.as_str(), view(tensor)));
        write_safetensors(&dir.join("adapter_model.safetensors"), views)?;
        let mut modules: Vec<&str> = Vec::new();
        for (name, _) in &tensors {
            let module = name.rsplit_once(".lora_").and_then(|(module, _)| module.rsplit_once('.'));
            modules.extend(module.map(|(_, last)| last).filter(|last| !modules.contains(last)));
        }
        let Some(adapters) = &self.kept.adapters else { return Ok(()) };
        let value = json!({
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": config.model.start,
            "r": adapters.rank, "lora_alpha": adapters.alpha, "lora_dropout": 0.0, "bias": "none",
            "fan_in_fan_out": false, "target_modules": modules, "inference_mode": true,
        });
        write_atomic(&dir.join("adapter_config.json"), |out| writeln!(out, "{value:#}"))?;
        Ok(())
    }
}

/// A fault of the device, which the writer of tensors cannot tell, comes before one of the file.
fn finish(states: States<'_>, written: Result<(), WeightsError>) -> Result<(), SaveError> {
    match states.fault.into_inner() {
        Some(fault) => Err(fault.into()),
        None => Ok(written?),
    }
}

/// States read one at a time.
struct States<'s> {
    session: RefCell<&'s mut Session>,
    fault: RefCell<Option<RunError>>,
}

impl<'s> States<'s> {
    fn new(session: &'s mut Session) -> States<'s> {
        States { session: RefCell::new(session), fault: RefCell::new(None) }
    }

    fn read(&self, name: &str) -> Option<HostTensor> {
        match self.session.borrow_mut().state(name).and_then(|mut state| state.read()) {
            Ok(value) => Some(value),
            Err(fault) => {
                self.fault.borrow_mut().get_or_insert(fault);
                None
            }
        }
    }

    fn tensor(&self, name: &str) -> Option<SourceTensor> {
        let mut session = self.session.borrow_mut();
        let state = session.state(name).ok()?;
        Some(SourceTensor { name: name.to_owned(), dtype: written(state.dtype()), shape: state.shape().to_vec() })
    }
}

struct StateTensors<'a, 's> {
    names: &'a [&'a str],
    states: &'a States<'s>,
}

impl TensorSource for StateTensors<'_, '_> {
    fn list(&self) -> Vec<SourceTensor> {
        self.names.iter().filter_map(|name| self.states.tensor(name)).collect()
    }

    fn bytes(&self, name: &str, _dtype: Dtype) -> Option<Cow<'_, [u8]>> {
        Some(Cow::Owned(self.states.read(name)?.into_bytes()))
    }
}

struct ModelTensors<'a, 's> {
    states: States<'s>,
    start: &'a Start,
    kept: &'a Kept,
}

impl TensorSource for ModelTensors<'_, '_> {
    fn list(&self) -> Vec<SourceTensor> {
        let fixed = |name: &String, shape: &Vec<usize>| {
            let dtype = written(self.start.tensor(name)?.dtype);
            Some(SourceTensor { name: name.clone(), dtype, shape: shape.clone() })
        };
        let mut list: Vec<SourceTensor> = Vec::new();
        for (name, shape) in self.kept.shapes.iter().filter(|(name, _)| !is_factor(name)) {
            list.extend(if self.kept.states.contains(name) { self.states.tensor(name) } else { fixed(name, shape) });
        }
        list.extend(self.kept.counts.iter().filter_map(|name| self.states.tensor(name)));
        list
    }

    fn bytes(&self, name: &str, dtype: Dtype) -> Option<Cow<'_, [u8]>> {
        let is_state = |list: &[String]| list.iter().any(|known| known == name);
        if is_state(&self.kept.states) || is_state(&self.kept.counts) {
            return Some(Cow::Owned(self.states.read(name)?.into_bytes()));
        }
        let factors = self.kept.adapters.as_ref().and_then(|adapters| Some((adapters.scale(), adapters.of(name)?)));
        match factors {
            Some((scale, [a, b])) if self.kept.states.contains(&a) => {
                let values = merged(&self.start.wide(name)?, (&self.states.read(&a)?, &self.states.read(&b)?), scale)?;
                narrowed(&values, dtype).map(Cow::Owned)
            }
            _ => Some(Cow::Borrowed(self.start.tensor(name)?.bytes)),
        }
    }
}

/// What a file calls the type of a tensor.
fn written(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::BF16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::U32 => Dtype::U32,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}

/// `W + scale B A`, summed in f64.
fn merged(matrix: &HostTensor, (a, b): (&HostTensor, &HostTensor), scale: f64) -> Option<Vec<f32>> {
    let (&[out, inner], &[rank, _]) = (matrix.shape(), a.shape()) else { return None };
    let (w, a, b) = (matrix.to_f32()?, a.to_f32()?, b.to_f32()?);
    let mut values = Vec::with_capacity(w.len());
    let mut row = vec![0.0f64; inner];
    for o in 0..out {
        row.fill(0.0);
        for r in 0..rank {
            let factor = f64::from(b[o * rank + r]);
            row.iter_mut().zip(&a[r * inner..]).for_each(|(sum, &x)| *sum += factor * f64::from(x));
        }
        let own = &w[o * inner..(o + 1) * inner];
        values.extend(own.iter().zip(&row).map(|(&w, sum)| (f64::from(w) + scale * sum) as f32));
    }
    Some(values)
}

fn narrowed(values: &[f32], dtype: Dtype) -> Option<Vec<u8>> {
    match dtype {
        Dtype::F32 => Some(values.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Dtype::BF16 => Some(values.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect()),
        Dtype::F16 => Some(values.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect()),
        _ => None,
    }
}
