//! What do integer, bit, compare and select instructions compute?

use super::bits;
use super::num;
use super::warp::{LANES, Row32, Row64, Warp};
use crate::decode::op::*;
use crate::memory::TAG_MASK;
use crate::syntax::ast::Ty;

#[inline(always)]
fn sx16(x: u32) -> i32 {
    i32::from(x as u16 as i16)
}

/// Byte permutation of `prmt` (PTX ISA 9.0, section 9.7.9.7).
fn prmt(a: u32, b: u32, c: u32, mode: PrmtMode) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    let pick = |index: u32| (bytes >> (8 * (index & 7))) as u8;
    let sel = c & 3;
    let word = |s: [u32; 4]| u32::from_le_bytes(s.map(pick));
    match mode {
        PrmtMode::Generic => u32::from_le_bytes([0, 4, 8, 12].map(|shift| {
            let control = c >> shift & 0xf;
            let byte = pick(control);
            if control & 8 != 0 { ((byte as i8) >> 7) as u8 } else { byte }
        })),
        PrmtMode::F4e => word([sel, sel + 1, sel + 2, sel + 3]),
        PrmtMode::B4e => word([sel, sel + 7, sel + 6, sel + 5]),
        PrmtMode::Rc8 => word([sel; 4]),
        PrmtMode::Ecl => word([sel, sel.max(1), sel.max(2), 3]),
        PrmtMode::Ecr => word([0, sel.min(1), sel.min(2), sel]),
        PrmtMode::Rc16 => word([(sel & 1) * 2, (sel & 1) * 2 + 1, (sel & 1) * 2, (sel & 1) * 2 + 1]),
    }
}

fn bfe(a: u64, pos: u32, len: u32, width: u32, signed: bool) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    let sign_at = (pos + len).saturating_sub(1).min(width - 1);
    let sign = signed && len > 0 && a >> sign_at & 1 == 1;
    let taken = if pos >= width { 0 } else { a >> pos };
    let got = len.min(width.saturating_sub(pos));
    let keep = if got >= 64 { u64::MAX } else { (1 << got) - 1 };
    let value = taken & keep | if sign && got < 64 { !keep } else { 0 };
    if len == 0 { 0 } else { value }
}

fn bfi(base: u64, insert: u64, pos: u32, len: u32, width: u32) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    if pos >= width || len == 0 {
        return base;
    }
    let ones = if len >= 64 { u64::MAX } else { (1 << len) - 1 };
    let mask = ones << pos;
    base & !mask | insert << pos & mask
}

fn lop3(a: u32, b: u32, c: u32, table: u8) -> u32 {
    (0..8).filter(|i| table >> i & 1 == 1).fold(0, |acc, i| {
        let pick = |x: u32, bit: u32| if i & bit != 0 { x } else { !x };
        acc | pick(a, 4) & pick(b, 2) & pick(c, 1)
    })
}

fn bytes_of(x: u32, signed: bool) -> [i32; 4] {
    x.to_le_bytes().map(|b| if signed { i32::from(b as i8) } else { i32::from(b) })
}

fn shorts_of(x: u32, signed: bool) -> [i32; 2] {
    [x, x >> 16].map(|h| if signed { sx16(h) } else { i32::from(h as u16) })
}

fn dp2a(a: u32, b: u32, signs: (bool, bool), high: usize) -> i32 {
    let (a, b) = (shorts_of(a, signs.0), bytes_of(b, signs.1));
    a[0].wrapping_mul(b[high]).wrapping_add(a[1].wrapping_mul(b[high + 1]))
}

fn bfind(x: u32) -> u32 {
    31u32.wrapping_sub(x.leading_zeros())
}

fn shift_amount(b: u32) -> u32 {
    b.min(63)
}

impl Warp {
    #[inline(always)]
    pub(crate) fn map1(&mut self, m: u32, d: R, a: R, f: impl Fn(u32) -> u32) {
        let mut out: Row32 = *self.get32(a);
        for x in &mut out {
            *x = f(*x);
        }
        self.set32(d, m, &out);
    }

    #[inline(always)]
    pub(crate) fn map2(&mut self, m: u32, d: R, a: R, b: R, f: impl Fn(u32, u32) -> u32) {
        let mut out: Row32 = *self.get32(a);
        for (x, y) in out.iter_mut().zip(self.get32(b)) {
            *x = f(*x, *y);
        }
        self.set32(d, m, &out);
    }

