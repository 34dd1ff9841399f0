//! What do tensor-core instructions compute? Fragments become small matrices, products are summed in f64.
//!
//! Devices align and truncate the summands of a block in a way nobody documents, so a sum is taken exactly
//! (products of 16-bit floats are exact, f64 holds their sum to 2^-53) and rounded once; compare with a tolerance.
//! Fragment layouts: PTX ISA 9.0, section 9.7.14.5.

use super::access::{Home, Lane, MemoryFault, Request, resolve};
use super::block::Env;
use super::num;
use super::warp::{LANES, Row32, Warp};
use crate::decode::op::*;
use crate::error::Access;

/// Elements packed in one register.
fn per_reg(ty: MmaTy) -> usize {
    match ty {
        MmaTy::F16 | MmaTy::Bf16 => 2,
        MmaTy::Tf32 => 1,
        MmaTy::S8 | MmaTy::U8 | MmaTy::E4m3 | MmaTy::E5m2 => 4,
    }
}

/// Element `e` of a register.
#[inline(always)]
fn element(ty: MmaTy, word: u32, e: usize) -> f64 {
    match ty {
        MmaTy::F16 => num::f16_to_f32(word >> (16 * e) & 0xffff).into(),
        MmaTy::Bf16 => num::bf16_to_f32(word >> (16 * e) & 0xffff).into(),
        // The tensor core reads the upper 19 bits of a tf32 operand.
        MmaTy::Tf32 => f32::from_bits(word & 0xffff_e000).into(),
        MmaTy::S8 => f64::from((word >> (8 * e)) as u8 as i8),
        MmaTy::U8 => f64::from((word >> (8 * e)) as u8),
        MmaTy::E4m3 => num::e4m3_to_f32(word >> (8 * e) & 0xff).into(),
        MmaTy::E5m2 => num::f16_to_f32((word >> (8 * e) & 0xff) << 8).into(),
    }
}

/// Element `e` of the registers of all lanes.
#[inline(always)]
fn elements(ty: MmaTy, row: &Row32, e: usize) -> [f64; LANES] {
    match ty {
        MmaTy::Bf16 => row.map(|word| element(MmaTy::Bf16, word, e)),
        MmaTy::Tf32 => row.map(|word| element(MmaTy::Tf32, word, e)),
        _ => row.map(|word| element(ty, word, e)),
    }
}

fn pack_f16(lo: f64, hi: f64) -> u32 {
    num::narrow(lo, num::F16, Rnd::Near) | num::narrow(hi, num::F16, Rnd::Near) << 16
}

