//! Which cases does a folder of golden values hold, and what do their files say? Names and numbers come from the files.

use anyhow::{Context, Result, bail};
use enel_interp::{Tensor, Values};
use enel_ir::DType;
use enel_runtime::{HostTensor, HostTensors};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// One case: a JSON file, and most often a safetensors file beside it.
#[derive(Clone, Debug)]
pub struct Case {
    /// File stem, such as `a_token_eval_b1`.
    pub name: String,
    /// First letter of its kind, `a` for `a_token_eval`.
    pub kind: char,
    /// The description.
    pub json: Description,
    /// Where its tensors are, if it has any.
    pub tensors: Option<PathBuf>,
}

/// A JSON file of the folder.
#[derive(Clone, Debug)]
pub struct Description {
    /// The file.
    pub path: PathBuf,
    value: Value,
}

/// A case's name, and the case or why its files cannot be used.
pub type Found = (String, Result<Case>);

/// Finds every case of `dir`, in the order of their names.
///
/// A JSON file is one when it names its kind as `case`, or its own name does; weights and vocabularies are none.
/// Tensors whose name has the letter of a kind in front must have a description.
///
/// # Errors
/// A folder that cannot be read or holds no case.
pub fn cases(dir: &Path) -> Result<Vec<Found>> {
    let mut stems = BTreeSet::new();
    let cannot = || format!("cannot read the folder {}", dir.display());
    for entry in std::fs::read_dir(dir).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        let is_ours = path.extension().is_some_and(|e| e == "json" || e == "safetensors");
        if let (true, Some(stem)) = (is_ours, path.file_stem().and_then(|s| s.to_str())) {
            stems.insert(stem.to_owned());
        }
    }
    let found: Vec<Found> = stems.into_iter().filter_map(|stem| Some((stem.clone(), case(dir, stem)?))).collect();
    if found.is_empty() {
        bail!("{} holds no golden values: expected pairs NAME.json and NAME.safetensors", dir.display());
    }
    Ok(found)
}

fn case(dir: &Path, name: String) -> Option<Result<Case>> {
    let tensors = Some(dir.join(format!("{name}.safetensors"))).filter(|path| path.is_file());
    let path = dir.join(format!("{name}.json"));
    if !path.is_file() {
        letter(&name)?;
        return Some(Err(anyhow::anyhow!("{} is missing", path.display())));
    }
    let json = match Description::read(&path) {
        Ok(json) => json,
        Err(error) => return Some(Err(error)),
    };
    let kind = match json.value.get("case").and_then(Value::as_str) {
        Some(stated) => letter(stated)?,
        None if json.value.is_object() => letter(&name)?,
        None => return None,
    };
    Some(Ok(Case { name, kind, json, tensors }))
}

/// The letter in front of a case's name: `c` of `c_full_eval`.
fn letter(name: &str) -> Option<char> {
    let (first, _) = name.split_once('_')?;
    let mut chars = first.chars();
    chars.next().filter(|c| c.is_ascii_lowercase() && chars.next().is_none())
}

impl Case {
    /// The tensors of the case.
    ///
    /// # Errors
    /// Names the file that is missing or damaged.
    pub fn read(&self) -> Result<Tensors> {
        match &self.tensors {
            Some(path) => read_tensors(path),
            None => bail!("{} is missing", self.json.path.with_extension("safetensors").display()),
        }
    }

    /// The file its weights are in, and how their names begin there; its own when the description names none.
    ///
    /// # Errors
    /// A name that is no file of the same folder.
    pub fn weights(&self) -> Result<(PathBuf, &'static str)> {
        let Some(text) = self.json.value.get("weights").and_then(Value::as_str) else {
            return Ok((self.json.path.with_extension("safetensors"), "w."));
        };
        let file = text.split_whitespace().find(|word| word.ends_with(".safetensors"));
        let plain = file.filter(|file| Path::new(file).file_name().is_some_and(|name| name == *file));
        let Some(file) = plain else {
            bail!("{}: `weights` is {text:?}, which names no file of the folder", self.json.path.display());
        };
        let prefix = if text.contains("w.*") { "w." } else { "" };
        Ok((self.json.path.with_file_name(file), prefix))
    }
}

impl Description {
    /// Reads a JSON file.
    ///
    /// # Errors
    /// Names the file.
    pub fn read(path: &Path) -> Result<Description> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let value = serde_json::from_slice(&bytes).with_context(|| format!("{} is not JSON", path.display()))?;
        Ok(Description { path: path.to_owned(), value })
    }

    /// A value of `config`, or else of the file itself; `key` may be a path such as `point_token_ids.patch`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let mut places = [self.value.get("config"), Some(&self.value)].into_iter().flatten();
        let found = places.find_map(|place| key.split('.').try_fold(place, |value, part| value.get(part)));
        found.filter(|value| !value.is_null())
    }

    /// A whole number that must be there.
    ///
    /// # Errors
    /// Names file and key.
    pub fn count(&self, key: &str) -> Result<usize> {
        self.count_if(key)?.with_context(|| format!("{} lacks `{key}`", self.path.display()))
    }

    /// A whole number that may be there.
    ///
    /// # Errors
    /// Another kind of value.
    pub fn count_if(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_u64().and_then(|n| usize::try_from(n).ok());
        let wrong = || format!("{}: `{key}` is {value}, expected a whole number", self.path.display());
        number.with_context(wrong).map(Some)
    }

    /// A number, or `default` where there is none.
    ///
    /// # Errors
    /// Another kind of value.
    pub fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_f64().with_context(|| format!("{}: `{key}` is {value}, expected a number", self.path.display()))
    }

    /// A list of whole numbers that must be there.
    ///
    /// # Errors
    /// Names file and key.
    pub fn counts(&self, key: &str) -> Result<Vec<usize>> {
        let list = self.get(key).and_then(Value::as_array);
        let numbers = list.and_then(|list| list.iter().map(|v| v.as_u64().map(|n| n as usize)).collect());
        numbers.with_context(|| format!("{} lacks `{key}`, a list of whole numbers", self.path.display()))
    }
}

