//! Which tensors does a PyTorch `.bin` file hold, and where do their bytes lie?
//!
//! A zip archive of a pickled state dict and one stored file for each storage. Law: nothing is run and nothing copied;
//! a tensor is a range of the mapped file, or strides into one.

mod pickle;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::Range;

use safetensors::Dtype;
use zip::{CompressionMethod, ZipArchive};

use pickle::{PickledTensor, state_dict};

/// Where the format begins: a zip archive.
pub(crate) const MAGIC: &[u8] = b"PK\x03\x04";
/// Where the form before PyTorch 1.6 begins: a pickled number of ten bytes.
pub(crate) const OLD_MAGIC: &[u8] = b"\x80\x02\x8a\x0a";

/// Largest pickled part that is read: a model of a thousand layers needs less than one MiB, and each byte of a hostile
/// one may cost some forty in memory.
const MAX_PICKLE_BYTES: usize = 16 << 20;

/// All tensors together may be as many times as large as the file: some share a storage, such as tied tables.
const MAX_SHARED: usize = 4;

/// Why a `.bin` file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TorchError {
    /// The form before PyTorch 1.6.
    #[error(
        "it has the form of PyTorch before 1.6; convert it with Python: \
         torch.save(torch.load(FILE, map_location=\"cpu\"), FILE)"
    )]
    Old,
    /// The archive is cut or broken.
    #[error("it is not a whole zip archive: {detail}")]
    Zip {
        /// What the reader said.
        detail: String,
    },
    /// A file of the archive that is packed or missing.
    #[error("its part `{name}` {what}")]
    Member {
        /// The file.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The pickled part breaks the format's rules.
    #[error("its pickled part is broken at byte {offset}: {what}")]
    Pickle {
        /// Where.
        offset: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// The pickled part does something state dicts do not.
    #[error("its pickled part has opcode {opcode:#04x} at byte {offset}, which no state dict needs")]
    Opcode {
        /// Where.
        offset: usize,
        /// Which.
        opcode: u8,
    },
    /// The pickled part names something that is not weights.
    #[error(
        "it holds `{name}` beside plain tensors, which is never loaded; save the weights alone with Python: \
         torch.save(model.state_dict(), FILE)"
    )]
    Global {
        /// Module and name.
        name: String,
    },
    /// No dict of tensors.
    #[error("it holds no state dict: a dict of tensors by name")]
    NoStateDict,
    /// A tensor that reaches beyond its storage.
    #[error("tensor `{name}` reaches beyond its storage")]
    Outside {
        /// The tensor.
        name: String,
    },
    /// Views that repeat elements, which would be larger than the file once written out.
    #[error("tensor `{name}` repeats elements; save it with .contiguous()")]
    Repeats {
        /// The tensor.
        name: String,
    },
    /// Numbers in the other byte order.
    #[error("its numbers are big endian, which is unsupported")]
    BigEndian,
}

/// Where a tensor's elements lie in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Bytes of the elements, or of the storage when `strides` are given.
    pub(crate) bytes: Range<usize>,
    /// First element and distance of neighbours along each axis, in elements; `None` when they lie in C order.
    pub(crate) strides: Option<(usize, Vec<usize>)>,
}

/// All tensors of a mapped file.
pub(crate) fn read(map: &[u8]) -> Result<Vec<Found>, TorchError> {
    if map.starts_with(OLD_MAGIC) {
        return Err(TorchError::Old);
    }
    let members = members(map)?;
    let named = |end: &str| members.keys().find(|name| name.strip_suffix(end).is_some_and(|p| !p.contains('/')));
    let missing = |name: &str, what| TorchError::Member { name: name.to_owned(), what };
    let pickled = named("/data.pkl").ok_or_else(|| missing("data.pkl", "is missing: it was not made by PyTorch"))?;
    let folder = pickled.trim_end_matches("data.pkl").to_owned();
    if let Some(order) = members.get(&format!("{folder}byteorder"))
        && map[order.clone()].starts_with(b"big")
    {
        return Err(TorchError::BigEndian);
    }
    if members[pickled].len() > MAX_PICKLE_BYTES {
        return Err(missing(pickled, "is larger than that of any state dict"));
    }
    let mut all = Vec::new();
    let (mut gathered_bytes, mut named_bytes) = (0usize, 0usize);
    for (name, tensor) in state_dict(&map[members[pickled].clone()])? {
        let key = format!("{folder}data/{}", tensor.storage.key);
        let storage = members.get(&key).ok_or_else(|| missing(&key, "is missing"))?;
        let found = place(name, tensor, storage)?;
        let n_bytes = found.shape.iter().product::<usize>() * found.dtype.bitsize() / 8;
        named_bytes = named_bytes.saturating_add(n_bytes);
        gathered_bytes = gathered_bytes.saturating_add(if found.strides.is_some() { n_bytes } else { 0 });
        if gathered_bytes > map.len() || named_bytes / MAX_SHARED > map.len() {
            return Err(TorchError::Repeats { name: found.name });
        }
        all.push(found);
    }
    Ok(all)
}