    #[inline(always)]
    pub(crate) fn map3(&mut self, m: u32, d: R, s: [R; 3], f: impl Fn(u32, u32, u32) -> u32) {
        let (b, c) = (self.get32(s[1]), self.get32(s[2]));
        let mut out: Row32 = *self.get32(s[0]);
        for lane in 0..LANES {
            out[lane] = f(out[lane], b[lane], c[lane]);
        }
        self.set32(d, m, &out);
    }

    #[inline(always)]
    fn wide1(&mut self, m: u32, d: R, a: R, f: impl Fn(u64) -> u64) {
        let mut out: Row64 = *self.get64(a);
        for x in &mut out {
            *x = f(*x);
        }
        self.set64(d, m, &out);
    }

    #[inline(always)]
    pub(crate) fn wide2(&mut self, m: u32, d: R, a: R, b: R, f: impl Fn(u64, u64) -> u64) {
        let mut out: Row64 = *self.get64(a);
        for (x, y) in out.iter_mut().zip(self.get64(b)) {
            *x = f(*x, *y);
        }
        self.set64(d, m, &out);
    }

    #[inline(always)]
    pub(crate) fn wide3(&mut self, m: u32, d: R, s: [R; 3], f: impl Fn(u64, u64, u64) -> u64) {
        let (b, c) = (self.get64(s[1]), self.get64(s[2]));
        let mut out: Row64 = *self.get64(s[0]);
        for lane in 0..LANES {
            out[lane] = f(out[lane], b[lane], c[lane]);
        }
        self.set64(d, m, &out);
    }

    /// 64-bit result from a function of the lane.
    #[inline(always)]
    pub(crate) fn fill64(&mut self, m: u32, d: R, f: impl Fn(&Warp, usize) -> u64) {
        let mut out = [0; LANES];
        for (lane, slot) in out.iter_mut().enumerate() {
            *slot = f(self, lane);
        }
        self.set64(d, m, &out);
    }

    /// 32-bit result from a function of the lane.
    #[inline(always)]
    pub(crate) fn fill32(&mut self, m: u32, d: R, f: impl Fn(&Warp, usize) -> u32) {
        let mut out = [0; LANES];
        for (lane, slot) in out.iter_mut().enumerate() {
            *slot = f(self, lane);
        }
        self.set32(d, m, &out);
    }

    pub(crate) fn un32(&mut self, op: Un32, m: u32, d: R, a: R) {
        match op {
            Un32::Mov => {
                let row = *self.get32(a);
                self.set32(d, m, &row);
            }
            Un32::Not => self.map1(m, d, a, |x| !x),
            Un32::Cnot => self.map1(m, d, a, |x| u32::from(x == 0)),
            Un32::Not16 => self.map1(m, d, a, |x| !x & 0xffff),
            Un32::Neg => self.map1(m, d, a, u32::wrapping_neg),
            Un32::Neg16 => self.map1(m, d, a, |x| x.wrapping_neg() & 0xffff),
            Un32::Abs => self.map1(m, d, a, |x| (x as i32).wrapping_abs() as u32),
            Un32::Abs16 => self.map1(m, d, a, |x| sx16(x).wrapping_abs() as u32 & 0xffff),
            Un32::Popc => self.map1(m, d, a, u32::count_ones),
            Un32::Clz => self.map1(m, d, a, u32::leading_zeros),
            Un32::Brev => self.map1(m, d, a, u32::reverse_bits),
            Un32::BfindU => self.map1(m, d, a, bfind),
            Un32::BfindS => self.map1(m, d, a, |x| bfind(if (x as i32) < 0 { !x } else { x })),
            Un32::BfindShiftU => self.map1(m, d, a, |x| if x == 0 { u32::MAX } else { x.leading_zeros() }),
            Un32::BfindShiftS => self.map1(m, d, a, |x| {
                let x = if (x as i32) < 0 { !x } else { x };
                if x == 0 { u32::MAX } else { x.leading_zeros() }
            }),
        }
    }

