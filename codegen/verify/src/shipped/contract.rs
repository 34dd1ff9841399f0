//! Kernels of contract: tiles in f32 and on tensor cores, row segments folded, and few rows.

use super::{Bound, Part, Shipped, d, drawn};
use crate::build::{c, load, loaded, read, store_accs, write};
use crate::check::{BF16, F32};
use enel_bundle::{AccOp, Body, ContractBody, Extent, Fold, Instr, Program, Value};
use enel_types::{BinaryOp, DType};

/// How an operand is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// `[batch, other, summed]` in the product's dtype.
    Straight,
    /// `[batch, summed, other]`.
    Across,
    /// Straight, and behind a relu.
    Computed,
}
use Side::{Across, Computed, Straight};

pub(super) fn kernels() -> Vec<Shipped> {
    let (f32, bf16) = (DType::F32, DType::BF16);
    // Sizes are rows, columns, summed. More than eight tiles of rows are two groups of them.
    let any = [[1, 1, 1], [17, 65, 33], [65, 5, 16], [9, 70, 50], [64, 64, 3], [28, 5, 2], [577, 70, 2]];
    let odd =
        [[1, 1, 1], [17, 65, 33], [65, 5, 16], [9, 70, 50], [64, 64, 31], [70, 66, 131], [21, 5, 2], [577, 65, 2]];
    let large = [[1, 1, 1], [129, 5, 7], [30, 131, 17], [128, 128, 17], [1030, 130, 2]];
    let whole = [[8, 8, 8], [72, 16, 40], [16, 96, 104], [64, 64, 64], [72, 72, 200], [584, 72, 8]];
    // Of kept, folded, columns, summed: segments of every remainder, one to the last row but one of a tile.
    let ragged = [[1, 1, 1, 1], [2, 11, 3, 2], [2, 22, 3, 2], [2, 63, 3, 2], [2, 68, 3, 2]];
    let few = [[1, 1, 1], [1, 9, 1300], [3, 9, 130], [4, 5, 257]];
    let few_whole = [[1, 1, 8], [1, 5, 2312], [3, 9, 136], [4, 5, 2056]];
    vec![
        product(f32, false, [(16, 1), (90, 1), (60, 1)], [Straight; 2]).alone(
            "contract_f32_16",
            &[[1, 1, 1], [9, 65, 33], [14, 5, 2], [15, 5, 2], [16, 64, 16], [16, 70, 50]],
            drawn,
        ),
        product(f32, false, [(600, 1), (90, 1), (60, 1)], [Across, Computed]).alone("contract_f32_64", &any, drawn),
        product(f32, false, [(9000, 1), (2000, 1), (60, 1)], [Straight, Across]).alone(
            "contract_f32_128",
            &large,
            drawn,
        ),
        product(f32, false, [(600, 1), (70, 1), (800, 1)], [Straight, Across]).alone(
            "contract_team_f32",
            &[[1, 1, 1], [9, 70, 100], [33, 5, 790], [64, 64, 100], [577, 70, 2]],
            drawn,
        ),
        folded(f32, AccOp::Sum, [(20, 1), (150, 1), (70, 1), (40, 1)]).alone(
            "contract_fold_f32",
            &[&ragged[..], &[[3, 9, 5, 17], [2, 7, 3, 2], [2, 130, 65, 20], [19, 2, 65, 3]]].concat(),
            drawn,
        ),
        folded_by(f32, AccOp::Max, 9).alone("contract_fold_9_f32", &[[1, 1, 1], [8, 66, 17], [60, 65, 3]], drawn),
        product(bf16, true, [(600, 1), (90, 1), (200, 1)], [Computed, Across]).alone("contract_bf16_odd", &odd, drawn),
        product(bf16, true, [(16, 1), (200, 8), (500, 8)], [Straight; 2]).alone(
            "contract_bf16_16",
            &[[8, 8, 8], [11, 8, 8], [14, 8, 8], [16, 64, 64], [16, 72, 264], [8, 72, 328]],
            drawn,
        ),
        product(bf16, true, [(600, 8), (100, 8), (200, 8)], [Straight; 2]).alone("contract_bf16_64", &whole, drawn),
        product(bf16, true, [(600, 8), (100, 8), (200, 1)], [Across; 2]).alone(
            "contract_bf16_across",
            &[[8, 8, 1], [72, 16, 41], [64, 64, 65], [72, 72, 197], [584, 72, 9]],
            drawn,
        ),
        product(bf16, true, [(600, 1), (100, 1), (200, 8)], [Computed, Straight]).alone(
            "contract_bf16_computed",
            &[[1, 1, 8], [65, 17, 40], [21, 5, 8], [64, 64, 104], [66, 70, 200], [577, 70, 8]],
            drawn,
        ),
        product(bf16, true, [(9000, 1), (2000, 8), (200, 8)], [Straight, Across]).alone(
            "contract_bf16_128",
            &[[9, 8, 8], [21, 8, 8], [136, 16, 72], [24, 136, 136], [128, 128, 32], [136, 136, 200], [1032, 136, 8]],
            drawn,
        ),
        product(bf16, true, [(600, 8), (72, 8), (800, 8)], [Across; 2]).alone(
            "contract_team_bf16",
            &[[8, 8, 8], [72, 16, 104], [24, 72, 776], [64, 64, 136], [584, 72, 8]],
            drawn,
        ),
        folded(bf16, AccOp::Max, [(20, 1), (150, 1), (70, 1), (110, 1)]).alone(
            "contract_fold_bf16",
            &[&ragged[..], &[[3, 9, 5, 17], [2, 130, 65, 101], [19, 2, 65, 3], [1, 63, 66, 29]]].concat(),
            drawn,
        ),
        folded_by(bf16, AccOp::Sum, 81).alone(
            "contract_fold_81_bf16",
            &[[1, 1, 8], [2, 5, 40], [3, 66, 72], [5, 66, 200], [19, 65, 8]],
            drawn,
        ),
        folded_by(bf16, AccOp::Min, 9).alone(
            "contract_fold_9_bf16",
            &[[1, 1, 8], [8, 66, 40], [15, 66, 200], [60, 65, 8]],
            drawn,
        ),
        product(f32, false, [(4, 1), (90, 1), (1300, 1)], [Straight, Across]).alone("contract_few_f32", &few, drawn),
        product(bf16, true, [(4, 1), (90, 1), (4000, 8)], [Straight; 2]).alone("contract_few_bf16", &few_whole, drawn),
        product(f32, false, [(1, 1), (6000, 1), (1200, 4)], [Straight; 2]).alone(
            "contract_one_f32",
            &[[1, 1, 4], [1, 19, 132], [1, 17, 1160]],
            drawn,
        ),
        product(bf16, true, [(8, 1), (40_000, 1), (600, 8)], [Computed, Straight]).alone(
            "contract_eight_bf16",
            &[[1, 1, 8], [1, 17, 600], [8, 33, 264], [5, 17, 512]],
            drawn,
        ),
    ]
}

