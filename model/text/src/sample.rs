//! Which token follows, given the scores of all of them?
//!
//! Law: a pure function of the scores, the settings and how many tokens were drawn before. Ties go to the lowest id.
//! Random numbers are Philox words addressed by (seed, stream, step), never a running state.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::philox::philox4x32;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingConfig {
    /// Scores are divided by it; 0 always takes the best one.
    pub temperature: f32,
    /// Only this many of the best are left; 0 leaves all.
    pub top_k: usize,
    /// Only the best are left whose shares first reach this sum; 1 leaves all.
    pub top_p: f32,
    /// No run of this many tokens occurs twice; 0 allows it.
    pub no_repeat_ngram: usize,
    /// Chooses the random numbers.
    pub seed: u64,
    /// Separates sequences that share a seed, such as the samples of a batch.
    pub stream: u32,
}

impl Default for SamplingConfig {
    /// Greedy.
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, no_repeat_ngram: 0, seed: 0, stream: 0 }
    }
}

impl SamplingConfig {
    /// The settings of the paper's evaluation: temperature 1, 50 best, share 0.95.
    ///
    /// **Source** the generation call of the released evaluation script.
    pub fn paper(seed: u64) -> Self {
        Self { temperature: 1.0, top_k: 50, top_p: 0.95, seed, ..Self::default() }
    }
}

/// Why no token can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum SamplingError {
    /// A setting outside its range.
    #[error("{name} is {value}, expected {expected}")]
    Config {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: f32,
        /// Its range.
        expected: &'static str,
    },
    /// No scores.
    #[error("there are no scores to choose from")]
    Empty,
    /// A score that orders nothing: the model has diverged.
    #[error("the score of token {id} is {value}; the model's output is broken")]
    NotFinite {
        /// The token.
        id: usize,
        /// NaN or infinity.
        value: f32,
    },
    /// Every token is excluded.
    #[error("all {vocab_size} tokens are excluded")]
    NoCandidate {
        /// Number of scores.
        vocab_size: usize,
    },
}

/// Chooses tokens one after another for one sequence.
#[derive(Clone, Debug)]
pub struct Sampler {
    config: SamplingConfig,
    drawn: Vec<u32>,
}

impl Sampler {
    /// A sampler at its first token.
    ///
    /// # Errors
    /// [`SamplingError::Config`] for a negative or infinite temperature, or a share outside (0, 1].
    pub fn new(config: SamplingConfig) -> Result<Self, SamplingError> {
        if !(config.temperature >= 0.0 && config.temperature.is_finite()) {
            let expected = "a number of at least 0";
            return Err(SamplingError::Config { name: "temperature", value: config.temperature, expected });
        }
        if !(config.top_p > 0.0 && config.top_p <= 1.0) {
            let expected = "more than 0 and at most 1";
            return Err(SamplingError::Config { name: "top_p", value: config.top_p, expected });
        }
        Ok(Self { config, drawn: Vec::new() })
    }

    /// Tokens chosen so far.
    pub fn drawn(&self) -> &[u32] {
        &self.drawn
    }

    /// Chooses the next token; `-inf` excludes one.
    ///
    /// # Errors
    /// [`SamplingError`] for broken scores; nothing is counted as drawn then.
    pub fn next(&mut self, logits: &[f32]) -> Result<u32, SamplingError> {
        check_scores(logits)?;
        let banned = self.repeats();
        let is_open = |id: usize| logits[id] > f32::NEG_INFINITY && !banned.contains(&(id as u32));
        let id = if self.config.temperature == 0.0 {
            let better = |best: usize, id: usize| if logits[id] > logits[best] { id } else { best };
            (0..logits.len()).filter(|&id| is_open(id)).reduce(better)
        } else {
            self.draw(logits, (0..logits.len()).filter(|&id| is_open(id)).collect())
        };
        let id = id.ok_or(SamplingError::NoCandidate { vocab_size: logits.len() })? as u32;
        self.drawn.push(id);
        Ok(id)
    }