/// The stored files of the archive, by name.
fn members(map: &[u8]) -> Result<BTreeMap<String, Range<usize>>, TorchError> {
    let broken = |error: zip::result::ZipError| TorchError::Zip { detail: error.to_string() };
    let mut archive = ZipArchive::new(Cursor::new(map)).map_err(broken)?;
    let mut members = BTreeMap::new();
    for index in 0..archive.len() {
        let member = archive.by_index_raw(index).map_err(broken)?;
        let name = member.name().map_err(broken)?.into_owned();
        let is_plain = member.compression() == CompressionMethod::Stored && !member.encrypted();
        if !is_plain || member.size() != member.compressed_size() {
            return Err(TorchError::Member { name, what: "is packed; PyTorch stores its parts as they are" });
        }
        let start = member.data_start().and_then(|start| usize::try_from(start).ok());
        let range = start.and_then(|start| Some(start..start.checked_add(usize::try_from(member.size()).ok()?)?));
        let range = range.filter(|range| range.end <= map.len());
        let outside = || TorchError::Member { name: name.clone(), what: "reaches beyond the file" };
        members.insert(name.clone(), range.ok_or_else(outside)?);
    }
    Ok(members)
}

/// Checks a tensor against its storage's bytes.
fn place(name: String, tensor: PickledTensor, storage: &Range<usize>) -> Result<Found, TorchError> {
    let PickledTensor { storage: stated, offset, shape, strides } = tensor;
    let dtype = stated.dtype;
    let size = dtype.bitsize() / 8;
    let outside = || TorchError::Outside { name: name.clone() };
    let stored = stated.n_elems.checked_mul(size).filter(|&bytes| bytes <= storage.len());
    stored.ok_or_else(outside)?;
    let n_elems = shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent)).ok_or_else(outside)?;
    n_elems.checked_mul(size).ok_or_else(outside)?;
    if n_elems == 0 {
        return Ok(Found { name, dtype, shape, bytes: storage.start..storage.start, strides: None });
    }
    let reach = shape
        .iter()
        .zip(&strides)
        .try_fold(offset, |at, (&extent, &stride)| at.checked_add((extent - 1).checked_mul(stride)?));
    if reach.is_none_or(|last| last >= stated.n_elems) {
        return Err(outside());
    }
    if is_c_order(&shape, &strides) {
        let start = storage.start + offset * size;
        return Ok(Found { name, dtype, shape, bytes: start..start + n_elems * size, strides: None });
    }
    if n_elems > stated.n_elems {
        return Err(TorchError::Repeats { name });
    }
    Ok(Found { name, dtype, shape, bytes: storage.clone(), strides: Some((offset, strides)) })
}

fn is_c_order(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(&extent, &stride)| {
        let fits = extent == 1 || stride == expected;
        expected *= extent;
        fits
    })
}

/// Elements of a strided view in C order.
pub(crate) fn gather(storage: &[u8], shape: &[usize], (offset, strides): (usize, &[usize]), size: usize) -> Vec<u8> {
    let n_elems: usize = shape.iter().product();
    let mut out = Vec::with_capacity(n_elems * size);
    let mut index = vec![0usize; shape.len()];
    let mut at = offset;
    for _ in 0..n_elems {
        out.extend_from_slice(&storage[at * size..][..size]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= index[axis] * strides[axis];
            index[axis] = 0;
        }
    }
    out
}
