//! Where does each token of a batch stand? The index vectors a host gives with every call, without a device.
//!
//! Law: segments lie one after the other and nothing is padded; every count is checked here, because graphs clamp or
//! drop what is out of range in silence.

use crate::names::IGNORE;

/// Prompts that cannot be laid out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// No prompt was given.
    #[error("the batch has no prompts")]
    EmptyBatch,
    /// A prompt without tokens.
    #[error("prompt {sample} has no tokens")]
    EmptyPrompt {
        /// Which prompt.
        sample: usize,
    },
    /// A token id outside the vocabulary.
    #[error("prompt {sample}, token {at}: id {id} is outside 0..{vocab_size}")]
    TokenId {
        /// Which prompt.
        sample: usize,
        /// Which token of it.
        at: usize,
        /// The id.
        id: i32,
        /// Ids there are.
        vocab_size: usize,
    },
    /// The number of patch tokens does not suit the number of clouds.
    #[error("prompt {sample} has {got} patch tokens, {clouds} clouds need {expected}")]
    PatchCount {
        /// Which prompt.
        sample: usize,
        /// Clouds it comes with.
        clouds: usize,
        /// Patch tokens they need.
        expected: usize,
        /// Patch tokens it has.
        got: usize,
    },
    /// The patch tokens of one cloud do not stand together.
    #[error("prompt {sample}, token {at}: the run of patch tokens ends after {got} of {expected}")]
    PatchRun {
        /// Which prompt.
        sample: usize,
        /// First token of the cloud.
        at: usize,
        /// Patch tokens of one cloud.
        expected: usize,
        /// Patch tokens found in a row.
        got: usize,
    },
    /// The patch tokens of a cloud are not between the start and the end token.
    #[error("prompt {sample}, token {at}: expected id {expected} around the patch tokens")]
    Frame {
        /// Which prompt.
        sample: usize,
        /// Where the start or end token should stand.
        at: usize,
        /// Its id.
        expected: i32,
    },
    /// More tokens or cache rows than an index can name.
    #[error("{count} rows are more than an index can name")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// A sample the cache does not have.
    #[error("the cache has {samples} samples, there is no sample {sample}")]
    NoSample {
        /// Asked for.
        sample: usize,
        /// There are.
        samples: usize,
    },
    /// A sample's part of the cache is full.
    #[error("sample {sample} needs {needed} cache rows, it has {capacity}")]
    CacheFull {
        /// Which sample.
        sample: usize,
        /// Rows after the append.
        needed: usize,
        /// Rows it may use.
        capacity: usize,
    },
}

/// What token ids mean to the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// Ids there are.
    pub size: usize,
    /// The id point tokens replace.
    pub patch: i32,
    /// Ids that must stand before and after the patch tokens of a cloud, where the model has them.
    pub frame: Option<(i32, i32)>,
    /// Patch tokens of one cloud, the class token's included.
    pub tokens_per_cloud: usize,
}

/// One sample's tokens, and how many clouds they speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prompt<'a> {
    /// Token ids.
    pub ids: &'a [i32],
    /// Clouds, in the order of their patch tokens; 0 for text alone.
    pub clouds: usize,
}

/// Where each token stands and which rows it sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenRows {
    /// Position in its segment.
    pub position: Vec<i32>,
    /// First row seen.
    pub low: Vec<i32>,
    /// One past the last row seen.
    pub high: Vec<i32>,
}

impl TokenRows {
    fn push(&mut self, position: usize, low: usize, high: usize) -> Result<(), PackError> {
        self.position.push(index(position)?);
        self.low.push(index(low)?);
        self.high.push(index(high)?);
        Ok(())
    }
}

/// A batch of prompts laid out for a pass without a cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Token ids of all segments.
    pub ids: Vec<i32>,
    /// Where tokens stand; rows are tokens.
    pub rows: TokenRows,
    /// Token each point token replaces, cloud after cloud.
    pub point_row: Vec<i32>,
    /// Last token of each segment.
    pub last_row: Vec<i32>,
    /// First token of each segment, and the end of the last.
    pub offsets: Vec<usize>,
}

impl Packed {
    /// Tokens of each segment with its number, as [`CacheMap::append`] takes them for samples 0, 1, ...
    pub fn lengths(&self) -> Vec<(usize, usize)> {
        self.offsets.windows(2).map(|w| w[1] - w[0]).enumerate().collect()
    }
}

