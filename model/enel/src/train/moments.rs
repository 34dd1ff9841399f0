//! How are the two means of a weight kept between steps? In f32, in bf16, or as codes of 8 bits in blocks.
//!
//! Law: a step moves its weight by means in f32, and only what it leaves behind is narrow. What is narrow is rounded by
//! chance: a mean that keeps 0.999 of itself moves by less than half a digit a step, and would stand still if rounded to
//! nearest. The chances follow the seed and the step, so a run that goes on rounds as it would have.
//! **Source** for rounding by chance: Gupta et al. 2015, arXiv:1502.02551, section 3; for 8 bits in blocks with a scale
//! each: Dettmers et al. 2022, arXiv:2110.02861, sections 1.2 and 2.1. See [`Moments`] for the laws of the codes.

use super::draws::{BASE, Draws, n_rows};
use super::optimizer::{FIRST, SECOND, towards};
use enel_ir::{BinaryOp, BuildError, DType, Dim, Graph, InputKind, NodeId, ReduceOp, Scalar, TensorType, UnaryOp};
use serde::{Deserialize, Serialize};

type Built = Result<NodeId, BuildError>;

/// How the two means of a weight are kept: 8, 4, or 2 bytes and a 32nd for each value of it.
///
/// A block of 8-bit codes has one scale, the size of its largest value. The first mean has a sign and is
/// `scale (k / 127)^3` for a code `k + 128`; the second is `scale (c / 255)^8` for a code `c`, so that its root, by which
/// a step divides, is a fourth power. Steps between neighbouring codes as a part of the value, where it is a part of the
/// block's largest:
///
/// | part of the largest | first mean | root of the second |
/// |--------------------:|-----------:|-------------------:|
/// |                   1 |        2 % |                2 % |
/// |                 0.1 |        5 % |                3 % |
/// |                0.01 |       11 % |                5 % |
/// |               0.001 |       25 % |                9 % |
/// |              0.0001 |       60 % |               17 % |
/// |            smallest |     4.9e-7 |            2.4e-10 |
///
/// Even steps would leave nothing of what is below a 127th of the largest. A second mean above 0 never gets the code 0:
/// a root of 0 would make a step as long as `1 / eps`. Chance is even between codes, not between values, and powers are
/// convex: means come out larger, by a part of at most 1 in `k` and 3.5 in `c` where they settle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Moments {
    /// 32 bits.
    #[default]
    #[serde(rename = "f32")]
    F32,
    /// 16 bits, rounded by chance.
    #[serde(rename = "bf16")]
    Bf16,
    /// 8 bits in blocks of 256, rounded by chance.
    #[serde(rename = "8bit")]
    Blocks8,
}

/// Values that share a scale. **Source** Dettmers et al. take 2048; fewer keep outliers to themselves, at a 64th of a byte.
const BLOCK: i64 = BASE;
/// How the names of the scales of blocks begin.
const SCALES: [&str; 2] = ["adam.m_scale.", "adam.v_scale."];
/// The code of 0 of a first mean, and the largest on either side of it.
const MIDDLE: f64 = 128.0;
const SIDE: f64 = 127.0;
/// The largest code of a second mean.
const TOP: f64 = 255.0;

/// Of derivatives, or of their squares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    First,
    Second,
}

/// A mean as a step finds it.
pub(super) struct Mean<'a> {
    order: Order,
    /// Name and type of its weight.
    weight: (&'a str, TensorType),
    beta: f64,
    /// Its state: values, or codes.
    state: NodeId,
    /// `[blocks, 1]`, where the state has codes.
    scale: Option<NodeId>,
}

impl Moments {
    /// What the states of one mean of a weight are shaped as.
    fn shape(self, weight: &TensorType) -> Vec<Dim> {
        match self {
            Moments::F32 | Moments::Bf16 => weight.shape.clone(),
            Moments::Blocks8 => {
                vec![Dim::constant(n_rows(weight.elems().as_const().unwrap_or(0))), Dim::constant(BLOCK)]
            }
        }
    }

    /// What rounding both means of these weights takes; nothing in f32.
    pub(super) fn draws(
        self,
        g: &mut Graph,
        weights: &[(String, TensorType)],
        by: (u64, NodeId),
    ) -> Result<Option<Draws>, BuildError> {
        let rows = weights.iter().map(|(_, ty)| 2 * n_rows(ty.elems().as_const().unwrap_or(0))).sum();
        if self == Moments::F32 { Ok(None) } else { Draws::new(g, by, rows).map(Some) }
    }

