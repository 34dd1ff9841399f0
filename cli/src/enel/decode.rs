//! How do tokens come one after the other? Prompts into the cache, then one token of every sample a step.
//!
//! Law: nothing here chooses tokens; callers look at the scores and say what follows.

use super::engine::{Engine, indices};
use anyhow::{Context, Result};
use enel_model::{CacheMap, CachedRows, Packed, names};
use enel_runtime::{HostTensor, HostTensors};

/// Name of the graph that takes prompts and clouds.
const PREFILL: &str = "prefill";
/// Name of the graph that takes one token of every sample.
const STEP: &str = "step";

/// Prompts and their clouds.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The prompts, laid out.
    pub packed: &'a Packed,
    /// Token each point token replaces; those of clouds no prompt speaks of lie outside the tokens.
    pub point_row: &'a [i32],
    /// `[clouds, points, channels]`.
    pub points: &'a HostTensor,
    /// Cache rows of each sample.
    pub capacity: usize,
}

/// Samples under way.
#[derive(Debug)]
pub struct Decoding<'e> {
    engine: &'e mut Engine,
    map: CacheMap,
    n_samples: usize,
}

impl<'e> Decoding<'e> {
    /// Runs the prompts; gives the scores of each sample's next token, sample after sample.
    ///
    /// # Errors
    /// More tokens than the cache or the graph takes, what the device reports.
    pub fn start(engine: &'e mut Engine, start: &Start<'_>) -> Result<(Decoding<'e>, Vec<f32>)> {
        let Start { packed, point_row, points, capacity } = *start;
        let n_samples = packed.last_row.len();
        let mut map = CacheMap::new(&vec![capacity; n_samples])?;
        let cached = map.append(&packed.lengths())?;
        let slots = map.slots() as i64;
        engine.clear_states(&[("S", slots)])?;
        let mut inputs = row_inputs(&packed.ids, &cached);
        inputs.insert(names::POINTS.to_owned(), points.clone());
        inputs.insert(names::POINT_ROW.to_owned(), indices(point_row));
        inputs.insert(names::LAST_ROW.to_owned(), indices(&packed.last_row));
        let clouds = points.shape().first().copied().unwrap_or(0) as i64;
        let symbols = [("B", clouds), ("T", packed.ids.len() as i64), ("S", slots), ("L", n_samples as i64)];
        let scores = scores(&engine.run(PREFILL, &symbols, &inputs)?)?;
        Ok((Decoding { engine, map, n_samples }, scores))
    }

    /// Runs one token of every sample; gives the scores of the tokens after them.
    ///
    /// # Errors
    /// A full cache, what the device reports.
    pub fn step(&mut self, next: &[i32]) -> Result<Vec<f32>> {
        let every: Vec<(usize, usize)> = (0..self.n_samples).map(|sample| (sample, 1)).collect();
        let cached = self.map.append(&every)?;
        let symbols = [("T", next.len() as i64), ("S", self.map.slots() as i64)];
        scores(&self.engine.run(STEP, &symbols, &row_inputs(next, &cached))?)
    }
}

fn row_inputs(ids: &[i32], cached: &CachedRows) -> HostTensors {
    let rows = &cached.rows;
    let list = [
        (names::IDS, ids),
        (names::POSITION, &rows.position),
        (names::LOW, &rows.low),
        (names::HIGH, &rows.high),
        (names::SLOT, &cached.slot),
    ];
    list.iter().map(|(name, values)| ((*name).to_owned(), indices(values))).collect()
}

fn scores(outputs: &HostTensors) -> Result<Vec<f32>> {
    outputs.get(names::LOGITS).and_then(HostTensor::to_f32).context("the graph gives no scores")
}