/// Lays prompts out one after the other.
///
/// # Errors
/// [`PackError`] for the first prompt that is empty, names an unknown id, or whose patch tokens do not suit its clouds.
pub fn pack(prompts: &[Prompt<'_>], vocabulary: &Vocabulary) -> Result<Packed, PackError> {
    if prompts.is_empty() {
        return Err(PackError::EmptyBatch);
    }
    let mut packed = Packed { offsets: vec![0], ..Packed::default() };
    for (sample, prompt) in prompts.iter().enumerate() {
        if prompt.ids.is_empty() {
            return Err(PackError::EmptyPrompt { sample });
        }
        let first = packed.ids.len();
        for (at, &id) in prompt.ids.iter().enumerate() {
            let known = usize::try_from(id).is_ok_and(|id| id < vocabulary.size);
            if !known {
                return Err(PackError::TokenId { sample, at, id, vocab_size: vocabulary.size });
            }
            packed.rows.push(at, first, first + at + 1)?;
        }
        for at in patch_tokens(sample, prompt, vocabulary)? {
            packed.point_row.push(index(first + at)?);
        }
        packed.ids.extend_from_slice(prompt.ids);
        packed.last_row.push(index(packed.ids.len() - 1)?);
        packed.offsets.push(packed.ids.len());
    }
    Ok(packed)
}

/// Places of the patch tokens, checked cloud by cloud.
fn patch_tokens(sample: usize, prompt: &Prompt<'_>, vocabulary: &Vocabulary) -> Result<Vec<usize>, PackError> {
    let ids = prompt.ids;
    let places: Vec<usize> = (0..ids.len()).filter(|&at| ids[at] == vocabulary.patch).collect();
    let (clouds, per_cloud) = (prompt.clouds, vocabulary.tokens_per_cloud.max(1));
    let expected = clouds.saturating_mul(per_cloud);
    if places.len() != expected {
        return Err(PackError::PatchCount { sample, clouds, expected, got: places.len() });
    }
    for cloud in places.chunks(per_cloud) {
        let at = cloud[0];
        let got = cloud.iter().enumerate().take_while(|(i, place)| **place == at + i).count();
        if got != per_cloud {
            return Err(PackError::PatchRun { sample, at, expected: per_cloud, got });
        }
        let Some((start, end)) = vocabulary.frame else { continue };
        if at == 0 || ids[at - 1] != start {
            return Err(PackError::Frame { sample, at: at.saturating_sub(1), expected: start });
        }
        if ids.get(at + per_cloud) != Some(&end) {
            return Err(PackError::Frame { sample, at: at + per_cloud, expected: end });
        }
    }
    Ok(places)
}

/// Labels of every segment moved one token to the left, so that row `t` is scored against what follows it.
pub fn shift_labels(segments: &[&[i32]]) -> Vec<i32> {
    let shifted = |labels: &[i32]| -> Vec<i32> {
        let followed = labels.iter().skip(1).copied();
        followed.chain((!labels.is_empty()).then_some(IGNORE)).collect()
    };
    segments.iter().flat_map(|labels| shifted(labels)).collect()
}

/// Where tokens stand in a cache, and the rows that take their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CachedRows {
    /// Where tokens stand; rows are cache rows.
    pub rows: TokenRows,
    /// Cache row of each token.
    pub slot: Vec<i32>,
}

/// Which rows of a cache belong to which sample, and how many of them are filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheMap {
    samples: Vec<Region>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Region {
    first: usize,
    capacity: usize,
    length: usize,
}

impl CacheMap {
    /// Gives each sample `capacities[sample]` rows.
    ///
    /// # Errors
    /// [`PackError::TooMany`] when the rows exceed what an index can name.
    pub fn new(capacities: &[usize]) -> Result<CacheMap, PackError> {
        let mut samples = Vec::with_capacity(capacities.len());
        let mut first = 0usize;
        for &capacity in capacities {
            samples.push(Region { first, capacity, length: 0 });
            first = first.saturating_add(capacity);
            index(first)?;
        }
        Ok(CacheMap { samples })
    }

    /// Rows in all.
    pub fn slots(&self) -> usize {
        self.samples.iter().map(|s| s.capacity).sum()
    }

    /// Rows `sample` has filled, if there is such a sample.
    pub fn length(&self, sample: usize) -> Option<usize> {
        self.samples.get(sample).map(|s| s.length)
    }

    /// Takes tokens in: for each `(sample, count)`, `count` tokens that follow what the sample has.
    ///
    /// A prompt is one call with its length, a decoding step one with 1 for every sample still running.
    ///
    /// # Errors
    /// [`PackError::NoSample`], [`PackError::CacheFull`]; then nothing has been taken in.
    pub fn append(&mut self, segments: &[(usize, usize)]) -> Result<CachedRows, PackError> {
        let mut after = self.samples.clone();
        let n_samples = after.len();
        let mut out = CachedRows::default();
        for &(sample, count) in segments {
            let missing = PackError::NoSample { sample, samples: n_samples };
            let region = after.get_mut(sample).ok_or(missing)?;
            let needed = region.length.saturating_add(count);
            if needed > region.capacity {
                return Err(PackError::CacheFull { sample, needed, capacity: region.capacity });
            }
            for position in region.length..needed {
                let slot = region.first + position;
                out.rows.push(position, region.first, slot + 1)?;
                out.slot.push(index(slot)?);
            }
            region.length = needed;
        }
        self.samples = after;
        Ok(out)
    }

    /// Empties a sample's rows for another prompt.
    ///
    /// # Errors
    /// [`PackError::NoSample`].
    pub fn reset(&mut self, sample: usize) -> Result<(), PackError> {
        self.truncate(sample, 0)
    }

