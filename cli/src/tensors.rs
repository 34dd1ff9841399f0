//! How do .npy files become tensors, and shapes symbols?

use anyhow::{Context, Result, bail};
use enel_interp::Tensor;
use enel_io::npy::{NpyArray, NpyData};
use enel_ir::{DType, Graph, TensorType};
use std::collections::BTreeMap;
use std::path::Path;

/// Reads an array and gives it the dtype of the input it is for: floats convert to floats, integers to integers.
///
/// # Errors
/// Unreadable files, and kinds that do not fit.
pub fn read(path: &Path, ty: &TensorType) -> Result<Tensor> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let array = NpyArray::parse(&bytes).with_context(|| format!("{} is no .npy array", path.display()))?;
    let shape = array.shape().to_vec();
    let tensor = if ty.dtype.is_float() {
        let values: Vec<f64> = array.to_f32().into_iter().map(f64::from).collect();
        Tensor::from_f64(ty.dtype, &shape, &values)?
    } else {
        let values =
            integers(&array).with_context(|| format!("{} holds floats, {} wanted", path.display(), ty.dtype))?;
        Tensor::new(ty.dtype, &shape, enel_interp::Values::I(values))?
    };
    Ok(tensor)
}

fn integers(array: &NpyArray) -> Option<Vec<i64>> {
    let widen = |it: &mut dyn Iterator<Item = i64>| Some(it.collect());
    match array.data() {
        NpyData::Bool(v) => widen(&mut v.iter().map(|&x| i64::from(x))),
        NpyData::I8(v) => widen(&mut v.iter().map(|&x| i64::from(x))),
        NpyData::U8(v) => widen(&mut v.iter().map(|&x| i64::from(x))),
        NpyData::I16(v) => widen(&mut v.iter().map(|&x| i64::from(x))),
        NpyData::U16(v) => widen(&mut v.iter().map(|&x| i64::from(x))),
        NpyData::I32(v) => widen(&mut v.iter().map(|&x| i64::from(x))),
        NpyData::U32(v) => widen(&mut v.iter().map(|&x| i64::from(x))),
        NpyData::I64(v) => widen(&mut v.iter().copied()),
        NpyData::U64(v) => v.iter().map(|&x| i64::try_from(x).ok()).collect(),
        NpyData::F16(_) | NpyData::F32(_) | NpyData::F64(_) => None,
    }
}

/// Writes a tensor as .npy; bf16 is widened to f32, which .npy has.
///
/// # Errors
/// What writing the file gives.
pub fn write(path: &Path, tensor: &Tensor) -> Result<()> {
    let data = match tensor.dtype {
        DType::F32 | DType::BF16 | DType::F16 => NpyData::F32(tensor.to_f32()),
        DType::I64 => NpyData::I64(tensor.to_i64().unwrap_or_default().to_vec()),
        DType::I32 => NpyData::I32(tensor.to_i64().unwrap_or_default().iter().map(|&x| x as i32).collect()),
        DType::U32 => NpyData::U32(tensor.to_i64().unwrap_or_default().iter().map(|&x| x as u32).collect()),
        DType::U8 => NpyData::U8(tensor.to_i64().unwrap_or_default().iter().map(|&x| x as u8).collect()),
        DType::Bool => NpyData::Bool(tensor.to_i64().unwrap_or_default().iter().map(|&x| x != 0).collect()),
    };
    let array = NpyArray::new(tensor.shape.clone(), data).context("a tensor has as many values as its shape says")?;
    array.write(path).with_context(|| format!("cannot write {}", path.display()))
}

/// Finds symbol values that make the declared shapes fit the given tensors; `fixed` ones are taken as they are.
///
/// # Errors
/// Ranks that differ, extents that contradict each other, symbols nothing decides.
pub fn bind_symbols(graph: &Graph, fixed: &[Option<i64>], tensors: &BTreeMap<String, Tensor>) -> Result<Vec<i64>> {
    let mut values = fixed.to_vec();
    for (id, name, _) in graph.inputs() {
        let Some(tensor) = tensors.get(name) else { continue };
        let ty = graph.ty(id);
        if tensor.shape.len() != ty.rank() {
            bail!("`{name}` is {}, the file has rank {}", ty.display(&graph.symbols), tensor.shape.len());
        }
        for (dim, &extent) in ty.shape.iter().zip(&tensor.shape) {
            // An extent that is one symbol, alone, decides it.
            let mut terms = dim.terms();
            if let (Some((1, [symbol])), None) = (terms.next(), terms.next()) {
                let slot = &mut values[symbol.0 as usize];
                match slot {
                    None => *slot = Some(extent as i64),
                    Some(have) if *have == extent as i64 => {}
                    Some(have) => {
                        bail!("`{name}`: {} is {have} elsewhere and {extent} here", dim.display(&graph.symbols))
                    }
                }
            }
        }
    }
    let named = graph.symbols.iter().zip(&values);
    let open: Vec<&str> = named.filter(|(_, v)| v.is_none()).map(|(s, _)| s.name.as_str()).collect();
    if !open.is_empty() {
        bail!("no input decides the symbol(s) {}; give them as --sym NAME=VALUE", open.join(", "));
    }
    let values: Vec<i64> = values.into_iter().flatten().collect();
    graph.symbols.check(&values)?;
    Ok(values)
}
