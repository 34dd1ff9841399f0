//! What does `wgmma` compute, and when does it show? Results stay in flight until the group is waited for.
//!
//! Each warp of a warpgroup multiplies its own 16 rows of A. When a multiplication starts, its accumulators take
//! tokens, NaNs with a number, that moves may copy; a wait replaces each token by the value. Reading an accumulator
//! too early therefore gives NaN, and a multiplication that starts from a token goes on from the value behind it.
//! Operands in shared memory are read when the multiplication starts or when it ends, at the seed's whim, so a tile
//! overwritten too early shows as well.
//!
//! Layouts: PTX ISA 9.0, section 9.7.15.5; canonical layouts of matrix descriptors as in section 9.7.15.5.1.

use std::collections::HashSet;

use super::access::{Fault, Home, Lane, MemoryFault, Request};
use super::block::Env;
use super::num;
use super::warp::{ALL, LANES, Row32, Wait, Warp};
use crate::decode::hopper_op::{Hopper, WgA, WgSum, WgTy, Wgmma};
use crate::decode::op::{Op, R, Rnd};
use crate::error::Access;
use crate::tensor_map::Swizzle;

/// Tokens are `TOKEN_BASE + number`: negative NaNs, none of which arithmetic makes.
const TOKEN_BASE: u32 = 0xff80_0001;
/// Tokens before numbers start again; far more than can be in flight.
const MAX_TOKENS: u32 = 1 << 22;
/// Bytes of A or B along K that one multiplication reads.
const K_BYTES: usize = 32;

/// Where an accumulator comes from.
#[derive(Clone, Debug)]
enum Start {
    Zero,
    Row(Box<Row32>),
    Token(u32),
}

/// Operands, read already or still to be read.
#[derive(Clone, Debug)]
enum Operands {
    Read(Box<Matrices>),
    Unread { a: A, b: u64 },
}

#[derive(Clone, Debug)]
enum A {
    Desc(u64),
    Regs(Box<[Row32; 4]>),
}

/// This warp's rows of A (16 x k) and all of B (k x n), as numbers.
#[derive(Clone, Debug)]
struct Matrices {
    a: Vec<f64>,
    b: Vec<f64>,
}

/// A multiplication nobody has waited for.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    group: u32,
    pc: u32,
    first_token: u32,
    starts: Vec<Start>,
    operands: Operands,
    /// Registers that hold A, counted over all frames.
    a: Option<[u32; 4]>,
}

/// The multiplications of one warp.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    pub(crate) running: Vec<Running>,
    committed: u32,
    next_token: u32,
    /// Whether a fence has come at all, and since the last multiplication.
    has_fenced: bool,
    is_fenced: bool,
    /// Registers written since the last multiplication or fence.
    written: HashSet<u32>,
}

/// A matrix descriptor, decoded.
#[derive(Clone, Copy, Debug)]
struct Desc {
    start: u32,
    leading: u32,
    stride: u32,
    base: u32,
    swizzle: Swizzle,
}

impl Desc {
    fn new(bits: u64) -> Desc {
        let field = |at: u32| (bits >> at & 0x3fff) as u32 * 16;
        Desc {
            start: field(0),
            leading: field(16),
            stride: field(32),
            base: (bits >> 49 & 7) as u32,
            swizzle: match bits >> 62 {
                0 => Swizzle::None,
                1 => Swizzle::B128,
                2 => Swizzle::B64,
                _ => Swizzle::B32,
            },
        }
    }