/// On tensor cores, in whole chunks.
pub(super) fn small_tensor() -> Part {
    product(DType::BF16, true, [(600, 1), (80, 8), (200, 8)], [Straight; 2])
}

fn operand(buffer: u32, [batch, other, summed]: [Extent; 3], side: Side) -> (Value, Vec<Extent>) {
    let (other_at, summed_at) = ((1, other), (2, summed));
    if side == Across {
        return (loaded(buffer, &[(0, batch), summed_at, other_at]), vec![batch, summed, other]);
    }
    let mut value = loaded(buffer, &[(0, batch), other_at, summed_at]);
    if side == Computed {
        let zero = value.program.push(Instr::Float(0));
        value.reg = value.program.push(Instr::Binary(BinaryOp::Max, value.reg, zero));
    }
    (value, vec![batch, other, summed])
}

/// Two batches of products, rows, columns and summed axis dynamic.
fn product(dtype: DType, tensor: bool, bounds: [Bound; 3], [lhs, rhs]: [Side; 2]) -> Part {
    let (batch, rows, cols, summed) = (c(2), d(0), d(1), d(2));
    let (epilogue, stores) = store_accs(&[batch, rows, cols], 2, 1);
    let (left, left_shape) = operand(0, [batch, rows, summed], lhs);
    let (right, right_shape) = operand(1, [batch, cols, summed], rhs);
    let body = ContractBody {
        batch: vec![batch],
        rows: vec![rows],
        cols: vec![cols],
        summed: vec![summed],
        lhs: left,
        rhs: right,
        bf16: tensor,
        epilogue,
        fold: None,
        stores,
    };
    let buffers =
        vec![(read(dtype), left_shape), (read(dtype), right_shape), (write(DType::F32), vec![batch, rows, cols])];
    Part::new(buffers, &bounds, Body::Contract(body), if tensor { BF16 } else { F32 })
}

/// Segments of any length: kept, folded, columns, summed.
fn folded(dtype: DType, op: AccOp, bounds: [Bound; 4]) -> Part {
    fold(dtype, op, [d(0), d(1), d(2), d(3)], &bounds)
}

/// Segments of a fixed length: kept, columns, summed.
fn folded_by(dtype: DType, op: AccOp, length: i64) -> Part {
    let multiple = if dtype == DType::BF16 { 8 } else { 1 };
    fold(dtype, op, [d(0), c(length), d(1), d(2)], &[(80, 1), (100, 1), (200, multiple)])
}

fn fold(dtype: DType, op: AccOp, [kept, length, cols, summed]: [Extent; 4], bounds: &[Bound]) -> Part {
    let mut epilogue = Program::new();
    let acc = epilogue.push(Instr::Acc(0));
    let bias = load(&mut epilogue, 3, &[(0, kept), (1, length)]);
    let biased = epilogue.push(Instr::Binary(BinaryOp::Add, acc, bias));
    let shift = load(&mut epilogue, 4, &[(2, cols)]);
    let value = epilogue.push(Instr::Binary(BinaryOp::Add, biased, shift));
    let (fold_epilogue, stores) = store_accs(&[kept, cols], 2, 1);
    let body = ContractBody {
        batch: vec![],
        rows: vec![kept, length],
        cols: vec![cols],
        summed: vec![summed],
        lhs: loaded(0, &[(0, kept), (1, length), (2, summed)]),
        rhs: loaded(1, &[(0, cols), (1, summed)]),
        bf16: dtype == DType::BF16,
        epilogue,
        fold: Some(Fold { op, axes: 1, value, epilogue: fold_epilogue }),
        stores,
    };
    let buffers = vec![
        (read(dtype), vec![kept, length, summed]),
        (read(dtype), vec![cols, summed]),
        (write(DType::F32), vec![kept, cols]),
        (read(DType::F32), vec![kept, length]),
        (read(DType::F32), vec![cols]),
    ];
    Part::new(buffers, bounds, Body::Contract(body), if dtype == DType::BF16 { BF16 } else { F32 })
}
