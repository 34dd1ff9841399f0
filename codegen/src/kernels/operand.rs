//! How does a matrix operand lie in memory, and how is it fetched?
//!
//! Law: an operand counts as aligned runs only where every run of every coordinate is 16 bytes, aligned, and inside one
//! row; everything else goes through its program.

use crate::affine::{divisor, extent_divisor, load_strides, plain_load, stride};
use crate::error::EmitError;
use crate::unit::{Group, Unit};
use enel_bundle::{Desc, Extent, Kind, Reg, Value};
use enel_types::DType;

/// What a kernel can use.
#[derive(Clone, Copy)]
pub(crate) struct Lying {
    /// Runs along the last row axis.
    pub(crate) along_rows: bool,
    /// Runs of bf16 only.
    pub(crate) bf16_only: bool,
}

/// What an operand offers.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    /// Elements of a run; 1 when nothing is known.
    pub(crate) vector: i64,
    /// Runs go along rows, not along the summed axis.
    pub(crate) along_rows: bool,
}

/// True when no more loads run along the last row axis than along the last summed one.
fn fast_along_summed(value: &Value, n_before_summed: usize, n_summed: usize) -> bool {
    let count = |axis: usize| load_strides(&value.program, axis as u32).filter(|s| *s == Some(1)).count();
    let along_rows = if n_before_summed == 0 { 0 } else { count(n_before_summed - 1) };
    let along_summed = if n_summed == 0 { 0 } else { count(n_before_summed + n_summed - 1) };
    along_rows <= along_summed
}

/// Emits struct `ty` over function `function`: an operand with groups batch, rows, summed.
pub(crate) fn operand(
    unit: &mut Unit<'_>,
    ty: &str,
    function: &str,
    groups: [Group<'_>; 3],
    value: &Value,
    lying: Lying,
) -> Result<Run, EmitError> {
    let index = unit.index_type();
    let [batch, rows, summed] = groups.map(|g| g.axes.len());
    let fast_k = fast_along_summed(value, batch + rows, summed);
    let found = runs(unit.desc, groups, value, lying);
    let (run, at, base) = match found {
        None => (Run { vector: 1, along_rows: false }, "nullptr".to_owned(), "nullptr".to_owned()),
        Some((buffer, reg, run)) => {
            let name = format!("{function}_index");
            unit.value(&name, &groups, &Value { program: value.program.clone(), reg }, Kind::Int)?;
            (run, format!("a.b{buffer} + {name}(a, b, i, k)"), format!("a.b{buffer}"))
        }
    };
    let quads = unit.quad(&format!("{function}_quad"), &groups, value)?;
    let element = if run.vector == 8 { "u16" } else { "float" };
    let inline = "static __device__ __forceinline__";
    let place = format!("const Args& a, {index} b, {index} i, {index} k");
    unit.raw(&format!("struct {ty} {{"));
    unit.raw(&format!("  static constexpr int VECTOR = {};", run.vector));
    unit.raw(&format!("  static constexpr bool ALONG_ROWS = {}, FAST_K = {fast_k}, QUADS = {quads};", run.along_rows));
    unit.raw(&format!("  {inline} float value({place}) {{ return {function}(a, b, i, k); }}"));
    unit.raw(&format!("  {inline} void quad({place}, float* to) {{ {function}_quad(a, b, i, k, to); }}"));
    unit.raw(&format!("  {inline} const {element}* at({place}) {{ return {at}; }}"));
    unit.raw(&format!("  {inline} const {element}* base(const Args& a) {{ return {base}; }}"));
    unit.raw("};");
    Ok(run)
}

/// Buffer, index register and form of the aligned runs, where the operand has such.
fn runs(desc: &Desc, groups: [Group<'_>; 3], value: &Value, lying: Lying) -> Option<(u32, Reg, Run)> {
    let (buffer, index) = plain_load(value)?;
    let length = match desc.buffers.get(buffer as usize)?.dtype {
        DType::F32 if !lying.bf16_only => 4,
        DType::BF16 => 8,
        DType::F32 | DType::F16 | DType::I64 | DType::I32 | DType::U32 | DType::U8 | DType::Bool => return None,
    };
    let [batch, rows, summed] = groups.map(|g| g.axes.len());
    let aligned = |axis: usize, last: Option<&Extent>| {
        let axis = axis as u32;
        let unit_stride = stride(&value.program, index, axis) == Some(1);
        let starts = divisor(&value.program, index, axis, &desc.dynamics) % length == 0;
        unit_stride && starts && last.is_some_and(|e| extent_divisor(*e, &desc.dynamics) % length == 0)
    };
    let run = |along_rows| Some((buffer, index, Run { vector: length, along_rows }));
    if summed > 0 && aligned(batch + rows + summed - 1, groups[2].axes.last()) {
        run(false)
    } else if lying.along_rows && rows > 0 && aligned(batch + rows - 1, groups[1].axes.last()) {
        run(true)
    } else {
        None
    }
}
