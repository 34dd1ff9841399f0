//! What are drawn Descs put together from? Small parts; every buffer is row-major.

use crate::data::Data;
use enel_bundle::{Access, BufferRole, Desc, Dynamic, Extent, Instr, Program, Reg, Store, Value};
use enel_types::{BinaryOp, DType};

/// An extent known when compiling.
pub fn c(n: i64) -> Extent {
    Extent::Const(n)
}

/// A buffer only read.
pub fn read(dtype: DType) -> BufferRole {
    BufferRole { dtype, access: Access::Read }
}

/// A buffer only written.
pub fn write(dtype: DType) -> BufferRole {
    BufferRole { dtype, access: Access::Write }
}

/// A buffer some of whose elements are replaced.
pub fn update(dtype: DType) -> BufferRole {
    BufferRole { dtype, access: Access::Update }
}

/// A size whose bound is a little above its value, as in real bundles.
pub fn bounded(value: i64) -> Dynamic {
    Dynamic { max: value + 3, multiple: 1 }
}

/// Row-major index over axes (number, extent) of the program's space.
pub fn linear(program: &mut Program, axes: &[(u32, Extent)]) -> Reg {
    let mut index = program.int(0);
    for (axis, extent) in axes {
        let size = match extent {
            Extent::Const(n) => program.int(*n),
            Extent::Dyn(i) => program.push(Instr::Size(*i)),
        };
        let scaled = program.int_op(BinaryOp::Mul, index, size);
        let axis = program.push(Instr::Axis(*axis));
        index = program.int_op(BinaryOp::Add, scaled, axis);
    }
    index
}

/// Element of a row-major buffer over the given axes.
pub fn load(program: &mut Program, buffer: u32, axes: &[(u32, Extent)]) -> Reg {
    let index = linear(program, axes);
    program.push(Instr::Load { buffer, index })
}

/// As [`load`], as a value of its own.
pub fn loaded(buffer: u32, axes: &[(u32, Extent)]) -> Value {
    let mut program = Program::new();
    let reg = load(&mut program, buffer, axes);
    Value { program, reg }
}

/// Axes 0, 1, ... with these extents.
pub fn axes(extents: &[Extent]) -> Vec<(u32, Extent)> {
    extents.iter().enumerate().map(|(n, e)| (n as u32, *e)).collect()
}

/// An epilogue that stores accumulators 0.. row-major over its axes into buffers `first`...
pub fn store_accs(extents: &[Extent], first: u32, n: u32) -> (Program, Vec<Store>) {
    let mut program = Program::new();
    let index = linear(&mut program, &axes(extents));
    let stores = (0..n).map(|i| Store { buffer: first + i, index, value: program.push(Instr::Acc(i)) }).collect();
    (program, stores)
}

/// Adds to each stored value what the buffer held in its place; its role is then [`update`].
pub fn add_replaced(program: &mut Program, stores: &mut [Store]) {
    for store in stores {
        let old = program.push(Instr::Load { buffer: store.buffer, index: store.index });
        store.value = program.push(Instr::Binary(BinaryOp::Add, store.value, old));
    }
}

/// A Desc of these parts.
pub fn desc(buffers: &[BufferRole], dynamics: &[Dynamic], body: enel_bundle::Body) -> Desc {
    Desc { buffers: buffers.to_vec(), dynamics: dynamics.to_vec(), body }
}

/// A small deterministic generator (Steele, Lea and Flood 2014, splitmix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `0..n`, `n >= 1`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }

    /// In -1..1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// `n` elements: floats in -1..1, integers in -50..50 (or what the dtype makes of that).
    pub fn data(&mut self, dtype: DType, n: i64) -> Data {
        match dtype {
            DType::F32 | DType::BF16 | DType::F16 => Data::float(dtype, (0..n).map(|_| self.unit())),
            DType::Bool => Data::int(dtype, (0..n).map(|_| self.below(2) as i64)),
            DType::I64 | DType::I32 | DType::U32 | DType::U8 => {
                Data::int(dtype, (0..n).map(|_| self.below(101) as i64 - 50))
            }
        }
    }

    /// Floats on a coarse grid, so that ties and exact results are common.
    pub fn grid(&mut self, dtype: DType, n: i64) -> Data {
        Data::float(dtype, (0..n).map(|_| self.below(17) as f64 / 4.0 - 2.0))
    }
}