    /// Forgets what a sample has after its first `length` rows, for another continuation of them.
    ///
    /// # Errors
    /// [`PackError::NoSample`].
    pub fn truncate(&mut self, sample: usize, length: usize) -> Result<(), PackError> {
        let missing = PackError::NoSample { sample, samples: self.samples.len() };
        let region = self.samples.get_mut(sample).ok_or(missing)?;
        region.length = region.length.min(length);
        Ok(())
    }
}

fn index(n: usize) -> Result<i32, PackError> {
    i32::try_from(n).map_err(|_| PackError::TooMany { count: n })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOCABULARY: Vocabulary = Vocabulary { size: 20, patch: 17, frame: Some((18, 19)), tokens_per_cloud: 2 };

    fn packed(prompts: &[Prompt<'_>]) -> Result<Packed, PackError> {
        pack(prompts, &VOCABULARY)
    }

    #[test]
    fn prompts_with_and_without_clouds_lie_side_by_side() {
        let seen = Prompt { ids: &[1, 18, 17, 17, 19, 4], clouds: 1 };
        let text = Prompt { ids: &[1, 2], clouds: 0 };
        let p = packed(&[text, seen, text]).unwrap();
        assert_eq!(p.ids, [1, 2, 1, 18, 17, 17, 19, 4, 1, 2]);
        assert_eq!(p.rows.position, [0, 1, 0, 1, 2, 3, 4, 5, 0, 1]);
        assert_eq!(p.rows.low, [0, 0, 2, 2, 2, 2, 2, 2, 8, 8]);
        assert_eq!(p.rows.high, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(p.point_row, [4, 5]);
        assert_eq!(p.last_row, [1, 7, 9]);
        assert_eq!(p.lengths(), [(0, 2), (1, 6), (2, 2)]);
    }

    #[test]
    fn patch_tokens_that_do_not_suit_the_clouds_are_refused() {
        let one = |ids, clouds| packed(&[Prompt { ids, clouds }]).unwrap_err();
        assert_eq!(one(&[], 0), PackError::EmptyPrompt { sample: 0 });
        assert_eq!(one(&[1, 20], 0), PackError::TokenId { sample: 0, at: 1, id: 20, vocab_size: 20 });
        assert_eq!(one(&[-1], 0), PackError::TokenId { sample: 0, at: 0, id: -1, vocab_size: 20 });
        let count = PackError::PatchCount { sample: 0, clouds: 1, expected: 2, got: 1 };
        assert_eq!(one(&[18, 17, 19], 1), count);
        let run = PackError::PatchRun { sample: 0, at: 1, expected: 2, got: 1 };
        assert_eq!(one(&[18, 17, 3, 17, 19], 1), run);
        assert_eq!(one(&[17, 17, 19], 1), PackError::Frame { sample: 0, at: 0, expected: 18 });
        assert_eq!(one(&[18, 17, 17], 1), PackError::Frame { sample: 0, at: 3, expected: 19 });
        assert_eq!(packed(&[]), Err(PackError::EmptyBatch));
        let huge = packed(&[Prompt { ids: &[1], clouds: usize::MAX }]);
        assert!(matches!(huge, Err(PackError::PatchCount { got: 0, .. })));
    }

    #[test]
    fn a_cache_takes_prompts_then_steps() {
        let mut map = CacheMap::new(&[4, 3]).unwrap();
        assert_eq!(map.slots(), 7);
        let prompt = map.append(&[(0, 2), (1, 1)]).unwrap();
        assert_eq!(prompt.slot, [0, 1, 4]);
        assert_eq!(prompt.rows.position, [0, 1, 0]);
        let step = map.append(&[(1, 1), (0, 1)]).unwrap();
        assert_eq!(step.slot, [5, 2]);
        assert_eq!(step.rows, TokenRows { position: vec![1, 2], low: vec![4, 0], high: vec![6, 3] });
        let full = map.append(&[(0, 1), (1, 2)]);
        assert_eq!(full, Err(PackError::CacheFull { sample: 1, needed: 4, capacity: 3 }));
        assert_eq!(map.length(0), Some(3), "a refused append takes nothing in");
        assert!(matches!(map.append(&[(2, 1)]), Err(PackError::NoSample { .. })));
        map.truncate(0, 2).unwrap();
        assert_eq!(map.append(&[(0, 1)]).unwrap().rows.position, [2], "the third row is taken again");
        map.truncate(0, 9).unwrap();
        assert_eq!(map.length(0), Some(3), "nothing is invented");
        map.reset(1).unwrap();
        assert_eq!(map.append(&[(1, 1)]).unwrap().slot, [4]);
        assert!(matches!(CacheMap::new(&[usize::MAX, 2]), Err(PackError::TooMany { .. })));
    }

    #[test]
    fn labels_shift_inside_their_segment() {
        assert_eq!(shift_labels(&[&[1, 2, 3], &[], &[4]]), [2, 3, IGNORE, IGNORE]);
    }
}