    pub(crate) fn bin32(&mut self, op: Bin32, m: u32, d: R, a: R, b: R) {
        let signed = |f: fn(i32, i32) -> i32| move |x: u32, y: u32| f(x as i32, y as i32) as u32;
        match op {
            Bin32::Add => self.map2(m, d, a, b, u32::wrapping_add),
            Bin32::Sub => self.map2(m, d, a, b, u32::wrapping_sub),
            Bin32::Mul => self.map2(m, d, a, b, u32::wrapping_mul),
            Bin32::MulHiS => self.map2(m, d, a, b, |x, y| ((i64::from(x as i32) * i64::from(y as i32)) >> 32) as u32),
            Bin32::MulHiU => self.map2(m, d, a, b, |x, y| ((u64::from(x) * u64::from(y)) >> 32) as u32),
            Bin32::Mul24S => self.map2(m, d, a, b, |x, y| {
                let cut = |v: u32| ((v << 8) as i32) >> 8;
                cut(x).wrapping_mul(cut(y)) as u32
            }),
            Bin32::Mul24U => self.map2(m, d, a, b, |x, y| (x & 0xff_ffff).wrapping_mul(y & 0xff_ffff)),
            // Division by zero is unspecified in PTX; devices give all ones.
            Bin32::DivS => {
                self.map2(m, d, a, b, |x, y| if y == 0 { u32::MAX } else { (x as i32).wrapping_div(y as i32) as u32 })
            }
            Bin32::DivU => self.map2(m, d, a, b, |x, y| x.checked_div(y).unwrap_or(u32::MAX)),
            Bin32::RemS => {
                self.map2(m, d, a, b, |x, y| if y == 0 { x } else { (x as i32).wrapping_rem(y as i32) as u32 })
            }
            Bin32::RemU => self.map2(m, d, a, b, |x, y| x.checked_rem(y).unwrap_or(x)),
            Bin32::MinS => self.map2(m, d, a, b, signed(i32::min)),
            Bin32::MinU => self.map2(m, d, a, b, u32::min),
            Bin32::MaxS => self.map2(m, d, a, b, signed(i32::max)),
            Bin32::MaxU => self.map2(m, d, a, b, u32::max),
            Bin32::And => self.map2(m, d, a, b, |x, y| x & y),
            Bin32::Or => self.map2(m, d, a, b, |x, y| x | y),
            Bin32::Xor => self.map2(m, d, a, b, |x, y| x ^ y),
            Bin32::Shl => self.map2(m, d, a, b, |x, y| if y > 31 { 0 } else { x << y }),
            Bin32::ShrS => self.map2(m, d, a, b, |x, y| ((x as i32) >> y.min(31)) as u32),
            Bin32::ShrU => self.map2(m, d, a, b, |x, y| if y > 31 { 0 } else { x >> y }),
            Bin32::AddSat => self.map2(m, d, a, b, signed(i32::saturating_add)),
            Bin32::SubSat => self.map2(m, d, a, b, signed(i32::saturating_sub)),
            Bin32::Add16 => self.map2(m, d, a, b, |x, y| x.wrapping_add(y) & 0xffff),
            Bin32::Sub16 => self.map2(m, d, a, b, |x, y| x.wrapping_sub(y) & 0xffff),
            Bin32::Mul16 => self.map2(m, d, a, b, |x, y| x.wrapping_mul(y) & 0xffff),
            Bin32::MulHiS16 => self.map2(m, d, a, b, |x, y| (sx16(x) * sx16(y)) as u32 >> 16),
            Bin32::MulHiU16 => self.map2(m, d, a, b, |x, y| (x & 0xffff).wrapping_mul(y & 0xffff) >> 16),
            Bin32::MulWideS16 => self.map2(m, d, a, b, |x, y| (sx16(x) * sx16(y)) as u32),
            Bin32::MulWideU16 => self.map2(m, d, a, b, |x, y| (x & 0xffff).wrapping_mul(y & 0xffff)),
            Bin32::DivS16 => {
                self.map2(
                    m,
                    d,
                    a,
                    b,
                    |x, y| if y & 0xffff == 0 { 0xffff } else { (sx16(x) / sx16(y)) as u32 & 0xffff },
                );
            }
            Bin32::RemS16 => {
                self.map2(m, d, a, b, |x, y| if y & 0xffff == 0 { x } else { (sx16(x) % sx16(y)) as u32 & 0xffff });
            }
            Bin32::MinS16 => self.map2(m, d, a, b, |x, y| sx16(x).min(sx16(y)) as u32 & 0xffff),
            Bin32::MaxS16 => self.map2(m, d, a, b, |x, y| sx16(x).max(sx16(y)) as u32 & 0xffff),
            Bin32::Shl16 => self.map2(m, d, a, b, |x, y| if y > 15 { 0 } else { x << y & 0xffff }),
            Bin32::ShrS16 => self.map2(m, d, a, b, |x, y| (sx16(x) >> y.min(15)) as u32 & 0xffff),
            Bin32::Add16x2 => self.map2(m, d, a, b, |x, y| bits::pairs(x, y, u16::wrapping_add)),
            Bin32::MinS16x2 => self.map2(m, d, a, b, |x, y| bits::pairs(x, y, |p, q| (p as i16).min(q as i16) as u16)),
            Bin32::MinU16x2 => self.map2(m, d, a, b, |x, y| bits::pairs(x, y, u16::min)),
            Bin32::MaxS16x2 => self.map2(m, d, a, b, |x, y| bits::pairs(x, y, |p, q| (p as i16).max(q as i16) as u16)),
            Bin32::MaxU16x2 => self.map2(m, d, a, b, |x, y| bits::pairs(x, y, u16::max)),
            Bin32::SzextS => self.map2(m, d, a, b, |x, y| bits::extend(x, y, true)),
            Bin32::SzextU => self.map2(m, d, a, b, |x, y| bits::extend(x, y, false)),
            Bin32::Bmsk => self.map2(m, d, a, b, |x, y| bfi(0, u64::MAX, x.min(255), y.min(255), 32) as u32),
        }
    }

