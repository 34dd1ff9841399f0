//! What is an argument on the command line? Text in, values out, arrays from files.

use crate::Usage;
use anyhow::Result;
use enel_emulate::{Array, ArrayType, Fill, MapElement, MapOf, Swizzle, Value};
use enel_io::npy::{NpyArray, NpyData};
use std::path::{Path, PathBuf};

use super::full;

/// An argument as the command line gives it; arrays are read later.
#[derive(Clone, Debug)]
pub enum Given {
    /// Read from a file.
    In(PathBuf),
    /// Written to a file.
    Out(ArrayType, usize, PathBuf),
    /// Read from one and written to another.
    InOut(PathBuf, PathBuf),
    /// The bytes of a file's array, passed by value.
    Bytes(PathBuf),
    /// No array.
    Plain(Value),
}

pub(super) fn extents(text: &str) -> Result<[u32; 3], String> {
    let mut out = [1; 3];
    let parts: Vec<&str> = text.split(',').collect();
    if parts.len() > 3 {
        return Err(format!("{} numbers, at most 3 are expected", parts.len()));
    }
    for (slot, part) in out.iter_mut().zip(parts) {
        *slot = part.trim().parse().map_err(|e| format!("`{part}`: {e}"))?;
    }
    Ok(out)
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|e| format!("`{text}`: {e}"))
}

pub(super) fn argument(text: &str) -> Result<Given, String> {
    let (kind, rest) = text.split_once(':').ok_or("expected KIND:..., such as in:x.npy or i32:5")?;
    Ok(match kind {
        "in" => Given::In(rest.into()),
        "out" => {
            let mut parts = rest.splitn(3, ':');
            let (Some(ty), Some(count), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                return Err("expected out:DTYPE:COUNT:PATH.npy".into());
            };
            let ty = ArrayType::from_name(ty).ok_or_else(|| format!("`{ty}` is no element type"))?;
            Given::Out(ty, number(count)?, path.into())
        }
        "inout" => {
            let (from, to) = rest.rsplit_once(':').ok_or("expected inout:PATH.npy:OUT.npy")?;
            Given::InOut(from.into(), to.into())
        }
        "i32" => Given::Plain(Value::I32(number(rest)?)),
        "u32" => Given::Plain(Value::U32(number(rest)?)),
        "i64" => Given::Plain(Value::I64(number(rest)?)),
        "u64" => Given::Plain(Value::U64(number(rest)?)),
        "f32" => Given::Plain(Value::F32(number(rest)?)),
        "f64" => Given::Plain(Value::F64(number(rest)?)),
        "bytes" => Given::Bytes(rest.into()),
        "tmap" => Given::Plain(Value::Map(map(rest)?)),
        _ => return Err(format!("`{kind}` is none of in, out, inout, i32, u32, i64, u64, f32, f64, bytes, tmap")),
    })
}

/// `ARG_INDEX:DTYPE:dims=..:strides=..:box=..:swizzle=..`
fn map(text: &str) -> Result<MapOf, String> {
    let mut parts = text.split(':');
    let argument = number(parts.next().unwrap_or(""))?;
    let name = parts.next().ok_or("expected tmap:ARG_INDEX:DTYPE:dims=..:box=..")?;
    let element = match name {
        "u8" => MapElement::U8,
        "u16" => MapElement::U16,
        "u32" => MapElement::U32,
        "i32" => MapElement::I32,
        "u64" => MapElement::U64,
        "i64" => MapElement::I64,
        "f16" => MapElement::F16,
        "bf16" => MapElement::Bf16,
        "f32" => MapElement::F32,
        "tf32" => MapElement::Tf32,
        "f64" => MapElement::F64,
        _ => return Err(format!("`{name}` is no element type of a tensor map")),
    };
    let mut made = MapOf {
        argument,
        element,
        dims: Vec::new(),
        strides_bytes: Vec::new(),
        box_dims: Vec::new(),
        elem_strides: Vec::new(),
        swizzle: Swizzle::None,
        fill: Fill::Zeros,
    };
    for part in parts {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("`{part}` is not KEY=VALUE"))?;
        match key {
            "dims" => made.dims = list(value)?,
            "strides" => made.strides_bytes = list(value)?,
            "box" => made.box_dims = list(value)?,
            "elem" => made.elem_strides = list(value)?,
            "swizzle" => {
                made.swizzle = match value {
                    "0" | "none" => Swizzle::None,
                    "32" => Swizzle::B32,
                    "64" => Swizzle::B64,
                    "128" => Swizzle::B128,
                    _ => return Err(format!("swizzle `{value}` is none of 0, 32, 64, 128")),
                }
            }
            "fill" => {
                made.fill = match value {
                    "zero" => Fill::Zeros,
                    "nan" => Fill::Nan,
                    _ => return Err(format!("fill `{value}` is neither zero nor nan")),
                }
            }
            _ => return Err(format!("`{key}` is none of dims, strides, box, swizzle, elem, fill")),
        }
    }
    if made.dims.is_empty() || made.box_dims.is_empty() {
        return Err("a tensor map needs dims=.. and box=..".into());
    }
    Ok(made)
}