    /// Draws from `open` by shares in f64; the best come first, so a share cut is a cut of the list.
    fn draw(&self, logits: &[f32], mut open: Vec<usize>) -> Option<usize> {
        let by_score = |&a: &usize, &b: &usize| descending(logits[a], logits[b]).then(a.cmp(&b));
        let top_k = if self.config.top_k == 0 { open.len() } else { self.config.top_k.min(open.len()) };
        if top_k < open.len() {
            open.select_nth_unstable_by(top_k, by_score);
            open.truncate(top_k);
        }
        open.sort_unstable_by(by_score);
        let best = f64::from(logits[*open.first()?]);
        let temperature = f64::from(self.config.temperature);
        let weights: Vec<f64> = open.iter().map(|&id| ((f64::from(logits[id]) - best) / temperature).exp()).collect();
        let kept_sum = f64::from(self.config.top_p) * weights.iter().sum::<f64>();
        let mut n_kept = 0;
        let mut sum = 0.0;
        while n_kept < weights.len() && (n_kept == 0 || self.config.top_p == 1.0 || sum < kept_sum) {
            sum += weights[n_kept];
            n_kept += 1;
        }
        let threshold = self.uniform() * sum;
        let mut passed = 0.0;
        for (&id, weight) in open.iter().zip(&weights).take(n_kept) {
            passed += weight;
            if threshold < passed {
                return Some(id);
            }
        }
        // Only a rounding of the last sum leads here; a token of weight zero must not be the answer.
        let last = (0..n_kept).rev().find(|&i| weights[i] > 0.0)?;
        open.get(last).copied()
    }

    /// A number in [0, 1) with 53 random bits, addressed by how many tokens were drawn.
    fn uniform(&self) -> f64 {
        let step = self.drawn.len() as u64;
        let SamplingConfig { seed, stream, .. } = self.config;
        let words = philox4x32([seed as u32, (seed >> 32) as u32], [step as u32, (step >> 32) as u32, stream, 0]);
        let bits = (u64::from(words[1]) << 32 | u64::from(words[0])) >> 11;
        bits as f64 / (1u64 << 53) as f64
    }

    /// Tokens that would complete a run already drawn.
    fn repeats(&self) -> Vec<u32> {
        let n = self.config.no_repeat_ngram;
        if n == 0 || self.drawn.len() + 1 < n {
            return Vec::new();
        }
        let tail = &self.drawn[self.drawn.len() + 1 - n..];
        self.drawn.windows(n).filter(|run| run[..n - 1] == *tail).map(|run| run[n - 1]).collect()
    }
}

fn check_scores(logits: &[f32]) -> Result<(), SamplingError> {
    if logits.is_empty() {
        return Err(SamplingError::Empty);
    }
    match logits.iter().position(|value| value.is_nan() || *value == f32::INFINITY) {
        Some(id) => Err(SamplingError::NotFinite { id, value: logits[id] }),
        None => Ok(()),
    }
}