    pub(crate) fn tri32(&mut self, op: Tri32, m: u32, d: R, s: [R; 3]) {
        let funnel = |lo: u32, hi: u32| u64::from(hi) << 32 | u64::from(lo);
        match op {
            Tri32::MadLo => self.map3(m, d, s, |x, y, z| x.wrapping_mul(y).wrapping_add(z)),
            Tri32::MadHiS => {
                self.map3(m, d, s, |x, y, z| {
                    (((i64::from(x as i32) * i64::from(y as i32)) >> 32) as u32).wrapping_add(z)
                });
            }
            Tri32::MadHiU => {
                self.map3(m, d, s, |x, y, z| (((u64::from(x) * u64::from(y)) >> 32) as u32).wrapping_add(z))
            }
            Tri32::Mad16 => self.map3(m, d, s, |x, y, z| x.wrapping_mul(y).wrapping_add(z) & 0xffff),
            Tri32::MadWideS16 => self.map3(m, d, s, |x, y, z| ((sx16(x) * sx16(y)) as u32).wrapping_add(z)),
            Tri32::MadWideU16 => {
                self.map3(m, d, s, |x, y, z| (x & 0xffff).wrapping_mul(y & 0xffff).wrapping_add(z));
            }
            Tri32::BfeS => self.map3(m, d, s, |x, y, z| bfe(u64::from(x), y, z, 32, true) as u32),
            Tri32::BfeU => self.map3(m, d, s, |x, y, z| bfe(u64::from(x), y, z, 32, false) as u32),
            Tri32::Prmt(mode) => self.map3(m, d, s, |x, y, z| prmt(x, y, z, mode)),
            Tri32::ShfLWrap => self.map3(m, d, s, |x, y, z| (funnel(x, y) << (z & 31) >> 32) as u32),
            Tri32::ShfLClamp => self.map3(m, d, s, |x, y, z| (funnel(x, y) << z.min(32) >> 32) as u32),
            Tri32::ShfRWrap => self.map3(m, d, s, |x, y, z| (funnel(x, y) >> (z & 31)) as u32),
            Tri32::ShfRClamp => self.map3(m, d, s, |x, y, z| (funnel(x, y) >> z.min(32)) as u32),
            Tri32::Lop3(table) => self.map3(m, d, s, |x, y, z| lop3(x, y, z, table)),
            Tri32::AbsDiff4 { signed, adds } => {
                self.map3(m, d, s, |x, y, z| bits::abs_diff_bytes((x, y), z, (signed, adds)));
            }
            Tri32::Fns => self.map3(m, d, s, |x, y, z| bits::find_nth_set(x, y, z as i32)),
            Tri32::SadS => self.map3(m, d, s, |x, y, z| (x as i32).abs_diff(y as i32).wrapping_add(z)),
            Tri32::SadU => self.map3(m, d, s, |x, y, z| x.abs_diff(y).wrapping_add(z)),
            Tri32::Dp4a { a_signed, b_signed } => self.map3(m, d, s, |x, y, z| {
                let (x, y) = (bytes_of(x, a_signed), bytes_of(y, b_signed));
                x.iter().zip(y).fold(z as i32, |acc, (p, q)| acc.wrapping_add(p * q)) as u32
            }),
            Tri32::Dp2aLo { a_signed, b_signed } => {
                self.map3(m, d, s, |x, y, z| dp2a(x, y, (a_signed, b_signed), 0).wrapping_add(z as i32) as u32);
            }
            Tri32::Dp2aHi { a_signed, b_signed } => {
                self.map3(m, d, s, |x, y, z| dp2a(x, y, (a_signed, b_signed), 2).wrapping_add(z as i32) as u32);
            }
            Tri32::Slct => self.map3(m, d, s, |x, y, z| if z as i32 >= 0 { x } else { y }),
            Tri32::SlctF => self.map3(m, d, s, |x, y, z| if f32::from_bits(z) >= 0.0 { x } else { y }),
        }
    }