    /// Address of a 16-byte chunk. K-major: `outer` is a row, `inner` a chunk along K. MN-major: `outer` is a k,
    /// `inner` a chunk along M or N.
    fn chunk(&self, outer: u32, inner: u32, is_k_major: bool) -> u32 {
        let span = self.swizzle.span_bytes().unwrap_or(16);
        let per_span = span / 16;
        let offset = match (is_k_major, self.swizzle) {
            (true, Swizzle::None) => outer % 8 * 16 + outer / 8 * self.stride + inner * self.leading,
            (true, _) => outer % 8 * span + outer / 8 * self.stride + inner * 16,
            (false, Swizzle::None) => outer % 8 * 16 + outer / 8 * self.leading + inner * self.stride,
            (false, _) => {
                inner % per_span * 16 + inner / per_span * self.leading + outer % 8 * span + outer / 8 * self.stride
            }
        };
        // The pattern counts from the base offset, in rows of 128 bytes.
        let at = self.start + offset;
        let shifted = at.wrapping_sub(self.base * 128);
        at ^ shifted ^ self.swizzle.apply(shifted)
    }
}

impl WgTy {
    fn bytes(self) -> usize {
        match self {
            WgTy::F16 | WgTy::Bf16 => 2,
            WgTy::Tf32 => 4,
            WgTy::E4m3 | WgTy::E5m2 | WgTy::S8 | WgTy::U8 => 1,
        }
    }

    /// Element `e` of a word.
    fn value(self, word: u32, e: usize) -> f64 {
        let part = word >> (8 * e * self.bytes());
        match self {
            WgTy::F16 => num::f16_to_f32(part & 0xffff).into(),
            WgTy::Bf16 => num::bf16_to_f32(part & 0xffff).into(),
            WgTy::Tf32 => f32::from_bits(part & 0xffff_e000).into(),
            WgTy::E4m3 => num::e4m3_to_f32(part & 0xff).into(),
            WgTy::E5m2 => num::f16_to_f32(part << 8 & 0xff00).into(),
            WgTy::S8 => f64::from(part as u8 as i8),
            WgTy::U8 => f64::from(part as u8),
        }
    }
}

/// A matrix being read from shared memory.
struct Tile {
    desc: Desc,
    ty: WgTy,
    transposed: bool,
}

impl Tile {
    /// Addresses of the 16-byte chunks that hold rows `first..first + n`.
    fn chunks(&self, first: u32, n: u32) -> Vec<u32> {
        if self.transposed {
            let k = (K_BYTES / self.ty.bytes()) as u32;
            let row = |row| (0..n / 8).map(move |chunk| self.desc.chunk(row, first / 8 + chunk, false));
            return (0..k).flat_map(row).collect();
        }
        (0..n).flat_map(|row| [0, 1].map(|chunk| self.desc.chunk(first + row, chunk, true))).collect()
    }
}

