//! What does a model learn from? Annotated objects, each with a conversation and a cloud.
//!
//! Law: the list, in the order of its file, is read once and checked; conversations become tokens and clouds are read
//! when a step asks for them, so a set of any size starts at once.

use crate::base::Base;
use crate::config::{Config, DataConfig, Policy};
use crate::error::DataError;
use enel_io::{Cloud, Ending, LoadConfig, PrepareConfig, Weights, prepare};
use enel_text::chat::{IGNORE, Message, POINT, example};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// What a conversation without a type is.
const DEFAULT_TYPE: &str = "simple_description";
/// Channels of a prepared point: x, y, z, red, green, blue.
const PREPARED_CHANNELS: usize = 6;

/// An entry of a file of annotations; other keys are left alone.
#[derive(Clone, Debug, Deserialize)]
struct Annotation {
    object_id: String,
    #[serde(default)]
    conversation_type: Option<String>,
    conversations: Vec<Message>,
}

/// One object and what is said of it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Name of the object.
    pub object: String,
    /// What is said, `<point>` not yet expanded.
    pub turns: Vec<Message>,
    /// Its cloud, where it speaks of one.
    pub cloud: Option<PathBuf>,
}

/// A list of samples.
#[derive(Clone, Debug)]
pub struct Set {
    /// In the order of the file.
    pub samples: Vec<Sample>,
    /// Objects that were left out because their cloud is missing.
    pub left_out: Vec<String>,
}

/// A sample as a step takes it.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Ids.
    pub ids: Vec<i32>,
    /// For each id itself, or [`enel_model::names::IGNORE`].
    pub labels: Vec<i32>,
    /// `[points, channels]`, where it speaks of a cloud.
    pub points: Option<Vec<f32>>,
    /// A teacher's tokens, where there is a teacher.
    pub teacher: Option<Vec<f32>>,
}

impl Set {
    /// The samples to learn from, and those held out.
    ///
    /// # Errors
    /// [`DataError`], naming the file and the object.
    pub fn load(config: &Config) -> Result<(Set, Option<Set>), DataError> {
        let data = &config.data;
        let mut set = Set::read(&data.annotations, data)?;
        let Some(held_out) = &config.held_out else { return Ok((set, None)) };
        let other = match &held_out.annotations {
            Some(path) => Set::read(path, data)?,
            None => {
                let is_out = |sample: &Sample| share_of(&sample.object) < held_out.fraction;
                let (out, samples) = set.samples.into_iter().partition(is_out);
                set.samples = samples;
                Set { samples: out, left_out: Vec::new() }
            }
        };
        for set in [&set, &other] {
            if set.samples.is_empty() {
                return Err(DataError::Empty { path: data.annotations.clone(), n_left_out: set.left_out.len() });
            }
        }
        Ok((set, Some(other)))
    }

    fn read(path: &Path, config: &DataConfig) -> Result<Set, DataError> {
        let read = |source| DataError::Read { path: path.to_owned(), source };
        let bytes = std::fs::read(path).map_err(read)?;
        let annotations = |source| DataError::Annotations { path: path.to_owned(), source };
        let list: Vec<Annotation> = serde_json::from_slice(&bytes).map_err(annotations)?;
        let mut set = Set { samples: Vec::with_capacity(list.len()), left_out: Vec::new() };
        for Annotation { object_id: object, conversation_type, conversations: turns } in list {
            let kind = conversation_type.as_deref().unwrap_or(DEFAULT_TYPE);
            if !config.types.is_empty() && !config.types.iter().any(|wanted| wanted == kind) {
                continue;
            }
            let count = turns.iter().map(|turn| turn.value.matches(POINT).count()).sum();
            let cloud = match count {
                0 => None,
                1 => match find_cloud(&config.clouds, &object) {
                    Some(cloud) => Some(cloud),
                    None if config.missing == Policy::Skip => {
                        set.left_out.push(object);
                        continue;
                    }
                    None => {
                        let (annotations, clouds) = (path.to_owned(), config.clouds.clone());
                        return Err(DataError::NoCloud { annotations, clouds, object });
                    }
                },
                count => return Err(DataError::Points { object, count }),
            };
            set.samples.push(Sample { object, turns, cloud });
        }
        if set.samples.is_empty() {
            return Err(DataError::Empty { path: path.to_owned(), n_left_out: set.left_out.len() });
        }
        Ok(set)
    }
}

/// A number in 0..1 that belongs to an object, wherever it is listed.
fn share_of(object: &str) -> f64 {
    let hash = Sha256::digest(object.as_bytes());
    let first = hash.iter().take(4).fold(0u32, |bits, &byte| (bits << 8) | u32::from(byte));
    f64::from(first) / 4_294_967_296.0
}