    pub(crate) fn un64(&mut self, op: Un64, m: u32, d: R, a: R) {
        match op {
            Un64::Mov => {
                let row = *self.get64(a);
                self.set64(d, m, &row);
            }
            Un64::Not => self.wide1(m, d, a, |x| !x),
            Un64::Neg => self.wide1(m, d, a, u64::wrapping_neg),
            Un64::Abs => self.wide1(m, d, a, |x| (x as i64).wrapping_abs() as u64),
            Un64::Brev => self.wide1(m, d, a, u64::reverse_bits),
            Un64::AddTag(tag) => self.wide1(m, d, a, |x| x | tag),
            // A generic address of another space stays tagged, so its use is an error.
            Un64::SubTag(tag) => self.wide1(m, d, a, |x| if x & TAG_MASK == tag { x & !TAG_MASK } else { x }),
        }
    }

    pub(crate) fn bin64(&mut self, op: Bin64, m: u32, d: R, a: R, b: R) {
        let signed = |f: fn(i64, i64) -> i64| move |x: u64, y: u64| f(x as i64, y as i64) as u64;
        match op {
            Bin64::Add => self.wide2(m, d, a, b, u64::wrapping_add),
            Bin64::Sub => self.wide2(m, d, a, b, u64::wrapping_sub),
            Bin64::Mul => self.wide2(m, d, a, b, u64::wrapping_mul),
            Bin64::MulHiS => self.wide2(m, d, a, b, mul_hi_s),
            Bin64::MulHiU => self.wide2(m, d, a, b, mul_hi_u),
            Bin64::DivS => {
                self.wide2(m, d, a, b, |x, y| if y == 0 { u64::MAX } else { (x as i64).wrapping_div(y as i64) as u64 })
            }
            Bin64::DivU => self.wide2(m, d, a, b, |x, y| x.checked_div(y).unwrap_or(u64::MAX)),
            Bin64::RemS => {
                self.wide2(m, d, a, b, |x, y| if y == 0 { x } else { (x as i64).wrapping_rem(y as i64) as u64 })
            }
            Bin64::RemU => self.wide2(m, d, a, b, |x, y| x.checked_rem(y).unwrap_or(x)),
            Bin64::MinS => self.wide2(m, d, a, b, signed(i64::min)),
            Bin64::MinU => self.wide2(m, d, a, b, u64::min),
            Bin64::MaxS => self.wide2(m, d, a, b, signed(i64::max)),
            Bin64::MaxU => self.wide2(m, d, a, b, u64::max),
            Bin64::And => self.wide2(m, d, a, b, |x, y| x & y),
            Bin64::Or => self.wide2(m, d, a, b, |x, y| x | y),
            Bin64::Xor => self.wide2(m, d, a, b, |x, y| x ^ y),
        }
    }