impl Env<'_> {
    /// Starts one multiplication of this warp.
    pub(crate) fn start_wgmma(&mut self, warp: &mut Warp, wgmma: &Wgmma) -> Lane<()> {
        self.check_fence(warp, wgmma)?;
        let clears = warp.pred(wgmma.scale_d) == 0;
        let mixed = warp.pred(wgmma.scale_d) & warp.alive;
        if mixed != 0 && mixed != warp.alive {
            let detail = "lanes disagree about scale-d".to_owned();
            return Err(Box::new((0, Fault::WarpSync { detail })));
        }
        let clears = clears || mixed == 0;
        let mut starts = Vec::with_capacity(wgmma.d.len());
        for &d in &wgmma.d {
            let row = *warp.get32(d);
            starts.push(match row[0] {
                _ if clears => Start::Zero,
                token if warp.wgmma.is_token(token) && row.iter().all(|&x| x == token) => Start::Token(token),
                _ => Start::Row(Box::new(row)),
            });
        }
        let a = match wgmma.a {
            WgA::Desc(r) => A::Desc(self.uniform(warp, r)?),
            WgA::Regs(regs) => A::Regs(Box::new(regs.map(|r| *warp.get32(r)))),
        };
        let mut operands = Operands::Unread { a, b: self.uniform(warp, wgmma.b)? };
        let (_, period) = self.next_copy(warp);
        self.watch_operands(warp, wgmma, &operands, period)?;
        if !self.hub.coin() {
            operands = Operands::Read(Box::new(self.read_operands(warp, wgmma, &operands)?));
        }
        let first_token = warp.wgmma.take_tokens(wgmma.d.len() as u32);
        for (i, &d) in wgmma.d.iter().enumerate() {
            warp.set32(d, ALL, &[first_token + i as u32; LANES]);
        }
        let (group, pc) = (warp.wgmma.committed, warp.cur.pc);
        let a = own_a(warp, wgmma);
        warp.wgmma.running.push(Running { group, pc, first_token, starts, operands, a });
        warp.wgmma.is_fenced = false;
        warp.wgmma.written.clear();
        self.stats.mma += 1;
        // This warp's 16 of the 64 rows.
        self.stats.tensor_flops += 2 * 16 * u64::from(wgmma.n) * (K_BYTES / wgmma.a_ty.bytes()) as u64;
        Ok(())
    }

    /// A fence comes before the first multiplication, and between other writes of its registers and the next.
    ///
    /// **Source** PTX ISA 9.0, section 9.7.15.7, `wgmma.fence`. Moves do not count: compilers make them where they like.
    fn check_fence(&self, warp: &Warp, wgmma: &Wgmma) -> Lane<()> {
        let queue = &warp.wgmma;
        let base = warp.cur.base.r32;
        let own = wgmma.d.iter().map(|r| base + r).chain(own_a(warp, wgmma).into_iter().flatten());
        let detail = match (queue.has_fenced, queue.is_fenced) {
            _ if !self.checks.uninitialised => return Ok(()),
            (false, _) => "no `wgmma.fence` comes before the first `wgmma.mma_async`",
            (true, false) if own.into_iter().any(|r| queue.written.contains(&r)) => {
                "registers of this `wgmma.mma_async` were written after the one before, with no `wgmma.fence` behind"
            }
            _ => return Ok(()),
        };
        Err(Box::new((0, Fault::Wgmma { detail: detail.to_owned() })))
    }

    /// Tells the race checker and the counters of the shared memory a multiplication will read.
    fn watch_operands(&mut self, warp: &Warp, wgmma: &Wgmma, operands: &Operands, period: u32) -> Lane<()> {
        let (true, Operands::Unread { a, b }) = (self.is_watched(), operands) else { return Ok(()) };
        let tile = |bits, ty, transposed| Tile { desc: Desc::new(bits), ty, transposed };
        let mut chunks = tile(*b, wgmma.b_ty, wgmma.trans_b).chunks(0, wgmma.n.into());
        if let A::Desc(bits) = a {
            chunks.extend(tile(*bits, wgmma.a_ty, wgmma.trans_a).chunks(warp.index % 4 * 16, 16));
        }
        let rows: Vec<u64> = chunks.iter().map(|&at| at.into()).collect();
        self.count_rows(Home::Shared, &rows, (16, Access::Read, false));
        rows.iter().try_for_each(|&at| self.watch_operand(warp, period, (at, 16)))
    }

    /// A descriptor, which all lanes must agree about.
    fn uniform(&self, warp: &Warp, r: R) -> Lane<u64> {
        let row = warp.get64(r);
        let first = row[warp.alive.trailing_zeros() as usize % LANES];
        match (0..LANES).find(|&lane| warp.alive >> lane & 1 == 1 && row[lane] != first) {
            None => Ok(first),
            Some(lane) => {
                let detail = "lanes disagree about a matrix descriptor".to_owned();
                Err(Box::new((lane as u32, Fault::WarpSync { detail })))
            }
        }
    }

    fn read_operands(&self, warp: &Warp, wgmma: &Wgmma, operands: &Operands) -> Lane<Matrices> {
        let Operands::Unread { a, b } = operands else {
            return Ok(Matrices { a: Vec::new(), b: Vec::new() });
        };
        let k = K_BYTES / wgmma.a_ty.bytes();
        let first_row = warp.index % 4 * 16;
        let mut a = match a {
            A::Desc(bits) => {
                let tile = Tile { desc: Desc::new(*bits), ty: wgmma.a_ty, transposed: wgmma.trans_a };
                self.read_tile(&tile, first_row, 16)?
            }
            A::Regs(regs) => fragment_rows(wgmma.a_ty, regs),
        };
        let tile = Tile { desc: Desc::new(*b), ty: wgmma.b_ty, transposed: wgmma.trans_b };
        let columns = self.read_tile(&tile, 0, wgmma.n.into())?;
        if wgmma.negate_a != wgmma.negate_b {
            a.iter_mut().for_each(|x| *x = -*x);
        }
        let n = usize::from(wgmma.n);
        let mut b = vec![0.0; k * n];
        for (col, column) in columns.chunks_exact(k).enumerate() {
            for (row, &value) in column.iter().enumerate() {
                b[row * n + col] = value;
            }
        }
        Ok(Matrices { a, b })
    }

    /// Rows `first..first + n` of a matrix, each K elements long.
    fn read_tile(&self, tile: &Tile, first: u32, n: u32) -> Lane<Vec<f64>> {
        let per_word = 4 / tile.ty.bytes();
        let k = K_BYTES / tile.ty.bytes();
        let mut out = vec![0.0; n as usize * k];
        if tile.transposed {
            for row in 0..k {
                for chunk in 0..n / 8 {
                    let words = self.read_chunk(tile.desc.chunk(row as u32, first / 8 + chunk, false))?;
                    for e in 0..8 {
                        out[(chunk as usize * 8 + e) * k + row] = tile.ty.value(words[e / 2], e % 2);
                    }
                }
            }
            return Ok(out);
        }
        for (row, values) in out.chunks_exact_mut(k).enumerate() {
            for (chunk, values) in values.chunks_exact_mut(k / 2).enumerate() {
                let words = self.read_chunk(tile.desc.chunk(first + row as u32, chunk as u32, true))?;
                for (e, value) in values.iter_mut().enumerate() {
                    *value = tile.ty.value(words[e / per_word], e % per_word);
                }
            }
        }
        Ok(out)
    }

    fn read_chunk(&self, at: u32) -> Lane<[u32; 4]> {
        let req = Request { lane: 0, access: Access::Read, home: Home::Shared, address: at.into(), bytes: 16 };
        if u64::from(at) + 16 > u64::from(self.shared.bytes) {
            return req.fault(MemoryFault::OutOfBounds);
        }
        if self.checks.uninitialised && !self.shared.is_written(at as usize, 16) {
            return req.fault(MemoryFault::Uninitialised);
        }
        Ok([0, 4, 8, 12].map(|i| self.shared.load(at as usize + i, 4) as u32))
    }

    /// The multiplications so far form a group.
    pub(crate) fn commit_wgmma(&mut self, warp: &mut Warp) {
        warp.wgmma.committed += 1;
        self.group_wgmma(warp);
        if warp.wgmma.running.iter().all(|r| matches!(r.operands, Operands::Read(_))) {
            self.publish_read(warp, warp.wgmma.committed);
        }
    }

    /// Tells the warpgroup that this warp's groups below `due` have read their operands.
    fn publish_read(&mut self, warp: &Warp, due: u32) {
        let read = &mut self.wgmma_read[warp.index as usize];
        if *read < due {
            *read = due;
            self.hub.events += 1;
        }
    }

    /// Lands every multiplication but those of the last `keep` groups.
    ///
    /// A group belongs to the warpgroup (PTX ISA 9.0, section 9.7.15.7): it is complete when all four warps have
    /// multiplied, so one of them may say for all that their tiles are free. `Some` is what is still missing.
    pub(crate) fn wait_wgmma(&mut self, warp: &mut Warp, keep: u32) -> Lane<Option<Wait>> {
        let due = warp.wgmma.committed.saturating_sub(keep);
        for at in 0..warp.wgmma.running.len() {
            let running = &warp.wgmma.running[at];
            let (Some(wgmma), Operands::Unread { .. }) = (self.wgmma_at(running.pc), &running.operands) else {
                continue;
            };
            if running.group >= due {
                continue;
            }
            let pc = running.pc;
            let at_origin = |e: Box<(u32, Fault)>| Box::new((e.0, Fault::At { pc, fault: Box::new(e.1) }));
            let matrices = self.read_operands(warp, wgmma, &running.operands).map_err(at_origin)?;
            warp.wgmma.running[at].operands = Operands::Read(Box::new(matrices));
        }
        self.publish_read(warp, due);
        let first = warp.index as usize / 4 * 4;
        let is_behind = |w: usize| self.alive[w] != 0 && self.wgmma_read[w] < due;
        if (first..(first + 4).min(self.alive.len())).any(is_behind) {
            return Ok(Some(Wait::Wgmma(due)));
        }
        while warp.wgmma.running.first().is_some_and(|r| r.group < due) {
            let running = warp.wgmma.running.remove(0);
            if let (Some(wgmma), Operands::Read(matrices)) = (self.wgmma_at(running.pc), &running.operands) {
                let rows = multiply(wgmma, matrices, &running.starts);
                warp.redeem(running.first_token, &rows);
            }
        }
        self.acquire_wgmma(warp, due);
        Ok(None)
    }

    /// The `wgmma` instruction at `pc`.
    fn wgmma_at(&self, pc: u32) -> Option<&'_ Wgmma> {
        match &self.grid.module.code[pc as usize].op {
            Op::Hopper(op) => match op.as_ref() {
                Hopper::Wgmma(wgmma) => Some(wgmma),
                _ => None,
            },
            _ => None,
        }
    }
}