impl Env<'_> {
    pub(crate) fn tensor(&mut self, warp: &mut Warp, op: &Op, m: u32) -> Lane<()> {
        match op {
            Op::Mma(mma) => {
                self.stats.mma += 1;
                self.stats.tensor_flops += 2 * 16 * 8 * u64::from(mma.k);
                warp.mma(mma, m);
                Ok(())
            }
            Op::LdMatrix(ld) => self.ldmatrix(warp, ld, m),
            &Op::MovMatrix { d, a } => {
                let row = *warp.get32(a);
                warp.fill32(m, d, |_, lane| transposed_pair(|r, c| half_at(&row, r, c), lane));
                Ok(())
            }
            Op::WmmaMove(wmma) => self.wmma_move(warp, wmma, m),
            Op::WmmaMma(wmma) => {
                self.stats.mma += 1;
                let WmmaMma { m: rows, n: cols, k: depth, .. } = **wmma;
                self.stats.tensor_flops += 2 * u64::from(rows) * u64::from(cols) * u64::from(depth);
                warp.wmma_mma(wmma, m);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn ldmatrix(&mut self, warp: &mut Warp, ld: &LdMatrix, m: u32) -> Lane<()> {
        let addresses = warp.addresses(ld.addr);
        let access = if ld.store { Access::Write } else { Access::Read };
        for (matrix, &reg) in ld.regs.iter().enumerate() {
            let mut places = [(Home::Shared, 0); 8];
            // One 8 x 8 matrix as rows of four words, each two 16-bit elements.
            let mut rows = [[0u64; 4]; 8];
            if ld.store {
                let row = *warp.get32(reg);
                for lane in 0..LANES {
                    let word = if ld.trans { transposed_pair(|r, c| half_at(&row, r, c), lane) } else { row[lane] };
                    rows[lane / 4][lane % 4] = word.into();
                }
            }
            for (r, row) in rows.iter_mut().enumerate() {
                let lane = 8 * matrix + r;
                let (home, address) = resolve(ld.addr.space, addresses[lane]);
                let req = Request { lane, access, home, address, bytes: 16 };
                if !address.is_multiple_of(16) {
                    return req.fault(MemoryFault::Misaligned);
                }
                if ld.store {
                    self.store(warp, req, 4, row)?;
                } else {
                    self.load(warp, req, 4, row)?;
                }
                places[r] = (home, address);
            }
            self.watch_rows(warp, 8 * matrix, access, (&places, 16))?;
            self.count_rows(places[0].0, &places.map(|(_, address)| address), (16, access, true));
            if !ld.store {
                let at = |r: usize, c: usize| (rows[r][c / 2] >> (16 * (c % 2))) as u32 & 0xffff;
                if ld.trans {
                    warp.fill32(m, reg, |_, lane| transposed_pair(at, lane));
                } else {
                    warp.fill32(m, reg, |_, lane| rows[lane / 4][lane % 4] as u32);
                }
            }
        }
        Ok(())
    }

    /// Fragments of `wmma` have no documented layout; here lane `l` holds elements `l*n .. l*n + n` in row order.
    fn wmma_move(&mut self, warp: &mut Warp, w: &WmmaMove, m: u32) -> Lane<()> {
        let addresses = warp.addresses(w.addr);
        let (rows, cols) = (usize::from(w.rows), usize::from(w.cols));
        let per_lane = rows * cols / LANES;
        let bytes = w.ty.bytes();
        let dense = if w.row_major { cols } else { rows } as u32;
        let mut out = vec![[0u32; LANES]; w.regs.len()];
        let access = if w.store { Access::Write } else { Access::Read };
        let per_word = (4 / bytes) as usize;
        let mut starts = Vec::with_capacity(rows * cols);
        let mut at = Home::Global;
        for lane in 0..LANES {
            let stride = u64::from(w.stride.map_or(dense, |r| warp.get32(r)[lane]));
            for e in 0..per_lane {
                let (row, col) = ((lane * per_lane + e) / cols, (lane * per_lane + e) % cols);
                let (major, minor) = if w.row_major { (row, col) } else { (col, row) };
                let offset = (major as u64 * stride + minor as u64) * u64::from(bytes);
                let (home, address) = resolve(w.addr.space, addresses[lane].wrapping_add(offset));
                let req = Request { lane, access, home, address, bytes };
                let (word, shift) = (e / per_word, 8 * bytes as usize * (e % per_word));
                if w.store {
                    let value = warp.get32(w.regs[word])[lane] >> shift;
                    self.store(warp, req, bytes, &[value.into()])?;
                } else {
                    let mut value = [0];
                    self.load(warp, req, bytes, &mut value)?;
                    out[word][lane] |= (value[0] as u32) << shift;
                }
                self.watch_rows(warp, lane, access, (&[(home, address)], bytes))?;
                starts.push(address);
                at = home;
            }
        }
        starts.sort_unstable();
        self.count_rows(at, &starts, (bytes, access, true));
        if !w.store {
            for (row, &r) in out.iter().zip(&w.regs) {
                warp.set32(r, m, row);
            }
        }
        Ok(())
    }
}

/// 16-bit element (`r`, `c`) of an 8 x 8 matrix spread over a warp.
fn half_at(row: &Row32, r: usize, c: usize) -> u32 {
    row[4 * r + c / 2] >> (16 * (c % 2)) & 0xffff
}

/// What lane `lane` holds of the transposed matrix.
fn transposed_pair(at: impl Fn(usize, usize) -> u32, lane: usize) -> u32 {
    let (row, col) = (2 * (lane % 4), lane / 4);
    at(row, col) | at(row + 1, col) << 16
}

/// A sum of integers; a cast to i32 stops at the ends of its range.
fn whole(sum: f64, saturate: bool) -> u32 {
    if saturate { sum as i32 as u32 } else { sum as i64 as u32 }
}

impl Warp {
    fn mma(&mut self, mma: &Mma, m: u32) {
        match mma.k {
            8 => self.mma_of::<8>(mma, m),
            16 => self.mma_of::<16>(mma, m),
            _ => self.mma_of::<32>(mma, m),
        }
    }

    /// The product of 16 x K by K x 8 elements.
    fn mma_of<const K: usize>(&mut self, mma: &Mma, m: u32) {
        let mut a = [[0f64; K]; 16];
        let mut b = [[0f64; 8]; K];
        let mut sum = [[0f64; 8]; 16];
        let (na, nb) = (per_reg(mma.a_ty), per_reg(mma.b_ty));
        for (r, &reg) in mma.a.iter().enumerate() {
            for e in 0..na {
                let (low, left) = (8 * (r & 1), e + 4 * na * (r >> 1));
                for (lane, value) in elements(mma.a_ty, self.get32(reg), e).into_iter().enumerate() {
                    a[low + lane / 4][left + na * (lane % 4)] = value;
                }
            }
        }
        for (r, &reg) in mma.b.iter().enumerate() {
            for e in 0..nb {
                for (lane, value) in elements(mma.b_ty, self.get32(reg), e).into_iter().enumerate() {
                    b[nb * (lane % 4) + e + 4 * nb * r][lane / 4] = value;
                }
            }
        }
        let integer = matches!(mma.a_ty, MmaTy::S8 | MmaTy::U8);
        for (r, &reg) in mma.c.iter().enumerate() {
            let row = self.get32(reg);
            for (lane, &word) in row.iter().enumerate() {
                let (g, t) = (lane / 4, lane % 4);
                if mma.c_half {
                    sum[g + 8 * r][2 * t] = element(MmaTy::F16, word, 0);
                    sum[g + 8 * r][2 * t + 1] = element(MmaTy::F16, word, 1);
                } else {
                    let c = if integer { f64::from(word as i32) } else { f32::from_bits(word).into() };
                    sum[g + 8 * (r >> 1)][2 * t + (r & 1)] = c;
                }
            }
        }
        for (a_row, sum_row) in a.iter().zip(&mut sum) {
            let mut row = *sum_row;
            for (x, b_row) in a_row.iter().zip(&b) {
                for (s, y) in row.iter_mut().zip(b_row) {
                    *s += x * y;
                }
            }
            *sum_row = row;
        }
        for (r, &reg) in mma.d.iter().enumerate() {
            self.fill32(m, reg, |_, lane| {
                let (g, t) = (lane / 4, lane % 4);
                if mma.d_half {
                    return pack_f16(sum[g + 8 * r][2 * t], sum[g + 8 * r][2 * t + 1]);
                }
                let value = sum[g + 8 * (r >> 1)][2 * t + (r & 1)];
                if integer { whole(value, mma.saturate) } else { (value as f32).to_bits() }
            });
        }
    }

    fn fragment(&self, regs: &[R], ty: MmaTy, n: usize) -> Vec<f64> {
        let per = per_reg(ty);
        let per_lane = n / LANES;
        (0..n).map(|i| element(ty, self.get32(regs[i % per_lane / per])[i / per_lane], i % per)).collect()
    }

    fn wmma_mma(&mut self, w: &WmmaMma, mask: u32) {
        let (m, n, k) = (usize::from(w.m), usize::from(w.n), usize::from(w.k));
        let a = self.fragment(&w.a, w.ty, m * k);
        let b = self.fragment(&w.b, w.ty, k * n);
        let per_lane = m * n / LANES;
        let integer = matches!(w.ty, MmaTy::S8 | MmaTy::U8);
        let mut sum: Vec<f64> = if w.c_half {
            self.fragment(&w.c, MmaTy::F16, m * n)
        } else {
            let value = |bits: u32| if integer { f64::from(bits as i32) } else { f32::from_bits(bits).into() };
            (0..m * n).map(|i| value(self.get32(w.c[i % per_lane])[i / per_lane])).collect()
        };
        for (a_row, sum_row) in a.chunks(k).zip(sum.chunks_mut(n)) {
            for (x, b_row) in a_row.iter().zip(b.chunks(n)) {
                for (s, y) in sum_row.iter_mut().zip(b_row) {
                    *s += x * y;
                }
            }
        }
        for (r, &reg) in w.d.iter().enumerate() {
            self.fill32(mask, reg, |_, lane| {
                let at = lane * per_lane;
                match (w.d_half, integer) {
                    (true, _) => pack_f16(sum[at + 2 * r], sum[at + 2 * r + 1]),
                    (false, true) => whole(sum[at + r], w.saturate),
                    (false, false) => (sum[at + r] as f32).to_bits(),
                }
            });
        }
    }
}