    /// Everything else that only reads and writes registers; false if `op` is not such an instruction.
    pub(crate) fn other_int(&mut self, op: &Op, m: u32) -> bool {
        match *op {
            Op::Tri64(op, d, s) => match op {
                Tri64::MadLo => self.wide3(m, d, s, |x, y, z| x.wrapping_mul(y).wrapping_add(z)),
                Tri64::MadHiS => self.wide3(m, d, s, |x, y, z| mul_hi_s(x, y).wrapping_add(z)),
                Tri64::MadHiU => self.wide3(m, d, s, |x, y, z| mul_hi_u(x, y).wrapping_add(z)),
            },
            Op::Shift64(op, d, a, b) => self.fill64(m, d, |w, i| {
                let (x, y) = (w.get64(a)[i], w.get32(b)[i]);
                match op {
                    Shift64::Shl if y > 63 => 0,
                    Shift64::Shl => x << y,
                    Shift64::ShrS => ((x as i64) >> shift_amount(y)) as u64,
                    Shift64::ShrU if y > 63 => 0,
                    Shift64::ShrU => x >> y,
                }
            }),
            Op::Count64(op, d, a) => self.fill32(m, d, |w, i| {
                let x = w.get64(a)[i];
                match op {
                    Count64::Popc => x.count_ones(),
                    Count64::Clz => x.leading_zeros(),
                    Count64::BfindU => 63u32.wrapping_sub(x.leading_zeros()),
                    Count64::BfindS => 63u32.wrapping_sub(if (x as i64) < 0 { !x } else { x }.leading_zeros()),
                }
            }),
            Op::MulWide { signed, d, a, b } => {
                self.fill64(m, d, |w, i| wide_product(w.get32(a)[i], w.get32(b)[i], signed))
            }
            Op::MadWide { signed, d, a, b, c } => {
                self.fill64(m, d, |w, i| {
                    wide_product(w.get32(a)[i], w.get32(b)[i], signed).wrapping_add(w.get64(c)[i])
                });
            }
            Op::Bfi32(d, s) => self.fill32(m, d, |w, i| {
                let [base, insert, pos, len] = s.map(|r| w.get32(r)[i]);
                bfi(u64::from(base), u64::from(insert), pos, len, 32) as u32
            }),
            Op::Bfi64(d, [base, insert, pos, len]) => {
                self.fill64(m, d, |w, i| {
                    bfi(w.get64(base)[i], w.get64(insert)[i], w.get32(pos)[i], w.get32(len)[i], 64)
                });
            }
            Op::Bfe64 { signed, d, a, pos, len } => {
                self.fill64(m, d, |w, i| bfe(w.get64(a)[i], w.get32(pos)[i], w.get32(len)[i], 64, signed));
            }
            Op::Pack64 { d, lo, hi } => {
                self.fill64(m, d, |w, i| u64::from(w.get32(hi)[i]) << 32 | u64::from(w.get32(lo)[i]))
            }
            Op::Unpack64 { a, lo, hi } => {
                let row = *self.get64(a);
                self.fill32(m, lo, |_, i| row[i] as u32);
                self.fill32(m, hi, |_, i| (row[i] >> 32) as u32);
            }
            Op::Pack16x2 { d, lo, hi } => self.fill32(m, d, |w, i| w.get32(hi)[i] << 16 | w.get32(lo)[i] & 0xffff),
            Op::Unpack16x2 { a, lo, hi } => {
                let row = *self.get32(a);
                self.fill32(m, lo, |_, i| row[i] & 0xffff);
                self.fill32(m, hi, |_, i| row[i] >> 16);
            }
            Op::Pack16x4 { d, s } => {
                self.fill64(m, d, |w, i| {
                    s.iter().rev().fold(0, |acc, &r| acc << 16 | u64::from(w.get32(r)[i] & 0xffff))
                });
            }
            Op::Unpack16x4 { a, d } => {
                let row = *self.get64(a);
                for (part, &r) in d.iter().enumerate() {
                    self.fill32(m, r, |_, i| (row[i] >> (16 * part)) as u32 & 0xffff);
                }
            }
            Op::Carry { .. } | Op::MadCarry { .. } => self.carry_op(op, m),
            Op::SetP { cmp, d, d2 } => self.setp(cmp, d, d2, m),
            Op::SetP2 { cmp, d, d2 } => {
                let (lo, hi) = (self.compare_half(cmp, 0), self.compare_half(cmp, 16));
                let (lo, hi) = (self.combine(cmp, lo), self.combine(cmp, hi));
                self.set_pred(d, m, lo);
                self.set_pred(d2, m, hi);
            }
            Op::Set { cmp, d, to } => self.set_op(cmp, d, to, m),
            Op::Sel32 { d, a, b, p } => {
                let p = self.pred(p);
                self.fill32(m, d, |w, i| if p >> i & 1 == 1 { w.get32(a)[i] } else { w.get32(b)[i] });
            }
            Op::Sel64 { d, a, b, p } => {
                let p = self.pred(p);
                self.fill64(m, d, |w, i| if p >> i & 1 == 1 { w.get64(a)[i] } else { w.get64(b)[i] });
            }
            Op::Slct64 { d, a, b, c, float } => self.fill64(m, d, |w, i| {
                let c = w.get32(c)[i];
                let first = if float { f32::from_bits(c) >= 0.0 } else { c as i32 >= 0 };
                if first { w.get64(a)[i] } else { w.get64(b)[i] }
            }),
            Op::PMov { d, a } => {
                let value = self.pred(a);
                self.set_pred(d, m, value);
            }
            Op::PBool { op, d, a, b } => {
                let value = boolean(op, self.pred(a), self.pred(b));
                self.set_pred(d, m, value);
            }
            _ => return false,
        }
        true
    }