/// The cloud of an object: the released name first, then any ending that is read.
fn find_cloud(folder: &Path, object: &str) -> Option<PathBuf> {
    // An id is a file's name, never a path out of the folder.
    if Path::new(object).file_name().is_none_or(|name| name != object) {
        return None;
    }
    let released = folder.join(format!("{object}_8192.npy"));
    let others = Ending::ALL.into_iter().map(|ending| folder.join(format!("{object}.{}", ending.text())));
    std::iter::once(released).chain(others).find(|path| path.is_file())
}

/// How samples become what a step takes.
#[derive(Debug)]
pub struct Reader {
    n_points: usize,
    channels: usize,
    max_tokens: usize,
    teacher: Option<(Weights, [usize; 2])>,
}

impl Reader {
    /// A reader for a model; opens the teacher's tokens where there are any.
    ///
    /// # Errors
    /// [`DataError::Teacher`] when the file cannot be opened.
    pub fn new(base: &Base, config: &Config) -> Result<Reader, DataError> {
        let point = &base.config.point;
        let n_tokens = point.tokens_per_cloud() - usize::from(point.class_token);
        let teacher = match &config.objective.distillation {
            None => None,
            Some(teacher) => {
                let expected = [n_tokens, teacher.width];
                let failed =
                    |source| DataError::Teacher { object: "any".to_owned(), expected: expected.to_vec(), source };
                Some((Weights::open(&teacher.tokens).map_err(Box::new).map_err(failed)?, expected))
            }
        };
        let max_tokens = config.data.max_tokens.min(base.max_positions);
        Ok(Reader { n_points: point.n_points.max, channels: point.point_dims, max_tokens, teacher })
    }

    /// Tokens, cloud and teacher of a sample.
    ///
    /// # Errors
    /// [`DataError`], naming the object and its file; [`DataError::NoAnswer`] when nothing of it counts.
    pub fn ready(&self, base: &Base, sample: &Sample) -> Result<Ready, DataError> {
        let object = || sample.object.clone();
        let conversation = |source| DataError::Conversation { object: object(), source: Box::new(source) };
        let made = example(&base.tokenizer, &base.template, &base.block, &sample.turns, self.max_tokens);
        let made = made.map_err(conversation)?;
        // The first label is no token's successor.
        if made.labels.iter().skip(1).all(|&label| label == IGNORE) {
            return Err(DataError::NoAnswer { object: object() });
        }
        let points = match &sample.cloud {
            Some(path) => Some(self.points(sample, path)?),
            None => None,
        };
        let teacher = match (&self.teacher, &sample.cloud) {
            (Some((weights, expected)), Some(_)) => {
                let failed = |source| DataError::Teacher { object: object(), expected: expected.to_vec(), source };
                let read = weights.view_shaped(&sample.object, expected).and_then(|_| weights.to_f32(&sample.object));
                Some(read.map_err(Box::new).map_err(failed)?)
            }
            _ => None,
        };
        let ids = made.input_ids.iter().map(|&id| id as i32).collect();
        let labels = made.labels.iter().map(|&label| label as i32).collect();
        Ok(Ready { ids, labels, points, teacher })
    }

    fn points(&self, sample: &Sample, path: &Path) -> Result<Vec<f32>, DataError> {
        let object = || sample.object.clone();
        let load = LoadConfig { mesh_points: self.n_points, ..LoadConfig::default() };
        let unreadable = |source| DataError::Cloud { object: object(), source: Box::new(source) };
        let (cloud, _) = Cloud::open(path, &load).map_err(unreadable)?;
        let unusable = |source| DataError::Prepare { object: object(), path: path.to_owned(), source };
        let prepared = prepare(&cloud, PrepareConfig::exactly(self.n_points)).map_err(unusable)?;
        let kept = prepared.points.chunks_exact(PREPARED_CHANNELS).flat_map(|point| &point[..self.channels.min(6)]);
        Ok(kept.copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clouds_are_found_by_their_object_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a_8192.npy", "a.npy", "b.ply"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let found = |object: &str| find_cloud(dir.path(), object).map(|path| path.file_name().unwrap().to_owned());
        assert_eq!(found("a").unwrap(), "a_8192.npy");
        assert_eq!(found("b").unwrap(), "b.ply");
        assert_eq!(found("c"), None);
        let inner = dir.path().file_name().unwrap().to_str().unwrap();
        assert_eq!(found(&format!("../{inner}/a")), None, "an id is no path");
    }

    #[test]
    fn an_object_is_held_out_by_its_name_alone() {
        let out = (0..2000).filter(|i| share_of(&format!("object {i}")) < 0.1).count();
        assert!((140..260).contains(&out), "{out}");
    }
}
