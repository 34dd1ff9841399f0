//! How are two operands multiplied? Each is a view into its buffer or a packed panel; the product is a library GEMM's.
//!
//! Law: an operand's block is rows by summed elements. Panels come from a pool of the thread and are reused.

use super::buffers::{Source, View};
use super::check::{Typed, product};
use super::code::{Code, Space, compile_ordered};
use super::error::CpuError;
use super::linear::{Linear, forms};
use super::ops::Src;
use super::strip::Exec;
use enel_bundle::{Instr, Reg};
use enel_types::DType;
use faer::{Accum, MatMut, MatRef, Par};
use half::{bf16, f16};
use std::cell::RefCell;

thread_local! {
    static PANELS: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// A vector on loan from the thread's pool.
pub(crate) struct Panel(Vec<f32>);

impl Panel {
    /// A panel of `len` elements that hold anything.
    pub(crate) fn new(len: usize) -> Panel {
        let mut data = PANELS.with(|p| p.borrow_mut().pop()).unwrap_or_default();
        if data.len() < len {
            data.resize(len, 0.0);
        }
        data.truncate(len);
        Panel(data)
    }
}

impl std::ops::Deref for Panel {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl std::ops::DerefMut for Panel {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl Drop for Panel {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.0);
        PANELS.with(|p| p.borrow_mut().push(data));
    }
}

/// A part of an operand: batch, rows and summed elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) batch: i64,
    pub(crate) row: i64,
    pub(crate) n_rows: usize,
    pub(crate) k: i64,
    pub(crate) n_k: usize,
}

/// A buffer of floats whose elements are the operand's, at `base + batch * b + row * r + k * k`.
#[derive(Clone, Copy, Debug)]
struct Direct {
    buffer: u32,
    dtype: DType,
    base: i64,
    batch: i64,
    row: i64,
    k: i64,
}

/// One side of a product.
pub(crate) struct Operand {
    code: Code,
    /// Where its elements lie, whatever the dtype.
    stored: Option<Direct>,
    /// As `stored`, if a product can read it there.
    direct: Option<Direct>,
    /// Panels are laid out with rows innermost, because memory is.
    rows_inner: bool,
    n_rows: i64,
    n_k: i64,
}

/// Extents of an operand's axes.
pub(crate) struct Axes<'a> {
    pub(crate) batch: &'a [i64],
    pub(crate) rows: &'a [i64],
    pub(crate) summed: &'a [i64],
}

impl Operand {
    /// Compiles an operand over batch, rows, summed.
    pub(crate) fn bind(typed: &Typed, reg: Reg, axes: &Axes<'_>, dynamics: &[i64]) -> Result<Operand, CpuError> {
        let extents = [axes.batch, axes.rows, axes.summed].concat();
        let (b, r) = (axes.batch.len(), axes.batch.len() + axes.rows.len());
        let along = |loops: Vec<usize>| {
            compile_ordered(typed, Space { extents: &extents, loops: &loops, dynamics }, &[reg], &[])
        };
        let inside = along((0..extents.len()).collect())?;
        let across = along((0..b).chain(r..extents.len()).chain(b..r).collect())?;
        let rows_inner = across.load_cost() < inside.load_cost();
        let stored = stored(typed, reg, &extents, dynamics, (b, r));
        let direct = stored.filter(|d| d.dtype == DType::F32);
        let code = if rows_inner { across } else { inside };
        Ok(Operand { code, stored, direct, rows_inner, n_rows: product(axes.rows)?, n_k: product(axes.summed)? })
    }

    /// True when blocks need no packing.
    pub(crate) fn is_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// True when the summed elements of a row are computed or stored side by side.
    pub(crate) fn walks_rows(&self) -> bool {
        self.direct.map_or(!self.rows_inner, |d| d.k == 1)
    }

    /// True when the summed elements of a row are stored side by side, in any dtype.
    pub(crate) fn has_lines(&self) -> bool {
        self.stored.is_some_and(|d| d.k == 1)
    }