    fn carry_op(&mut self, op: &Op, m: u32) {
        let carry = self.carry;
        let mut flags = 0u32;
        match *op {
            Op::Carry { wide, sub, cin, cout, d, a, b } => {
                let mut out = [0u64; LANES];
                for (i, slot) in out.iter_mut().enumerate() {
                    let (x, y, width) = if wide {
                        (self.get64(a)[i], self.get64(b)[i], 64)
                    } else {
                        (u64::from(self.get32(a)[i]), u64::from(self.get32(b)[i]), 32)
                    };
                    let c = u128::from(cin && carry >> i & 1 == 1);
                    let (x, y) = (u128::from(x), u128::from(y));
                    // A borrow is a carry of the two's complement, one bit beyond the word.
                    let total = if sub { x.wrapping_sub(y).wrapping_sub(c) } else { x + y + c };
                    *slot = total as u64;
                    flags |= ((total >> width) as u32 & 1) << i;
                }
                if wide {
                    self.set64(d, m, &out);
                } else {
                    self.set32(d, m, &out.map(|x| x as u32));
                }
                if cout {
                    self.carry = carry & !m | flags & m;
                }
            }
            Op::MadCarry { hi, cin, cout, d, s } => {
                let mut out = [0u32; LANES];
                for (i, slot) in out.iter_mut().enumerate() {
                    let [x, y, z] = s.map(|r| self.get32(r)[i]);
                    let part = match hi {
                        None => x.wrapping_mul(y),
                        Some(signed) => (wide_product(x, y, signed) >> 32) as u32,
                    };
                    let total = u64::from(part) + u64::from(z) + u64::from(cin && carry >> i & 1 == 1);
                    *slot = total as u32;
                    flags |= ((total >> 32) as u32 & 1) << i;
                }
                self.set32(d, m, &out);
                if cout {
                    self.carry = carry & !m | flags & m;
                }
            }
            _ => {}
        }
    }

    #[inline(always)]
    fn lanes_where(f: impl Fn(usize) -> bool) -> u32 {
        let mut bits = 0;
        for lane in 0..LANES {
            bits |= u32::from(f(lane)) << lane;
        }
        bits
    }

    fn compare(&self, cmp: Cmp) -> u32 {
        let Cmp { op, ty, ftz, a, b, .. } = cmp;
        if ty.bytes() == 8 {
            let (x, y) = (self.get64(a), self.get64(b));
            return match ty {
                Ty::F64 => Self::lanes_where(|i| float_cmp(op, f64::from_bits(x[i]), f64::from_bits(y[i]))),
                Ty::S64 => int_compare(op, |i| (x[i] as i64, y[i] as i64)),
                _ => int_compare(op, |i| (x[i], y[i])),
            };
        }
        let (x, y) = (self.get32(a), self.get32(b));
        match ty {
            Ty::F32 if ftz => Self::lanes_where(|i| {
                float_cmp(op, num::flush(f32::from_bits(x[i])).into(), num::flush(f32::from_bits(y[i])).into())
            }),
            Ty::F32 => Self::lanes_where(|i| float_cmp(op, f32::from_bits(x[i]).into(), f32::from_bits(y[i]).into())),
            Ty::F16 | Ty::Bf16 | Ty::F16x2 | Ty::Bf16x2 => self.compare_half(cmp, 0),
            Ty::S16 => int_compare(op, |i| (sx16(x[i]), sx16(y[i]))),
            Ty::S32 => int_compare(op, |i| (x[i] as i32, y[i] as i32)),
            Ty::U16 | Ty::B16 => int_compare(op, |i| (x[i] & 0xffff, y[i] & 0xffff)),
            _ => int_compare(op, |i| (x[i], y[i])),
        }
    }

