//! Which Descs are drawn? Seeded programs of every instruction, over odd sizes, reading buffers of every dtype.

use crate::reference::{Data, V};
use enel_bundle::{Access, BufferRole, Dynamic, Extent, Instr, Kind, Program, Reg, Store};
use enel_types::{BinaryOp, DType, UnaryOp};

/// A splitmix generator: the seed is what proptest draws and shrinks.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
    /// Uniform in -1..1.
    pub(crate) fn unit(&mut self) -> f32 {
        ((self.next() >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }
}

/// A Desc's arguments while it is drawn.
#[derive(Default)]
pub(crate) struct Args {
    pub(crate) roles: Vec<BufferRole>,
    pub(crate) data: Vec<Data>,
    pub(crate) dynamics: Vec<Dynamic>,
    pub(crate) values: Vec<i64>,
}

impl Args {
    pub(crate) fn add(&mut self, dtype: DType, access: Access, len: usize) -> u32 {
        self.roles.push(BufferRole { dtype, access });
        self.data.push(Data::new(dtype, len));
        self.roles.len() as u32 - 1
    }

    /// A read buffer of drawn elements, floats within -2..2.
    pub(crate) fn read(&mut self, rng: &mut Rng, dtype: DType, len: usize) -> u32 {
        let at = self.add(dtype, Access::Read, len.max(1));
        for i in 0..len.max(1) {
            let value = match Kind::of(dtype) {
                Kind::Float => V::F(2.0 * rng.unit()),
                Kind::Int => {
                    V::I(rng.below(200) as i64 - if dtype == DType::U8 || dtype == DType::U32 { 0 } else { 100 })
                }
                Kind::Bool => V::B(rng.chance(50)),
            };
            self.data[at as usize].set(i, value);
        }
        at
    }

    /// An extent of `n`, constant or dynamic.
    pub(crate) fn extent(&mut self, rng: &mut Rng, n: i64) -> Extent {
        if rng.chance(50) {
            return Extent::Const(n);
        }
        self.dynamics.push(Dynamic { max: n + 3, multiple: 1 });
        self.values.push(n);
        Extent::Dyn(self.values.len() as u32 - 1)
    }

    pub(crate) fn extents(&mut self, rng: &mut Rng, sizes: &[i64]) -> Vec<Extent> {
        sizes.iter().map(|n| self.extent(rng, *n)).collect()
    }
}

pub(crate) const ODD: [i64; 18] = [1, 1, 2, 3, 5, 6, 7, 13, 31, 32, 33, 64, 97, 127, 511, 512, 513, 1030];

/// Sizes of `rank` axes with at most `most` points.
pub(crate) fn space(rng: &mut Rng, rank: usize, most: i64) -> Vec<i64> {
    let mut sizes = vec![1; rank];
    for at in 0..rank {
        let others: i64 = sizes.iter().product();
        let n = rng.pick(&ODD);
        sizes[at] = if n * others <= most { n } else { 1 };
    }
    for i in (1..rank).rev() {
        sizes.swap(i, rng.below(i + 1));
    }
    sizes
}

/// Row-major index of some axes of the space.
pub(crate) fn linear(p: &mut Program, axes: &[u32], sizes: &[i64]) -> Reg {
    let mut index = p.int(0);
    for axis in axes {
        let n = p.int(sizes[*axis as usize]);
        let at = p.push(Instr::Axis(*axis));
        let scaled = p.int_op(BinaryOp::Mul, index, n);
        index = p.int_op(BinaryOp::Add, scaled, at);
    }
    index
}

pub(crate) fn float(p: &mut Program, x: f32) -> Reg {
    p.push(Instr::Float(x.to_bits()))
}

pub(crate) fn binary(p: &mut Program, op: BinaryOp, x: Reg, y: Reg) -> Reg {
    p.push(Instr::Binary(op, x, y))
}

pub(crate) fn load(p: &mut Program, buffer: u32, index: Reg) -> Reg {
    p.push(Instr::Load { buffer, index })
}

/// Grows a program by drawn instructions.
pub(crate) struct Drawer<'a> {
    pub(crate) rng: &'a mut Rng,
    pub(crate) p: Program,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) sizes: &'a [i64],
}