/// This warp's rows of A from its registers: (g, 2t..), (g + 8, 2t..), then the second half of K.
fn fragment_rows(ty: WgTy, regs: &[Row32; 4]) -> Vec<f64> {
    let k = K_BYTES / ty.bytes();
    let per = 4 / ty.bytes();
    let mut a = vec![0.0; 16 * k];
    for (r, row) in regs.iter().enumerate() {
        for (lane, &word) in row.iter().enumerate() {
            let (g, t) = (lane / 4, lane % 4);
            for e in 0..per {
                a[(g + 8 * (r & 1)) * k + per * t + e + 4 * per * (r >> 1)] = ty.value(word, e);
            }
        }
    }
    a
}

/// The accumulators of one warp after a multiplication, register by register.
fn multiply(wgmma: &Wgmma, matrices: &Matrices, starts: &[Start]) -> Vec<Row32> {
    let n = usize::from(wgmma.n);
    let k = matrices.b.len() / n;
    let packed = wgmma.sum == WgSum::F16;
    let mut sums = vec![0.0; 16 * n];
    // Row and column of element `e` of register `r` in a lane.
    let place = |r: usize, e: usize, lane: usize| {
        let (g, t) = (lane / 4, lane % 4);
        if packed {
            (g + 8 * (r & 1), 8 * (r >> 1) + 2 * t + e)
        } else {
            (g + 8 * (r >> 1 & 1), 8 * (r >> 2) + 2 * t + (r & 1))
        }
    };
    let per = if packed { 2 } else { 1 };
    for (r, start) in starts.iter().enumerate() {
        let Start::Row(row) = start else { continue };
        for (lane, &word) in row.iter().enumerate() {
            for e in 0..per {
                let (i, j) = place(r, e, lane);
                sums[i * n + j] = match wgmma.sum {
                    WgSum::F32 => f32::from_bits(word).into(),
                    WgSum::F16 => num::f16_to_f32(word >> (16 * e) & 0xffff).into(),
                    WgSum::S32 => f64::from(word as i32),
                };
            }
        }
    }
    for (a_row, sum_row) in matrices.a.chunks_exact(k).zip(sums.chunks_exact_mut(n)) {
        for (x, b_row) in a_row.iter().zip(matrices.b.chunks_exact(n)) {
            for (s, y) in sum_row.iter_mut().zip(b_row) {
                *s += x * y;
            }
        }
    }
    let word = |x: f64| match wgmma.sum {
        WgSum::F32 => (x as f32).to_bits(),
        WgSum::F16 => num::narrow(x, num::F16, Rnd::Near),
        // Without saturation the sum wraps; a cast to i32 would saturate.
        WgSum::S32 if wgmma.saturate => x as i32 as u32,
        WgSum::S32 => x as i64 as u32,
    };
    let mut rows = vec![[0; LANES]; starts.len()];
    for (r, row) in rows.iter_mut().enumerate() {
        for (lane, slot) in row.iter_mut().enumerate() {
            for e in 0..per {
                let (i, j) = place(r, e, lane);
                *slot |= word(sums[i * n + j]) << (16 * e);
            }
        }
    }
    rows
}

