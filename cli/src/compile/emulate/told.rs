//! How is it told what a kernel did? Arrays into files, text or JSON to stdout, notes to stderr.

use crate::outln;
use anyhow::{Context, Result};
use enel_emulate::{Array, ArrayType, Finding, Place, Report, Stats};
use enel_io::npy::{NpyArray, NpyData};
use half::f16;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::EmulateArgs;

/// An array that was written: where, what, and how many elements the kernel left alone.
pub(super) struct Written {
    path: PathBuf,
    ty: ArrayType,
    shape: Vec<usize>,
    unwritten: usize,
}

/// Writes all arrays, or none if one of them cannot be.
pub(super) fn write(args: &EmulateArgs, report: &Report, shapes: &[Vec<usize>]) -> Result<Vec<Written>> {
    let (mut written, mut files) = (Vec::new(), Vec::new());
    for ((given, found), shape) in args.args.iter().zip(&report.arrays).zip(shapes) {
        let (Some(path), Some((array, unwritten))) = (given.target(), found) else { continue };
        let data = npy_data(array);
        let npy = NpyArray::new(shape.clone(), data).context("an array has as many elements as its shape says")?;
        let failed = || format!("cannot write {}", path.display());
        files.push(beside(path, &npy.to_bytes()).with_context(failed)?);
        written.push(Written { path: path.to_owned(), ty: array.ty, shape: shape.clone(), unwritten: *unwritten });
    }
    for (file, Written { path, .. }) in files.into_iter().zip(&written) {
        let failed = || format!("cannot write {}", path.display());
        file.persist(path).map_err(|error| error.error).with_context(failed)?;
    }
    Ok(written)
}

/// A temporary file in the folder of `path`, with the rights of any new file.
fn beside(path: &Path, bytes: &[u8]) -> std::io::Result<tempfile::NamedTempFile> {
    if path.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn npy_data(array: &Array) -> NpyData {
    fn each<T, const N: usize>(bytes: &[u8], make: impl Fn([u8; N]) -> T) -> Vec<T> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| make(*chunk)).collect()
    }
    let bytes = &array.bytes;
    match array.ty {
        ArrayType::U8 => NpyData::U8(bytes.clone()),
        ArrayType::I8 => NpyData::I8(each(bytes, i8::from_le_bytes)),
        ArrayType::U16 => NpyData::U16(each(bytes, u16::from_le_bytes)),
        ArrayType::I16 => NpyData::I16(each(bytes, i16::from_le_bytes)),
        ArrayType::U32 => NpyData::U32(each(bytes, u32::from_le_bytes)),
        ArrayType::I32 => NpyData::I32(each(bytes, i32::from_le_bytes)),
        ArrayType::U64 => NpyData::U64(each(bytes, u64::from_le_bytes)),
        ArrayType::I64 => NpyData::I64(each(bytes, i64::from_le_bytes)),
        ArrayType::F16 => NpyData::F16(each(bytes, f16::from_le_bytes)),
        ArrayType::F32 => NpyData::F32(each(bytes, f32::from_le_bytes)),
        ArrayType::F64 => NpyData::F64(each(bytes, f64::from_le_bytes)),
    }
}

/// Names and values of the counters.
fn counters(stats: &Stats) -> [(&'static str, u64); 8] {
    [
        ("warp_instructions", stats.warp_instructions),
        ("lane_instructions", stats.lane_instructions),
        ("loads", stats.loads),
        ("stores", stats.stores),
        ("atomics", stats.atomics),
        ("mma", stats.mma),
        ("barriers", stats.barriers),
        ("async_copies", stats.async_copies),
    ]
}

/// Arguments whose arrays were written though they only go in.
fn notes(args: &EmulateArgs, report: &Report) -> Vec<String> {
    let note = |index: &usize| {
        format!(
            "argument {index}, from 0: {} writes to this `in:` array, which is lost; use `inout:` to keep it",
            args.entry
        )
    };
    report.lost.iter().map(note).collect()
}

/// Tells of a kernel without mistakes.
pub(super) fn show(args: &EmulateArgs, report: &Report, written: &[Written]) -> Result<()> {
    let (stats, notes) = (&report.stats, notes(args, report));
    if args.json {
        let counters: serde_json::Map<String, Value> =
            counters(stats).into_iter().map(|(name, n)| (name.to_owned(), n.into())).collect();
        let outputs: Vec<Value> = written
            .iter()
            .map(|w| json!({"path": w.path, "dtype": w.ty.name(), "shape": w.shape, "unwritten_elements": w.unwritten}))
            .collect();
        return crate::out::json(&json!({
            "kernel": args.entry, "seed": args.seed, "passed": true, "findings": [], "notes": notes,
            "printed": report.printed, "counters": counters, "outputs": outputs,
        }));
    }
    print(&report.printed)?;
    for note in notes {
        eprintln!("note: {note}");
    }
    outln!("{}: no findings", args.entry)?;
    for (name, n) in counters(stats) {
        outln!("  {:<18} {n}", name.replace('_', " "))?;
    }
    for w in written {
        let left = if w.unwritten > 0 { format!(", {} elements never written", w.unwritten) } else { String::new() };
        outln!("  wrote {} ({} {:?}{left})", w.path.display(), w.ty.name(), w.shape)?;
    }
    Ok(())
}

/// What the kernel printed, with an end of line.
fn print(printed: &str) -> Result<()> {
    if printed.is_empty() { Ok(()) } else { outln!("{}", printed.strip_suffix('\n').unwrap_or(printed)) }
}

/// Tells of a kernel's mistake.
pub(super) fn show_finding(args: &EmulateArgs, finding: &Finding, printed: &str) -> Result<()> {
    if args.json {
        return crate::out::json(&json!({
            "kernel": args.entry, "seed": args.seed, "passed": false, "findings": [finding_json(finding)],
            "printed": printed, "outputs": [],
        }));
    }
    print(printed)?;
    outln!("finding: {}\nno outputs are written", finding.text)
}

/// Tells, as JSON, that there was no run.
pub(super) fn show_error(error: &anyhow::Error) -> Result<()> {
    crate::out::json(&json!({"passed": false, "error": format!("{error:#}")}))
}

fn place_json(place: &Place) -> Value {
    let source = place.source.as_ref().map(|(file, line)| json!({"file": file, "line": line}));
    json!({"ptx_line": place.ptx_line, "source": source, "block": place.block, "thread": place.thread})
}

fn finding_json(finding: &Finding) -> Value {
    let spelled = |x: Option<&dyn std::fmt::Display>| x.map(|x| x.to_string());
    let mut made = json!({"kind": finding.kind, "kernel": finding.kernel});
    let mut put = |key: &str, value: Value| made[key] = value;
    if let Some(Value::Object(place)) = finding.place.as_ref().map(place_json) {
        place.into_iter().for_each(|(key, value)| put(&key, value));
    } else {
        put("block", json!(finding.block));
    }
    put("access", json!(spelled(finding.access.as_ref().map(|x| x as _))));
    put("space", json!(spelled(finding.space.as_ref().map(|x| x as _))));
    put("address", json!(finding.address));
    put("bytes", json!(finding.bytes));
    put("object", json!(finding.object));
    let other = finding.other.as_ref().map(|(place, access)| {
        let mut other = place_json(place);
        other["access"] = json!(spelled(access.as_ref().map(|x| x as _)));
        other
    });
    put("other", json!(other));
    put("text", json!(finding.text));
    made
}
