//! What do random bits mean? Philox4x32-10 in 64-bit integers, of which no step leaves 0..2^49.
//!
//! **Source** Salmon et al. 2011, Parallel Random Numbers: As Easy as 1, 2, 3, section 3.3; its constants.

use super::Built;
use crate::build::BuildError;
use crate::graph::{Graph, NodeId, Scalar, TensorType};
use enel_types::{BinaryOp, DType, Dim};

const ROUNDS: usize = 10;
const MULTIPLIERS: [i64; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [i64; 2] = [0x9E37_79B9, 0xBB67_AE85];
const WORD: i64 = 0xFFFF_FFFF;
const HALF: i64 = 0xFFFF;

/// The first word of each block; key `seed`, counter (element, stream, low and high word of step).
pub(super) fn bits(g: &mut Graph, [seed, step]: [NodeId; 2], (stream, shape): (i64, &[Dim])) -> Built {
    let element = g.iota(0, TensorType::new(DType::I64, vec![Dim::product(shape)]))?;
    let element = and(g, element, WORD)?;
    let stream = number(g, stream)?;
    let [step_low, step_high] = words(g, step)?;
    let mut key = words(g, seed)?;
    let mut counter = [element, stream, step_low, step_high];
    for round in 0..ROUNDS {
        if round > 0 {
            for (word, weyl) in key.iter_mut().zip(WEYL) {
                let weyl = number(g, weyl)?;
                let sum = g.add(*word, weyl)?;
                *word = and(g, sum, WORD)?;
            }
        }
        let [high0, low0] = product(g, counter[0], MULTIPLIERS[0])?;
        let [high1, low1] = product(g, counter[2], MULTIPLIERS[1])?;
        let first = xor(g, [high1, counter[1], key[0]])?;
        let third = xor(g, [high0, counter[3], key[1]])?;
        counter = [first, low1, third, low0];
    }
    // Every word has the shape of the elements by now.
    let words = g.cast(counter[0], DType::U32)?;
    g.reshape(words, shape.to_vec())
}

fn number(g: &mut Graph, value: i64) -> Built {
    g.splat(Scalar::I(value), TensorType::new(DType::I64, vec![]))
}

fn and(g: &mut Graph, x: NodeId, mask: i64) -> Built {
    let mask = number(g, mask)?;
    g.binary(BinaryOp::And, x, mask)
}

fn xor(g: &mut Graph, [x, y, z]: [NodeId; 3]) -> Built {
    let xy = g.binary(BinaryOp::Xor, x, y)?;
    g.binary(BinaryOp::Xor, xy, z)
}

/// `x / 2^bits` of a number that is not negative.
fn shifted(g: &mut Graph, x: NodeId, bits: u32) -> Built {
    let factor = number(g, 1 << bits)?;
    g.div(x, factor)
}

/// Low and high word of a 64-bit number.
fn words(g: &mut Graph, x: NodeId) -> Result<[NodeId; 2], BuildError> {
    let low = and(g, x, WORD)?;
    // Without its low word a number divides exactly, whatever its sign.
    let rest = g.sub(x, low)?;
    let high = shifted(g, rest, 32)?;
    Ok([low, and(g, high, WORD)?])
}

/// High and low word of `x * factor`, by the halves of `x`.
fn product(g: &mut Graph, x: NodeId, factor: i64) -> Result<[NodeId; 2], BuildError> {
    let factor = number(g, factor)?;
    let low_half = and(g, x, HALF)?;
    let high_half = shifted(g, x, 16)?;
    let by_low = g.mul(low_half, factor)?;
    let by_high = g.mul(high_half, factor)?;
    let carried = shifted(g, by_low, 16)?;
    let sum = g.add(by_high, carried)?;
    let high = shifted(g, sum, 16)?;
    let middle = and(g, by_high, HALF)?;
    let up = number(g, 1 << 16)?;
    let middle = g.mul(middle, up)?;
    let low = g.add(middle, by_low)?;
    Ok([high, and(g, low, WORD)?])
}