    fn compare_half(&self, cmp: Cmp, shift: u32) -> u32 {
        let half = if matches!(cmp.ty, Ty::F16 | Ty::F16x2) { Half::F16 } else { Half::Bf16 };
        let (x, y) = (self.get32(cmp.a), self.get32(cmp.b));
        let value = |row: &Row32, i: usize| {
            let bits = row[i] >> shift;
            let exponent = if half == Half::F16 { 0x7c00 } else { 0x7f80 };
            let bits = if cmp.ftz && bits & exponent == 0 { bits & 0x8000 } else { bits };
            f64::from(num::half_to_f32(bits, half))
        };
        Self::lanes_where(|i| float_cmp(cmp.op, value(x, i), value(y, i)))
    }

    fn combine(&self, cmp: Cmp, found: u32) -> u32 {
        match cmp.combine {
            None => found,
            Some((op, p)) => boolean(op, found, self.pred(p)),
        }
    }

    fn setp(&mut self, cmp: Cmp, d: R, d2: Option<R>, m: u32) {
        let found = self.compare(cmp);
        let (first, second) = (self.combine(cmp, found), self.combine(cmp, !found));
        self.set_pred(d, m, first);
        if let Some(d2) = d2 {
            self.set_pred(d2, m, second);
        }
    }

    fn set_op(&mut self, cmp: Cmp, d: R, to: Ty, m: u32) {
        let lo = self.compare(cmp);
        let lo = self.combine(cmp, lo);
        let packed = matches!(cmp.ty, Ty::F16x2 | Ty::Bf16x2);
        let hi = if packed { self.combine(cmp, self.compare_half(cmp, 16)) } else { 0 };
        let one: u32 = match to {
            Ty::F32 => 0x3f80_0000,
            Ty::F16 | Ty::F16x2 => 0x3c00,
            Ty::Bf16 | Ty::Bf16x2 => 0x3f80,
            Ty::U16 | Ty::S16 | Ty::B16 => 0xffff,
            _ if packed => 0xffff,
            _ => u32::MAX,
        };
        self.fill32(m, d, |_, i| {
            let low = if lo >> i & 1 == 1 { one } else { 0 };
            if packed { low | if hi >> i & 1 == 1 { one << 16 } else { 0 } } else { low }
        });
    }
}

fn mul_hi_s(x: u64, y: u64) -> u64 {
    ((i128::from(x as i64) * i128::from(y as i64)) >> 64) as u64
}

fn mul_hi_u(x: u64, y: u64) -> u64 {
    ((u128::from(x) * u128::from(y)) >> 64) as u64
}

#[inline(always)]
fn wide_product(x: u32, y: u32, signed: bool) -> u64 {
    if signed { (i64::from(x as i32) * i64::from(y as i32)) as u64 } else { u64::from(x) * u64::from(y) }
}

fn boolean(op: BoolOp, a: u32, b: u32) -> u32 {
    match op {
        BoolOp::And => a & b,
        BoolOp::Or => a | b,
        BoolOp::Xor => a ^ b,
    }
}

#[inline(always)]
fn int_compare<T: Ord>(op: CmpOp, pair: impl Fn(usize) -> (T, T)) -> u32 {
    let test = |f: fn(&T, &T) -> bool| {
        Warp::lanes_where(|i| {
            let (x, y) = pair(i);
            f(&x, &y)
        })
    };
    match op {
        CmpOp::Eq | CmpOp::Equ => test(T::eq),
        CmpOp::Ne | CmpOp::Neu => test(T::ne),
        CmpOp::Lt | CmpOp::Ltu => test(T::lt),
        CmpOp::Le | CmpOp::Leu => test(T::le),
        CmpOp::Gt | CmpOp::Gtu => test(T::gt),
        CmpOp::Ge | CmpOp::Geu => test(T::ge),
        CmpOp::Num => u32::MAX,
        CmpOp::Nan => 0,
    }
}

#[inline(always)]
fn float_cmp(op: CmpOp, x: f64, y: f64) -> bool {
    let unordered = x.is_nan() || y.is_nan();
    match op {
        CmpOp::Eq => x == y,
        CmpOp::Ne => !unordered && x != y,
        CmpOp::Lt => x < y,
        CmpOp::Le => x <= y,
        CmpOp::Gt => x > y,
        CmpOp::Ge => x >= y,
        CmpOp::Equ => unordered || x == y,
        CmpOp::Neu => unordered || x != y,
        CmpOp::Ltu => unordered || x < y,
        CmpOp::Leu => unordered || x <= y,
        CmpOp::Gtu => unordered || x > y,
        CmpOp::Geu => unordered || x >= y,
        CmpOp::Num => !unordered,
        CmpOp::Nan => unordered,
    }
}