    /// The stored summed elements of rows `row..row + n`, if each row's lie side by side.
    pub(crate) fn lines<'a>(
        &self,
        views: &[View<'a>],
        batch: i64,
        (row, n): (i64, usize),
    ) -> Result<Option<Lines<'a>>, CpuError> {
        let Some(at) = self.stored.filter(|d| d.k == 1) else { return Ok(None) };
        let view = &views[at.buffer as usize];
        let start = at.base + batch * at.batch + row * at.row;
        let end = start + (n as i64 - 1).max(0) * at.row + self.n_k;
        if start < 0 || end > view.len as i64 {
            let index = if start < 0 { start } else { end - 1 };
            return Err(CpuError::OutOfBounds { buffer: at.buffer as usize, index, len: view.len });
        }
        let range = start as usize..end as usize;
        let values = match view.source {
            Source::F32(values) => Values::F32(&values[range]),
            Source::Bf16(values) => Values::Bf16(&values[range]),
            Source::F16(values) => Values::F16(&values[range]),
            _ => return Ok(None),
        };
        Ok(Some(Lines { values, n, len: self.n_k as usize, stride: at.row as usize }))
    }

    /// Runs the operand's program.
    pub(crate) fn exec<'a>(&'a self, views: &'a [View<'a>]) -> Exec<'a> {
        Exec::new(&self.code, views)
    }

    /// Computes a block into a panel of `n_rows * n_k` elements.
    pub(crate) fn pack(&self, exec: &mut Exec<'_>, block: Block, panel: &mut [f32]) -> Result<(), CpuError> {
        let (lines, line, len, total, n) = if self.rows_inner {
            (block.batch * self.n_k + block.k, block.row, block.n_rows, self.n_rows, block.n_k)
        } else {
            (block.batch * self.n_rows + block.row, block.k, block.n_k, self.n_k, block.n_rows)
        };
        if len as i64 == total {
            return exec.floats(lines * total, &mut panel[..n * len]);
        }
        for (i, out) in panel.chunks_exact_mut(len).take(n).enumerate() {
            exec.floats((lines + i as i64) * total + line, out)?;
        }
        Ok(())
    }

    /// Summed elements of a row.
    pub(crate) fn n_summed(&self) -> usize {
        self.n_k as usize
    }

    /// Computes whole rows from `row` on into `out`, one after the other.
    pub(crate) fn rows(&self, exec: &mut Exec<'_>, row: i64, out: &mut [f32]) -> Result<(), CpuError> {
        if !self.rows_inner {
            return exec.floats(row * self.n_k, out);
        }
        let n = out.len() / self.n_k.max(1) as usize;
        let mut column = Panel::new(n);
        for k in 0..self.n_k {
            exec.floats(k * self.n_rows + row, &mut column)?;
            (0..n).for_each(|i| out[i * self.n_k as usize + k as usize] = column[i]);
        }
        Ok(())
    }

    /// A packed panel as a matrix of rows by summed elements.
    pub(crate) fn packed<'a>(&self, panel: &'a [f32], block: Block) -> MatRef<'a, f32> {
        let panel = &panel[..block.n_rows * block.n_k];
        if self.rows_inner {
            MatRef::from_row_major_slice(panel, block.n_k, block.n_rows).transpose()
        } else {
            MatRef::from_row_major_slice(panel, block.n_rows, block.n_k)
        }
    }

    /// Rows `row..row + n_rows` of a panel that holds all rows and summed elements of a batch.
    pub(crate) fn part_of_whole<'a>(&self, panel: &'a [f32], block: Block) -> MatRef<'a, f32> {
        let whole = Block { row: 0, n_rows: self.n_rows as usize, k: 0, n_k: self.n_k as usize, ..block };
        let all = self.packed(panel, whole);
        all.subrows(block.row as usize, block.n_rows).subcols(block.k as usize, block.n_k)
    }

    /// A block of a direct operand.
    pub(crate) fn view<'a>(&self, views: &'a [View<'a>], block: Block) -> Result<Option<MatRef<'a, f32>>, CpuError> {
        let Some(direct) = self.direct else { return Ok(None) };
        let view = &views[direct.buffer as usize];
        let Source::F32(values) = view.source else { return Ok(None) };
        let start = direct.base + block.batch * direct.batch + block.row * direct.row + block.k * direct.k;
        let last = start + (block.n_rows as i64 - 1) * direct.row + (block.n_k as i64 - 1) * direct.k;
        for index in [start, last] {
            if index < 0 || index >= view.len as i64 {
                return Err(CpuError::OutOfBounds { buffer: direct.buffer as usize, index, len: view.len });
            }
        }
        let (first, (m, k)) = (start as usize, (block.n_rows, block.n_k));
        Ok(Some(if direct.k == 1 {
            lines(&values[first..=last as usize], m, k, direct.row as usize)
        } else {
            lines(&values[first..=last as usize], k, m, direct.k as usize).transpose()
        }))
    }
}

