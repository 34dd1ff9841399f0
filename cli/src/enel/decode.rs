//! How do tokens come one after the other? Prompts into the cache, then more tokens of every sample.
//!
//! Law: nothing here chooses tokens; callers look at the scores and say what follows.

use super::engine::{Engine, indices};
use anyhow::{Context, Result};
use enel_model::{CacheMap, CachedRows, MAX_DECODED, Packed, names};
use enel_runtime::{HostTensor, HostTensors};

/// Name of the graph that takes prompts and clouds.
const PREFILL: &str = "prefill";
/// Name of the graph that takes tokens without clouds and scores the rows it is told.
const STEP: &str = "step";
/// Name of the graph that takes a token of each of a few samples.
const DECODE: &str = "decode";

/// Prompts and their clouds.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The prompts, laid out.
    pub packed: &'a Packed,
    /// Token each point token replaces; those of clouds no prompt speaks of lie outside the tokens.
    pub point_row: &'a [i32],
    /// `[clouds, points, channels]`.
    pub points: &'a HostTensor,
}

/// Samples under way.
#[derive(Debug)]
pub struct Decoding<'e> {
    engine: &'e mut Engine,
    map: CacheMap,
}

impl<'e> Decoding<'e> {
    /// An empty cache of `capacities[sample]` rows for each sample.
    ///
    /// # Errors
    /// More rows than the graph takes, memory.
    pub fn new(engine: &'e mut Engine, capacities: &[usize]) -> Result<Decoding<'e>> {
        let map = CacheMap::new(capacities)?;
        engine.clear_states(&[("S", map.slots() as i64)])?;
        Ok(Decoding { engine, map })
    }

    /// Runs prompts with clouds, one for each sample; gives the scores of each one's next token, sample after sample.
    /// What the samples had before is forgotten.
    ///
    /// # Errors
    /// More tokens than the cache or the graph takes, what the device reports.
    pub fn start(&mut self, start: &Start<'_>) -> Result<Vec<f32>> {
        let Start { packed, point_row, points } = *start;
        for (sample, _) in packed.lengths() {
            self.map.reset(sample)?;
        }
        let cached = self.map.append(&packed.lengths())?;
        let mut inputs = row_inputs(&packed.ids, &cached);
        inputs.insert(names::POINTS.to_owned(), points.clone());
        inputs.insert(names::POINT_ROW.to_owned(), indices(point_row));
        inputs.insert(names::LAST_ROW.to_owned(), indices(&packed.last_row));
        let clouds = points.shape().first().copied().unwrap_or(0) as i64;
        let n_rows = packed.last_row.len() as i64;
        let symbols = [("B", clouds), ("T", packed.ids.len() as i64), ("S", self.map.slots() as i64), ("L", n_rows)];
        scores(&self.engine.run(PREFILL, &symbols, &inputs)?)
    }

    /// Runs one more token of every sample; gives the scores of the tokens after them.
    ///
    /// # Errors
    /// A full cache, what the device reports.
    pub fn step(&mut self, next: &[i32]) -> Result<Vec<f32>> {
        let every: Vec<(usize, usize)> = (0..next.len()).map(|sample| (sample, 1)).collect();
        if next.len() <= MAX_DECODED {
            let cached = self.map.append(&every)?;
            let symbols = [("T", next.len() as i64), ("S", self.map.slots() as i64)];
            return scores(&self.engine.run(DECODE, &symbols, &row_inputs(next, &cached))?);
        }
        let rows: Vec<i32> = (0..next.len() as i32).collect();
        self.run(&every, next, &rows)
    }

    /// Runs more tokens of one sample; gives the scores of what follows the last.
    ///
    /// # Errors
    /// No tokens, a full cache, what the device reports.
    pub fn extend(&mut self, sample: usize, ids: &[i32]) -> Result<Vec<f32>> {
        let last = i32::try_from(ids.len()).ok().and_then(|n| n.checked_sub(1)).filter(|&at| at >= 0);
        self.run(&[(sample, ids.len())], ids, &[last.context("there are no tokens to run")?])
    }

    /// Runs more tokens of one sample; gives the scores of what follows each.
    ///
    /// # Errors
    /// No tokens, more than the graph scores at once, a full cache, what the device reports.
    pub fn extend_scored(&mut self, sample: usize, ids: &[i32]) -> Result<Vec<f32>> {
        let rows: Vec<i32> = (0..ids.len() as i32).collect();
        self.run(&[(sample, ids.len())], ids, &rows)
    }

    /// Forgets what a sample has after its first `length` tokens.
    ///
    /// # Errors
    /// No such sample.
    pub fn truncate(&mut self, sample: usize, length: usize) -> Result<()> {
        Ok(self.map.truncate(sample, length)?)
    }

    fn run(&mut self, segments: &[(usize, usize)], ids: &[i32], rows: &[i32]) -> Result<Vec<f32>> {
        let cached = self.map.append(segments)?;
        let mut inputs = row_inputs(ids, &cached);
        inputs.insert(names::LAST_ROW.to_owned(), indices(rows));
        let symbols = [("T", ids.len() as i64), ("S", self.map.slots() as i64), ("L", rows.len() as i64)];
        scores(&self.engine.run(STEP, &symbols, &inputs)?)
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