    /// The states of a mean of a weight.
    pub(super) fn mean<'a>(
        self,
        g: &mut Graph,
        (name, ty): (&'a str, &TensorType),
        (order, beta): (Order, f64),
    ) -> Result<Mean<'a>, BuildError> {
        let dtype = match self {
            Moments::F32 => DType::F32,
            Moments::Bf16 => DType::BF16,
            Moments::Blocks8 => DType::U8,
        };
        let shape = self.shape(ty);
        let scale = match self {
            Moments::F32 | Moments::Bf16 => None,
            Moments::Blocks8 => {
                let per_block = TensorType::new(DType::F32, vec![shape[0].clone(), Dim::constant(1)]);
                Some(g.input(&format!("{}{name}", SCALES[order as usize]), InputKind::State, per_block)?)
            }
        };
        let state = g.input(&order.state(name), InputKind::State, TensorType::new(dtype, shape))?;
        Ok(Mean { order, weight: (name, ty.clone()), beta, state, scale })
    }
}

impl Order {
    fn state(self, weight: &str) -> String {
        let prefix = match self {
            Order::First => FIRST,
            Order::Second => SECOND,
        };
        format!("{prefix}{weight}")
    }
}

impl Mean<'_> {
    /// Its next value, by the clipped derivative, in the shape of the weight.
    pub(super) fn next(&self, g: &mut Graph, grad: NodeId) -> Built {
        let old = match self.scale {
            None => g.cast(self.state, DType::F32)?,
            Some(scale) => {
                let all = g.ty(self.state).shape.clone();
                let scale = g.broadcast(scale, all)?;
                let (codes, scale) = (self.unblocked(g, self.state)?, self.unblocked(g, scale)?);
                self.decoded(g, codes, scale)?
            }
        };
        self.follow(g, old, grad)
    }

    /// Makes `next` the value of its state.
    pub(super) fn store(
        &self,
        g: &mut Graph,
        (next, grad): (NodeId, NodeId),
        draws: Option<&mut Draws>,
    ) -> Result<(), BuildError> {
        let name = self.order.state(self.weight.0);
        let Some(draws) = draws else {
            g.output_state(&name, next, self.state);
            return Ok(());
        };
        let shape = g.ty(self.state).shape.clone();
        let u = draws.take(g, &shape)?;
        let Some(scale) = self.scale else {
            let narrow = stochastic_bf16(g, next, u)?;
            g.output_state(&name, narrow, self.state);
            return Ok(());
        };
        // Once more from the start, in blocks: kernels of a few operations again, instead of a buffer of f32.
        let (old, grad) = (self.decoded(g, self.state, scale)?, self.blocked(g, grad)?);
        let next = self.follow(g, old, grad)?;
        let size = if self.order == Order::First { g.unary(UnaryOp::Abs, next)? } else { next };
        let largest = g.reduce(ReduceOp::Max, size, &[1], true)?;
        let codes = self.encoded(g, (next, largest), u)?;
        g.output_state(&name, codes, self.state);
        // Old codes are read by old scales up to here, so this is a copy at the end: 4 bytes a block.
        g.output_state(&format!("{}{}", SCALES[self.order as usize], self.weight.0), largest, scale);
        Ok(())
    }

    fn follow(&self, g: &mut Graph, old: NodeId, grad: NodeId) -> Built {
        let new = match self.order {
            Order::First => grad,
            Order::Second => g.mul(grad, grad)?,
        };
        towards(g, old, Some(new), self.beta)
    }

    /// Values of codes, by scales that broadcast to them.
    fn decoded(&self, g: &mut Graph, codes: NodeId, scale: NodeId) -> Built {
        let code = g.cast(codes, DType::F32)?;
        match self.order {
            Order::First => {
                let (middle, unit) = (g.scalar(MIDDLE)?, g.scalar(SIDE.powi(-3))?);
                let k = g.sub(code, middle)?;
                let square = g.mul(k, k)?;
                let cube = g.mul(square, k)?;
                let unit = g.mul(scale, unit)?;
                g.mul(cube, unit)
            }
            Order::Second => {
                let (unit, eight) = (g.scalar(1.0 / TOP)?, g.scalar(8.0)?);
                let part = g.mul(code, unit)?;
                let part = g.binary(BinaryOp::Pow, part, eight)?;
                g.mul(part, scale)
            }
        }
    }

    /// Codes of values by their blocks' largest sizes, rounded up where the draw `u` reaches.
    fn encoded(&self, g: &mut Graph, (values, largest): (NodeId, NodeId), u: NodeId) -> Built {
        // A block of zeros has no scale.
        let least = g.scalar(f64::from(f32::MIN_POSITIVE))?;
        let divisor = g.binary(BinaryOp::Max, largest, least)?;
        let part = g.div(values, divisor)?;
        let one = g.scalar(1.0)?;
        let (place, lowest) = match self.order {
            Order::First => {
                let sign = g.unary(UnaryOp::Sign, part)?;
                let size = g.unary(UnaryOp::Abs, part)?;
                let third = g.scalar(1.0 / 3.0)?;
                let root = g.binary(BinaryOp::Pow, size, third)?;
                let root = g.mul(sign, root)?;
                let (side, middle) = (g.scalar(SIDE)?, g.scalar(MIDDLE)?);
                let place = g.mul(root, side)?;
                (g.add(place, middle)?, one)
            }
            Order::Second => {
                let (eighth, top) = (g.scalar(1.0 / 8.0)?, g.scalar(TOP)?);
                let root = g.binary(BinaryOp::Pow, part, eighth)?;
                let place = g.mul(root, top)?;
                // 1 for all but 0.
                let above = g.unary(UnaryOp::Ceil, place)?;
                (place, g.binary(BinaryOp::Min, above, one)?)
            }
        };
        let code = g.add(place, u)?;
        let code = g.unary(UnaryOp::Floor, code)?;
        let code = g.binary(BinaryOp::Max, code, lowest)?;
        g.cast(code, DType::U8)
    }

    /// `x`, in the shape of the weight, in blocks; zeros fill the last.
    fn blocked(&self, g: &mut Graph, x: NodeId) -> Built {
        let shape = g.ty(self.state).shape.clone();
        let (n_elems, all) = (self.weight.1.elems(), Dim::product(&shape));
        let mut flat = g.reshape(x, vec![n_elems.clone()])?;
        let missing = all.sub(&n_elems);
        if !missing.is(0) {
            let (low, high) = (vec![Dim::constant(0)], vec![missing]);
            flat = g.push(enel_ir::Op::Pad { low, high, value: Scalar::F(0.0) }, &[flat])?;
        }
        g.reshape(flat, shape)
    }

    /// The other way.
    fn unblocked(&self, g: &mut Graph, x: NodeId) -> Built {
        let (n_elems, all) = (self.weight.1.elems(), g.ty(x).elems());
        let mut flat = g.reshape(x, vec![all.clone()])?;
        if all != n_elems {
            flat = g.narrow(flat, 0, Dim::constant(0), n_elems)?;
        }
        g.reshape(flat, self.weight.1.shape.clone())
    }
}