fn list<T: std::str::FromStr>(text: &str) -> Result<Vec<T>, String>
where
    T::Err: std::fmt::Display,
{
    text.split(',').filter(|part| !part.is_empty()).map(|part| number(part.trim())).collect()
}

impl Given {
    /// The file it is written to.
    pub(super) fn target(&self) -> Option<&Path> {
        match self {
            Given::Out(.., path) | Given::InOut(_, path) => Some(path),
            Given::In(_) | Given::Bytes(_) | Given::Plain(_) => None,
        }
    }
}

/// Values of the arguments, and the shape of each array that was read.
pub(super) fn read(given: &[Given]) -> Result<(Vec<Value>, Vec<Vec<usize>>)> {
    let mut values = Vec::with_capacity(given.len());
    let mut shapes = Vec::with_capacity(given.len());
    for arg in given {
        let (value, shape) = match arg {
            Given::In(path) => {
                let (array, shape) = read_array(path)?;
                (Value::In(array), shape)
            }
            Given::InOut(path, _) => {
                let (array, shape) = read_array(path)?;
                (Value::InOut(array), shape)
            }
            Given::Out(ty, count, _) => (Value::Out(*ty, *count), vec![*count]),
            Given::Bytes(path) => (Value::Bytes(read_array(path)?.0.bytes), Vec::new()),
            Given::Plain(value) => (value.clone(), Vec::new()),
        };
        values.push(value);
        shapes.push(shape);
    }
    Ok((values, shapes))
}

fn read_array(path: &Path) -> Result<(Array, Vec<usize>)> {
    let bad = |error: &dyn std::error::Error| Usage(format!("cannot read {}: {}", path.display(), full(error)));
    let bytes = std::fs::read(path).map_err(|e| bad(&e))?;
    let array = NpyArray::parse(&bytes).map_err(|e| bad(&e))?;
    let read = match array.data() {
        NpyData::Bool(v) => Array::from_u8(&v.iter().map(|&b| u8::from(b)).collect::<Vec<_>>()),
        NpyData::U8(v) => Array::from_u8(v),
        NpyData::U16(v) => Array::from_u16(v),
        NpyData::U32(v) => Array::from_u32(v),
        NpyData::U64(v) => Array::from_u64(v),
        NpyData::I8(v) => Array { ty: ArrayType::I8, bytes: v.iter().map(|&x| x as u8).collect() },
        NpyData::I16(v) => Array { ty: ArrayType::I16, bytes: v.iter().flat_map(|x| x.to_le_bytes()).collect() },
        NpyData::I32(v) => Array::from_i32(v),
        NpyData::I64(v) => Array::from_i64(v),
        NpyData::F16(v) => Array { ty: ArrayType::F16, bytes: v.iter().flat_map(|x| x.to_le_bytes()).collect() },
        NpyData::F32(v) => Array::from_f32(v),
        NpyData::F64(v) => Array::from_f64(v),
    };
    Ok((read, array.shape().to_vec()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    #[test]
    fn arguments_are_read_or_refused() {
        assert!(matches!(argument("i32:-5").unwrap(), Given::Plain(Value::I32(-5))));
        assert!(matches!(argument("out:bf16:12:c.npy").unwrap(), Given::Out(ArrayType::U16, 12, _)));
        let Given::InOut(from, to) = argument("inout:a:b.npy:c.npy").unwrap() else { panic!() };
        assert_eq!((from, to), ("a:b.npy".into(), "c.npy".into()));
        let Given::Plain(Value::Map(map)) =
            argument("tmap:2:bf16:dims=64,256:strides=128:box=64,32:swizzle=128:fill=nan").unwrap()
        else {
            panic!()
        };
        assert_eq!((map.argument, map.dims, map.strides_bytes), (2, vec![64, 256], vec![128]));
        assert_eq!((map.swizzle, map.fill, map.box_dims), (Swizzle::B128, Fill::Nan, vec![64, 32]));
        for bad in ["x", "in", "i32:1.5", "out:f32:x:y", "out:f99:1:y", "tmap:0:f32:dims=4", "tmap:0:f32:box", "z:1"] {
            assert!(argument(bad).is_err(), "{bad}");
        }
        assert_eq!(extents("3,2").unwrap(), [3, 2, 1]);
        assert!(extents("1,2,3,4").is_err() && extents("a").is_err());
    }
}