/// Registers that hold A, counted over all frames.
fn own_a(warp: &Warp, wgmma: &Wgmma) -> Option<[u32; 4]> {
    match wgmma.a {
        WgA::Regs(regs) => Some(regs.map(|r| warp.cur.base.r32 + r)),
        WgA::Desc(_) => None,
    }
}

impl Queue {
    /// Whether anything is to be seen in the registers instructions touch.
    #[inline(always)]
    pub(crate) fn is_watched(&self) -> bool {
        !self.running.is_empty() || (self.has_fenced && !self.is_fenced)
    }

    pub(crate) fn fence(&mut self) {
        (self.has_fenced, self.is_fenced) = (true, true);
        self.written.clear();
    }

    /// Other instructions than moves and multiplications write this register.
    pub(crate) fn write(&mut self, r: u32) {
        if !self.is_fenced {
            self.written.insert(r);
        }
    }

    /// The running multiplication that reads A from this register.
    pub(crate) fn reader(&self, r: u32) -> Option<u32> {
        self.running.iter().find(|running| running.a.is_some_and(|a| a.contains(&r))).map(|running| running.pc)
    }

    fn is_token(&self, word: u32) -> bool {
        let tokens = |r: &Running| r.first_token..r.first_token + r.starts.len() as u32;
        self.running.iter().any(|r| tokens(r).contains(&word))
    }