/// The greater first; both are numbers, and -0 equals 0.
fn descending(a: f32, b: f32) -> Ordering {
    b.partial_cmp(&a).unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(config: SamplingConfig) -> Sampler {
        Sampler::new(config).unwrap()
    }

    #[test]
    fn greedy_takes_the_lowest_of_equal_best() {
        assert_eq!(sampler(SamplingConfig::default()).next(&[0.0, 2.0, 1.0, 2.0]), Ok(1));
        assert_eq!(sampler(SamplingConfig::default()).next(&[-0.0, 0.0]), Ok(0));
    }

    #[test]
    fn broken_scores_are_named() {
        let mut greedy = sampler(SamplingConfig::default());
        assert_eq!(greedy.next(&[]), Err(SamplingError::Empty));
        assert!(matches!(greedy.next(&[0.0, f32::NAN]), Err(SamplingError::NotFinite { id: 1, .. })));
        assert!(matches!(greedy.next(&[f32::INFINITY, 0.0]), Err(SamplingError::NotFinite { id: 0, .. })));
        assert_eq!(greedy.next(&[f32::NEG_INFINITY; 3]), Err(SamplingError::NoCandidate { vocab_size: 3 }));
        assert!(greedy.drawn().is_empty());
    }

    #[test]
    fn settings_outside_their_range_are_refused() {
        for temperature in [-1.0, f32::NAN, f32::INFINITY] {
            assert!(Sampler::new(SamplingConfig { temperature, ..SamplingConfig::default() }).is_err());
        }
        for top_p in [0.0, -0.5, 1.5, f32::NAN] {
            assert!(Sampler::new(SamplingConfig { top_p, ..SamplingConfig::default() }).is_err());
        }
    }

    #[test]
    fn same_seed_draws_the_same_and_streams_differ() {
        let logits: Vec<f32> = (0..100).map(|i| (i as f32 * 0.7).sin()).collect();
        let run = |seed, stream| {
            let mut s = sampler(SamplingConfig { temperature: 1.0, seed, stream, ..SamplingConfig::default() });
            (0..32).map(|_| s.next(&logits).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(run(1, 0), run(1, 0));
        assert_ne!(run(1, 0), run(2, 0));
        assert_ne!(run(1, 0), run(1, 1));
    }

    #[test]
    fn draws_follow_the_shares() {
        // Shares 1/2, 1/4, 1/4 at temperature 1.
        let logits = [2f32.ln(), 0.0, 0.0];
        let mut s = sampler(SamplingConfig { temperature: 1.0, seed: 7, ..SamplingConfig::default() });
        let mut counts = [0usize; 3];
        (0..8000).for_each(|_| counts[s.next(&logits).unwrap() as usize] += 1);
        // Five standard deviations of a binomial: sqrt(8000 / 4) * 5 = 224 and sqrt(8000 * 3 / 16) * 5 = 194.
        assert!(counts[0].abs_diff(4000) < 224 && counts[1].abs_diff(2000) < 194, "{counts:?}");
    }

    #[test]
    fn top_k_and_top_p_leave_only_the_best() {
        let logits = [0.0, 3.0, 3.0, 1.0, f32::NEG_INFINITY];
        let seen = |config: SamplingConfig| {
            let mut s = sampler(config);
            let mut ids: Vec<u32> = (0..400).map(|_| s.next(&logits).unwrap()).collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let base = SamplingConfig { temperature: 1.0, ..SamplingConfig::default() };
        assert_eq!(seen(SamplingConfig { top_k: 1, ..base }), [1]);
        assert_eq!(seen(SamplingConfig { top_k: 3, ..base }), [1, 2, 3]);
        assert_eq!(seen(SamplingConfig { top_p: 0.3, ..base }), [1]);
        assert_eq!(seen(SamplingConfig { top_p: 0.5, ..base }), [1, 2]);
        assert_eq!(seen(base), [0, 1, 2, 3]);
    }

    #[test]
    fn no_run_is_repeated() {
        let logits: Vec<f32> = (0..8).map(|i| -(i as f32)).collect();
        let mut s = sampler(SamplingConfig { no_repeat_ngram: 2, ..SamplingConfig::default() });
        let ids: Vec<u32> = (0..12).map(|_| s.next(&logits).unwrap()).collect();
        let mut pairs: Vec<_> = ids.windows(2).collect();
        pairs.sort_unstable();
        assert!(pairs.windows(2).all(|p| p[0] != p[1]), "{ids:?}");
        let mut once = sampler(SamplingConfig { no_repeat_ngram: 1, ..SamplingConfig::default() });
        let logits = [3.0, 2.0, 1.0, 0.0];
        assert_eq!((0..4).map(|_| once.next(&logits).unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(once.next(&logits), Err(SamplingError::NoCandidate { vocab_size: 4 }));
    }
}