impl Drawer<'_> {
    /// Appends an instruction of this kind.
    pub(crate) fn push(&mut self, instr: Instr, kind: Kind) -> Reg {
        let reg = self.p.push(instr);
        while self.kinds.len() < self.p.instrs().len() {
            // Helpers inside `push` and `linear` only make integers.
            self.kinds.push(if self.kinds.len() == reg.0 as usize { kind } else { Kind::Int });
        }
        reg
    }

    fn sync(&mut self) {
        while self.kinds.len() < self.p.instrs().len() {
            self.kinds.push(Kind::Int);
        }
    }

    /// A register of this kind.
    pub(crate) fn any(&mut self, kind: Kind) -> Reg {
        self.sync();
        let found: Vec<u32> = (0..self.kinds.len() as u32).filter(|r| self.kinds[*r as usize] == kind).collect();
        if !found.is_empty() && self.rng.chance(95) {
            return Reg(self.rng.pick(&found));
        }
        match kind {
            Kind::Float => {
                let x = [0.0, 1.0, -1.5, 0.25, 3.0, f32::NAN, f32::INFINITY, -0.0, 1e-30, 7e8][self.rng.below(10)];
                self.push(Instr::Float(x.to_bits()), kind)
            }
            Kind::Int => {
                let x = [0, 1, -1, 2, 3, 7, 64, 1 << 40, i64::MIN, i64::MAX][self.rng.below(10)];
                self.push(Instr::Int(x), kind)
            }
            Kind::Bool => {
                let x = self.rng.chance(50);
                self.push(Instr::Bool(x), kind)
            }
        }
    }

    /// An index inside `0..len` made in one of the ways a compiler would, or from any integer at hand.
    pub(crate) fn index(&mut self, len: i64) -> Reg {
        let rank = self.sizes.len() as u32;
        let mut axes: Vec<u32> = (0..rank).filter(|_| self.rng.chance(70)).collect();
        if self.rng.chance(30) {
            axes.reverse();
        }
        while axes.iter().map(|a| self.sizes[*a as usize]).product::<i64>() > len {
            axes.pop();
        }
        let total: i64 = axes.iter().map(|a| self.sizes[*a as usize]).product();
        let p = &mut self.p;
        let index = match self.rng.below(7) {
            0..=2 => linear(p, &axes, self.sizes),
            3 => {
                let (forward, last) = (linear(p, &axes, self.sizes), p.int(total - 1));
                p.int_op(BinaryOp::Sub, last, forward)
            }
            4 => {
                let (flat, n) = (linear(p, &axes, self.sizes), [2, 3, 5, 32][self.rng.below(4)]);
                let n = p.int(n);
                let (q, r) = (p.int_op(BinaryOp::Div, flat, n), p.int_op(BinaryOp::Rem, flat, n));
                let back = p.int_op(BinaryOp::Mul, q, n);
                p.int_op(BinaryOp::Add, back, r)
            }
            5 => {
                let (flat, shift) = (linear(p, &axes, self.sizes), p.int(2));
                let (low, high) = (p.int(0), p.int(len - 1));
                let shifted = p.int_op(BinaryOp::Sub, flat, shift);
                let above = p.int_op(BinaryOp::Max, shifted, low);
                p.int_op(BinaryOp::Min, above, high)
            }
            _ => {
                let any = self.any(Kind::Int);
                let p = &mut self.p;
                let n = p.int(len);
                let rest = p.push(Instr::Binary(BinaryOp::Rem, any, n));
                let lifted = p.push(Instr::Binary(BinaryOp::Add, rest, n));
                p.push(Instr::Binary(BinaryOp::Rem, lifted, n))
            }
        };
        self.sync();
        index
    }

    /// One more instruction.
    pub(crate) fn step(&mut self, args: &Args) {
        let n_reads = args.roles.iter().filter(|r| r.access == Access::Read).count();
        match self.rng.below(12) {
            0..=3 if n_reads > 0 => {
                let buffer = self.rng.below(n_reads) as u32;
                let index = self.index(args.data[buffer as usize].len() as i64);
                let instr = Instr::Load { buffer, index };
                self.push(instr, Kind::of(args.roles[buffer as usize].dtype));
            }
            4 if !self.sizes.is_empty() => {
                let axis = self.rng.below(self.sizes.len()) as u32;
                self.push(Instr::Axis(axis), Kind::Int);
            }
            5 if !args.values.is_empty() => {
                let n = self.rng.below(args.values.len()) as u32;
                self.push(Instr::Size(n), Kind::Int);
            }
            6 => {
                let kind = self.rng.pick(&[Kind::Float, Kind::Int, Kind::Bool]);
                let (c, x, y) = (self.any(Kind::Bool), self.any(kind), self.any(kind));
                self.push(Instr::Select(c, x, y), kind);
            }
            7 => {
                let (from, to) = (self.rng.pick(&[Kind::Float, Kind::Int, Kind::Bool]), self.rng.pick(&DType::ALL));
                let x = self.any(from);
                self.push(Instr::Cast(to, x), Kind::of(to));
            }
            8 | 9 => {
                let kind = self.rng.pick(&[Kind::Float, Kind::Float, Kind::Int, Kind::Bool]);
                let fits = |op: &&UnaryOp| match kind {
                    // The last bits of exp are the cpu's own: `exp_is_close_to_e_to_the_x` holds it.
                    Kind::Float => !matches!(op, UnaryOp::Not | UnaryOp::Exp),
                    Kind::Int => !op.float_only(),
                    Kind::Bool => **op == UnaryOp::Not,
                };
                let ops: Vec<UnaryOp> = UnaryOp::ALL.iter().filter(fits).copied().collect();
                let (op, x) = (self.rng.pick(&ops), self.any(kind));
                self.push(Instr::Unary(op, x), kind);
            }
            _ => {
                let kind = self.rng.pick(&[Kind::Float, Kind::Float, Kind::Int, Kind::Bool]);
                let fits = |op: &&BinaryOp| match kind {
                    Kind::Float => !op.is_bitwise(),
                    Kind::Int => **op != BinaryOp::Pow,
                    Kind::Bool => op.is_bitwise() || op.is_comparison(),
                };
                let ops: Vec<BinaryOp> = BinaryOp::ALL.iter().filter(fits).copied().collect();
                let (op, x, y) = (self.rng.pick(&ops), self.any(kind), self.any(kind));
                self.push(Instr::Binary(op, x, y), if op.is_comparison() { Kind::Bool } else { kind });
            }
        }
    }
}

/// Stores a register in a new buffer of the space's size, rows in a drawn order of axes.
pub(crate) fn store(rng: &mut Rng, args: &mut Args, p: &mut Program, sizes: &[i64], value: Reg, dtype: DType) -> Store {
    let mut axes: Vec<u32> = (0..sizes.len() as u32).collect();
    if rng.chance(25) {
        axes.reverse();
    }
    let len = sizes.iter().product::<i64>() as usize;
    let buffer = args.add(dtype, Access::Write, len);
    Store { buffer, index: linear(p, &axes, sizes), value }
}

/// A dtype whose values are of this kind.
pub(crate) fn dtype_of(rng: &mut Rng, kind: Kind) -> DType {
    let fitting: Vec<DType> = DType::ALL.into_iter().filter(|d| Kind::of(*d) == kind).collect();
    rng.pick(&fitting)
}