/// `n` lines of `len` elements, `stride` apart; the last line may end the slice.
fn lines(values: &[f32], n: usize, len: usize, stride: usize) -> MatRef<'_, f32> {
    if n == 1 {
        return MatRef::from_row_major_slice(&values[..len], 1, len);
    }
    MatRef::from_row_major_slice_with_stride(values, n, len, stride)
}

/// The plain load of floats a value may be, with one stride over each group of axes and no overlap.
fn stored(typed: &Typed, reg: Reg, extents: &[i64], dynamics: &[i64], ends: (usize, usize)) -> Option<Direct> {
    let Instr::Load { buffer, index } = typed.program.get(reg) else { return None };
    let dtype = typed.dtypes[buffer as usize];
    if !dtype.is_float() {
        return None;
    }
    let forms = forms(&typed.program, &typed.kinds, extents, dynamics);
    let form: &Linear = forms[index.0 as usize].as_ref()?;
    form.range(extents)?;
    let (b, r) = ends;
    let stride = |from: usize, to: usize| joint_stride(&form.axes[from..to], &extents[from..to]);
    let found = Direct {
        buffer,
        dtype,
        base: form.base,
        batch: stride(0, b)?,
        row: stride(b, r)?,
        k: stride(r, extents.len())?,
    };
    let (n_rows, n_k) = (product(&extents[b..r]).ok()?, product(&extents[r..]).ok()?);
    // A group of one element has no stride of its own.
    let found = Direct {
        row: if n_rows == 1 && found.k == 1 { n_k } else { found.row },
        k: if n_k == 1 { 1 } else { found.k },
        ..found
    };
    let rows_apart = found.k == 1 && found.row >= n_k;
    let k_apart = (found.row == 1 || n_rows == 1) && found.k >= n_rows;
    (rows_apart || k_apart).then_some(found)
}

fn joint_stride(coefs: &[i64], extents: &[i64]) -> Option<i64> {
    let axes: Vec<(i64, i64)> = coefs.iter().copied().zip(extents.iter().copied()).filter(|a| a.1 != 1).collect();
    let joined = axes.windows(2).all(|w| w[0].0 == w[1].0.wrapping_mul(w[1].1));
    joined.then(|| axes.last().map_or(0, |a| a.0))
}

/// `out = lhs * rhs^T`, or `out +=`; `out` is row-major.
pub(crate) fn multiply(out: &mut [f32], lhs: MatRef<'_, f32>, rhs: MatRef<'_, f32>, mode: Accum) {
    let (m, n) = (lhs.nrows(), rhs.nrows());
    let out = MatMut::from_row_major_slice_mut(&mut out[..m * n], m, n);
    faer::linalg::matmul::matmul(out, mode, lhs, rhs.transpose(), 1.0, Par::Seq);
}

/// Floats as a buffer stores them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Values<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
    F16(&'a [f16]),
}