/// `x` as bf16: the neighbour above where the draw `u`, a multiple of 2^-16 from 0 up and below 1, is not below what `x`
/// lacks of it, else the neighbour below; what bf16 has, infinities and NaN stay. The mean over all draws is `x`.
///
/// Casts round where values are stored and nowhere else, so neighbours are made by arithmetic: numbers of bf16 of one
/// exponent are multiples of a power of two, and `floor(x / spacing + u)` is one by chance. The exponent comes from a
/// logarithm, taken a little low: just above a power of two, by a part of 1e-4, half the spacing is taken, and the store
/// makes an odd multiple of it the power of two. Below 2^-119 the spacing stays 2^-126.
///
/// # Errors
/// [`BuildError::Rule`] for an `x` that is no float.
pub fn stochastic_bf16(g: &mut Graph, x: NodeId, u: NodeId) -> Built {
    /// More than the error of a logarithm to base 2 of any f32, whose size is at most 128, in f32.
    const LOW: f64 = 1.0 / 16384.0;
    /// Digits behind the first.
    const DIGITS: f64 = 7.0;
    /// Above it spacings, and what they divide, are normal numbers.
    const LEAST: f64 = -119.0;
    let size = g.unary(UnaryOp::Abs, x)?;
    let (per_octave, low, least) = (g.scalar(std::f64::consts::LOG2_E)?, g.scalar(LOW)?, g.scalar(LEAST)?);
    let log = g.unary(UnaryOp::Log, size)?;
    let log = g.mul(log, per_octave)?;
    let log = g.sub(log, low)?;
    let exponent = g.unary(UnaryOp::Floor, log)?;
    let exponent = g.binary(BinaryOp::Max, exponent, least)?;
    let (two, digits, infinity) = (g.scalar(2.0)?, g.scalar(DIGITS)?, g.scalar(f64::INFINITY)?);
    let (up, down) = (g.sub(digits, exponent)?, g.sub(exponent, digits)?);
    let (up, down) = (g.binary(BinaryOp::Pow, two, up)?, g.binary(BinaryOp::Pow, two, down)?);
    let multiple = g.mul(x, up)?;
    let multiple = g.add(multiple, u)?;
    let multiple = g.unary(UnaryOp::Floor, multiple)?;
    let rounded = g.mul(multiple, down)?;
    let is_finite = g.binary(BinaryOp::Lt, size, infinity)?;
    let y = g.select(is_finite, rounded, x)?;
    g.cast(y, DType::BF16)
}