/// Every tensor of a safetensors file.
///
/// # Errors
/// Names the file, and the tensor of a kind that golden values do not have.
pub fn read_tensors(path: &Path) -> Result<Tensors> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = SafeTensors::deserialize(&bytes)
        .with_context(|| format!("{} is not a whole safetensors file", path.display()))?;
    let mut tensors = Tensors::new();
    for (name, view) in file.tensors() {
        let direct = |dtype| Tensor::from_bytes(dtype, view.shape(), view.data());
        let tensor = match view.dtype() {
            Dtype::F32 => direct(DType::F32),
            Dtype::F16 => direct(DType::F16),
            Dtype::BF16 => direct(DType::BF16),
            Dtype::I64 => direct(DType::I64),
            Dtype::I32 => direct(DType::I32),
            Dtype::U8 => direct(DType::U8),
            Dtype::BOOL => direct(DType::Bool),
            Dtype::F64 => {
                let values = view.data().as_chunks::<8>().0.iter().map(|&raw| f64::from_le_bytes(raw)).collect();
                Tensor::new(DType::F32, view.shape(), Values::F(values))
            }
            other => bail!("{}: tensor `{name}` is of {other:?}, which is not read", path.display()),
        };
        let tensor = tensor.with_context(|| format!("{}: tensor `{name}`", path.display()))?;
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

/// A tensor as devices take it.
pub fn host(tensor: &Tensor) -> HostTensor {
    HostTensor::new(tensor.dtype, &tensor.shape, tensor.to_bytes())
        .unwrap_or_else(|_| unreachable!("a tensor has the bytes of its dtype and shape"))
}

/// Tensors as devices take them.
pub fn host_all(tensors: &Tensors) -> HostTensors {
    tensors.iter().map(|(name, tensor)| (name.clone(), host(tensor))).collect()
}

/// A device's outputs as the interpreter has values.
///
/// # Errors
/// Never for a device's own outputs.
pub fn from_host(tensors: &HostTensors) -> Result<Tensors> {
    let one = |t: &HostTensor| Tensor::from_bytes(t.dtype(), t.shape(), t.bytes());
    tensors.iter().map(|(name, tensor)| Ok((name.clone(), one(tensor)?))).collect()
}

/// Part of a pattern.
enum Piece {
    Text,
    One,
    Set { ranges: Vec<(char, char)>, is_negated: bool },
    Char(char),
}

impl Piece {
    fn takes(&self, c: char) -> bool {
        match self {
            Piece::Text => false,
            Piece::One => true,
            Piece::Set { ranges, is_negated } => {
                ranges.iter().any(|(low, high)| (low..=high).contains(&&c)) != *is_negated
            }
            Piece::Char(wanted) => *wanted == c,
        }
    }
}

/// True when `name` matches `pattern` as in a shell: `*` any text, `?` one character, `[a-c]` one of these, `[!a-c]` not.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pieces(pattern), name.chars().collect::<Vec<char>>());
    // Where the last star stood and how much of the name it has taken.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(Piece::Text) => {
                star = Some((p, n));
                p += 1;
            }
            Some(piece) if piece.takes(name[n]) => {
                p += 1;
                n += 1;
            }
            Some(_) | None => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|piece| matches!(piece, Piece::Text))
}

fn pieces(pattern: &str) -> Vec<Piece> {
    let mut rest = pattern;
    let mut pieces = Vec::new();
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        // A bracket that is never closed stands for itself.
        let set = if c == '[' { rest.split_once(']') } else { None };
        pieces.push(match (c, set) {
            ('*', _) => Piece::Text,
            ('?', _) => Piece::One,
            (_, Some((inside, after))) => {
                rest = after;
                set_of(inside)
            }
            (c, None) => Piece::Char(c),
        });
    }
    pieces
}

fn set_of(inside: &str) -> Piece {
    let (is_negated, inside) = inside.strip_prefix('!').map_or((false, inside), |inside| (true, inside));
    let chars: Vec<char> = inside.chars().collect();
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let is_range = chars.get(at + 1) == Some(&'-') && at + 2 < chars.len();
        let last = if is_range { at + 2 } else { at };
        ranges.push((chars[at], chars[last]));
        at = last + 1;
    }
    Piece::Set { ranges, is_negated }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_names() {
        let rows = [
            ("a*", "a_token", true),
            ("a*", "b_a", false),
            ("*eval*", "c_full_eval_1", true),
            ("c_full_eval_?", "c_full_eval_1", true),
            ("c_full_eval_?", "c_full_eval_12", false),
            ("*_1*2", "x_1_1_2", true),
            ("*", "", true),
            ("", "x", false),
            ("[ace]_*", "c_full", true),
            ("[a-c]_*", "d_full", false),
            ("[!a-c]_*", "d_full", true),
            ("[a", "[a", true),
        ];
        for (pattern, name, expected) in rows {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn only_one_letter_before_the_bar_names_a_kind() {
        assert_eq!(letter("c_full_eval"), Some('c'));
        assert_eq!(letter("full_weights"), None);
        assert_eq!(letter("weights"), None);
        assert_eq!(letter("_x"), None);
    }
}