/// `n` lines of `len` stored elements, `stride` apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines<'a> {
    pub(crate) values: Values<'a>,
    pub(crate) n: usize,
    pub(crate) len: usize,
    pub(crate) stride: usize,
}

/// A stored float that widens to f32 exactly.
pub(crate) trait Stored: Copy {
    fn widen(self) -> f32;
}

impl Stored for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Stored for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

impl Stored for f16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }
}

/// Elements summed in f32 lanes before the lanes meet in f64.
const LANE_SUMS: usize = 2048;
struct Dots<'a> {
    /// Vectors of the lines' length, one after the other.
    lhs: &'a [f32],
    lines: Lines<'a>,
    out: &'a mut [f32],
}

impl pulp::NullaryFnOnce for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Dots { lhs, lines, out } = self;
        match lines.values {
            Values::F32(values) => dots(lhs, values, lines, out),
            Values::Bf16(values) => dots(lhs, values, lines, out),
            Values::F16(values) => dots(lhs, values, lines, out),
        }
    }
}

#[inline(always)]
fn dots<T: Stored>(lhs: &[f32], values: &[T], lines: Lines<'_>, out: &mut [f32]) {
    let Lines { n, len, stride, .. } = lines;
    for j in 0..n {
        let line = &values[j * stride..j * stride + len];
        for (row, x) in lhs.chunks_exact(len).enumerate() {
            out[row * n + j] = line_sum(x, line);
        }
    }
}

/// Four vectors of eight: enough additions in flight to hide their latency. Several lines at once were slower.
#[inline(always)]
fn line_sum<T: Stored>(x: &[f32], line: &[T]) -> f32 {
    let mut total = 0f64;
    for (x, y) in x.chunks(LANE_SUMS).zip(line.chunks(LANE_SUMS)) {
        let mut lanes = [0f32; 32];
        let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<32>(), y.as_chunks::<32>());
        for (x, y) in x.iter().zip(y) {
            for i in 0..32 {
                lanes[i] += x[i] * y[i].widen();
            }
        }
        let rest: f32 = x_rest.iter().zip(y_rest).map(|(x, y)| x * y.widen()).sum();
        total += f64::from(halved(lanes)) + f64::from(rest);
    }
    total as f32
}

/// Sums of products of each line with each of several vectors of its length, one after the other in `lhs`;
/// `out` is vectors by lines.
pub(crate) fn line_dots(arch: pulp::Arch, lhs: &[f32], lines: Lines<'_>, out: &mut [f32]) {
    if lines.len > 0 {
        arch.dispatch(Dots { lhs, lines, out });
    }
}

struct Dot<'a>(&'a [f32], &'a [f32]);

impl pulp::NullaryFnOnce for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        // Four vectors of eight: enough additions in flight to hide their latency.
        let mut lanes = [0f32; 32];
        let ((x, x_rest), (y, y_rest)) = (self.0.as_chunks::<32>(), self.1.as_chunks::<32>());
        for (x, y) in x.iter().zip(y) {
            for i in 0..32 {
                lanes[i] += x[i] * y[i];
            }
        }
        let rest: f32 = x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum();
        halved(lanes) + rest
    }
}

/// Sum of lanes, half added to half: vectors as long as they can be.
#[inline(always)]
pub(crate) fn halved<const N: usize>(mut lanes: [f32; N]) -> f32 {
    let mut half = N / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Sum of products of two vectors of one length.
pub(crate) fn dot(arch: pulp::Arch, x: &[f32], y: &[f32]) -> f32 {
    arch.dispatch(Dot(x, y))
}

/// As `dot`, with an operand that may be one number.
pub(crate) fn dot_src(arch: pulp::Arch, x: &[f32], y: Src<'_, f32>) -> f32 {
    match y {
        Src::Strip(y) => dot(arch, x, y),
        Src::One(y) => x.iter().sum::<f32>() * y,
    }
}