    /// The multiplication a token is of, and the number of its accumulator.
    pub(crate) fn origin(&self, word: u32) -> Option<(u32, usize)> {
        if word < TOKEN_BASE {
            return None;
        }
        let of = |r: &Running| {
            let index = word.checked_sub(r.first_token)? as usize;
            (index < r.starts.len()).then_some((r.pc, index))
        };
        self.running.iter().find_map(of)
    }

    /// Whether a running multiplication goes on from this token.
    pub(crate) fn is_start(&self, word: u32) -> bool {
        let mut starts = self.running.iter().flat_map(|r| &r.starts);
        starts.any(|start| matches!(start, Start::Token(token) if *token == word))
    }

    fn take_tokens(&mut self, n: u32) -> u32 {
        if self.next_token + n > MAX_TOKENS {
            self.next_token = 0;
        }
        let first = TOKEN_BASE + self.next_token;
        self.next_token += n;
        first
    }
}

impl Warp {
    /// Puts values where their tokens are: in registers, and in multiplications that start from them.
    fn redeem(&mut self, first: u32, rows: &[Row32]) {
        let found = |token: u32| token.checked_sub(first).and_then(|i| rows.get(i as usize));
        for running in &mut self.wgmma.running {
            for start in &mut running.starts {
                if let Start::Token(token) = start
                    && let Some(row) = found(*token)
                {
                    *start = Start::Row(Box::new(*row));
                }
            }
        }
        for row in &mut self.r32 {
            if let Some(value) = found(row[0])
                && row.iter().all(|&x| x == row[0])
            {
                *row = *value;
            }
        }
    }
}
