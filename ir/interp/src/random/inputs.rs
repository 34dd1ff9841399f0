//! What do inputs of a random graph hold? Values that keep the facts the graph was drawn under.
//!
//! Law: the part of an input's name after the last dot says how it is filled, so that a graph printed and parsed again
//! is filled alike; other names are filled by dtype.

use super::fact::Fact;
use super::rng::Rng;
use crate::tensor::{Tensor, Values};
use enel_ir::{Graph, Op};
use enel_types::{DType, DimError};
use std::collections::BTreeMap;

/// How an input is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Floats: any in [-2, 2].
    Smooth,
    /// Floats: multiples of 1/4 in [-2, 2].
    Grid,
    /// Integers: -3..=9, not negative for unsigned; bool: either.
    Small,
    /// Integers: the whole dtype.
    Wide,
    /// Points on a coarse lattice, so that distances tie and points repeat.
    Lattice,
    /// Points anywhere in [-1, 1].
    Cloud,
    /// i32 0..=2, the first one 0.
    Label,
}

const FILLS: [Fill; 7] = [Fill::Smooth, Fill::Grid, Fill::Small, Fill::Wide, Fill::Lattice, Fill::Cloud, Fill::Label];

impl Fill {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Fill::Smooth => "smooth",
            Fill::Grid => "grid",
            Fill::Small => "small",
            Fill::Wide => "wide",
            Fill::Lattice => "lattice",
            Fill::Cloud => "cloud",
            Fill::Label => "label",
        }
    }

    pub(crate) fn fact(self, dtype: DType) -> Fact {
        match self {
            Fill::Smooth => Fact::smooth(-2.0, 2.0, 0.0),
            Fill::Grid => Fact::exact(-2.0, 2.0, 2),
            Fill::Small if matches!(dtype, DType::Bool) => Fact::full(dtype),
            Fill::Small if matches!(dtype, DType::U8 | DType::U32) => Fact::exact(0.0, 9.0, 0),
            Fill::Small => Fact::exact(-3.0, 9.0, 0),
            Fill::Wide => Fact::full(dtype),
            Fill::Lattice | Fill::Cloud => cloud_fact(self),
            Fill::Label => Fact::exact(0.0, 2.0, 0),
        }
    }

    fn of(name: &str, dtype: DType) -> Fill {
        let word = name.rsplit('.').next().unwrap_or(name);
        let default = if dtype.is_float() { Fill::Smooth } else { Fill::Small };
        let floats = |f: &Fill| matches!(f, Fill::Smooth | Fill::Grid | Fill::Lattice | Fill::Cloud);
        let named = FILLS.into_iter().find(|f| f.name() == word);
        named.filter(|f| floats(f) == dtype.is_float()).unwrap_or(default)
    }
}

/// Coordinates of a point cloud.
pub(crate) fn cloud_fact(fill: Fill) -> Fact {
    if fill == Fill::Lattice { Fact::exact(-1.0, 1.0, 1) } else { Fact::smooth(-1.0, 1.0, 0.0) }
}

/// A tensor for every input of `graph`, the same for the same seed.
///
/// # Errors
/// [`DimError`] when `symbols` are not values for the symbols of `graph`.
pub fn random_inputs(graph: &Graph, symbols: &[i64], seed: u64) -> Result<BTreeMap<String, Tensor>, DimError> {
    graph.symbols.check(symbols)?;
    let mut rng = Rng::new(seed ^ 0x5eed_1e55);
    let mut inputs = BTreeMap::new();
    for id in graph.ids() {
        let Op::Input { name, ty, .. } = &graph.node(id).op else { continue };
        let mut shape = Vec::with_capacity(ty.rank());
        for d in &ty.shape {
            shape.push(usize::try_from(d.eval(symbols)?).map_err(|_| DimError::Overflow)?);
        }
        let n = shape.iter().product::<usize>();
        let fill = Fill::of(name, ty.dtype);
        let values = if ty.dtype.is_float() {
            Values::F((0..n).map(|_| ty.dtype.round(float(fill, &mut rng))).collect())
        } else {
            Values::I((0..n).map(|i| int(fill, ty.dtype, i, &mut rng)).collect())
        };
        inputs.insert(name.clone(), Tensor { dtype: ty.dtype, shape, values });
    }
    Ok(inputs)
}

fn float(fill: Fill, rng: &mut Rng) -> f64 {
    match fill {
        Fill::Smooth | Fill::Small | Fill::Wide | Fill::Label => rng.unit() * 4.0 - 2.0,
        Fill::Grid => rng.between(-8, 8) as f64 / 4.0,
        Fill::Lattice => rng.between(-2, 2) as f64 / 2.0,
        Fill::Cloud => rng.unit() * 2.0 - 1.0,
    }
}

fn int(fill: Fill, dtype: DType, at: usize, rng: &mut Rng) -> i64 {
    match (fill, dtype) {
        (Fill::Label, _) if at == 0 => 0,
        (Fill::Label, _) => rng.between(0, 2),
        (_, DType::Bool) => rng.between(0, 1),
        (Fill::Wide, _) => dtype.wrap(rng.next() as i64),
        (_, DType::U8 | DType::U32) => rng.between(0, 9),
        (_, DType::I64 | DType::I32 | DType::F32 | DType::BF16 | DType::F16) => rng.between(-3, 9),
    }
}
