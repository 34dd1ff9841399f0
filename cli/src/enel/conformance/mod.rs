//! Does what runs here compute what the released code computes? One line for every golden tensor of a folder.
//!
//! Law: nothing here knows a golden value, size or name of a case; all come from the files. Reading order: `files`,
//! `settings` and `samples` read a case, `compute` and `training` run it, `align`, `rules` and `sheet` compare.

pub mod align;
pub mod compute;
pub mod files;
pub mod rules;
pub mod samples;
pub mod settings;
pub mod sheet;
pub mod training;

use crate::{out, outln};
use align::Aligner;
use anyhow::{Result, bail};
use clap::Args;
use compute::{Computed, Lab};
use enel_interp::Tensor;
use enel_text::golden::Network;
use files::{Case, Tensors};
use serde_json::json;
use sheet::{Errors, Row, Status, Summary};
use std::path::PathBuf;

/// What texts and ids are compared by.
const EXACT: f64 = 0.0;
/// Columns keep their place behind names up to this long.
const MAX_NAME_WIDTH: usize = 60;
/// True for tensors that are given, not computed: `w.`, `in.`, and `in.` of one of several sets.
fn is_given(name: &str) -> bool {
    name.starts_with("w.") || name.starts_with("in.") || name.contains(".in.")
}

/// Compares golden values with what runs here, in f32.
#[derive(Debug, Args)]
#[command(
    after_help = "A line: case, tensor, shape, max abs error, relative L2 error, tolerance, ok | FAIL | unsupported.\n\
    Any FAIL or unsupported exits with 1.\n\nExamples:\n  \
    enel conformance fixtures --device cpu\n  \
    enel conformance fixtures --case 'c_*' --json\n  \
    enel conformance fixtures --device cuda:0 --allow-unsupported"
)]
pub struct ConformanceArgs {
    /// Folder of pairs NAME.json and NAME.safetensors.
    pub dir: PathBuf,
    /// auto, cpu, emulated or cuda:N.
    #[arg(long, default_value = "auto", value_parser = super::device_name)]
    pub device: String,
    /// Only cases whose name matches: * stands for any text, ? for one character, [a-c] for one of these.
    #[arg(long, value_name = "GLOB")]
    pub case: Option<String>,
    /// Print one JSON object with all rows and a summary.
    #[arg(long)]
    pub json: bool,
    /// Exit with 0 when nothing fails, even if some tensors are not computed.
    #[arg(long)]
    pub allow_unsupported: bool,
    /// Do not download the LLaMA vocabulary for the text cases when it is not in the cache.
    #[arg(long)]
    pub offline: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// A folder without cases, and any row that is not ok.
pub fn conformance(args: &ConformanceArgs) -> Result<()> {
    let mut found = files::cases(&args.dir)?;
    if let Some(glob) = &args.case {
        let names: Vec<String> = found.iter().map(|(name, _)| name.clone()).collect();
        found.retain(|(name, _)| files::matches(glob, name));
        if found.is_empty() {
            bail!("no case of {} matches `{glob}`; there are: {}", args.dir.display(), names.join(", "));
        }
    }
    let mut lab = Lab::new(&args.device);
    let (mut summary, mut rows) = (Summary::default(), Vec::new());
    for (name, case) in found {
        let checked =
            case.and_then(|case| check(&case, args, &mut lab)).unwrap_or_else(|error| vec![broken(&name, &error)]);
        let name_width = checked.iter().map(|row| row.tensor.chars().count()).max().unwrap_or(0).min(MAX_NAME_WIDTH);
        for row in checked {
            summary.count(&row);
            if row.status == Status::Fail {
                eprintln!("{} {}: {}", row.case, row.tensor, row.detail);
            }
            match args.json {
                true => rows.push(row.json()),
                false => outln!("{}", row.line(name_width))?,
            }
        }
    }
    match args.json {
        true => out::json(&json!({ "rows": rows, "summary": summary.json() }))?,
        false => outln!("{summary}")?,
    }
    match summary {
        Summary { n_fail: 1.., .. } => bail!("{} of the rows FAIL", summary.n_fail),
        Summary { n_unsupported: 1.., .. } if !args.allow_unsupported => {
            bail!("{} rows are unsupported (--allow-unsupported looks past them)", summary.n_unsupported)
        }
        Summary { .. } => Ok(()),
    }
}

/// The row of a case whose files cannot be used.
fn broken(case: &str, error: &anyhow::Error) -> Row {
    Row {
        case: case.to_owned(),
        tensor: "*".to_owned(),
        shape: None,
        errors: None,
        status: Status::Fail,
        computed_on: None,
        detail: format!("{error:#}"),
    }
}

fn check(case: &Case, args: &ConformanceArgs, lab: &mut Lab) -> Result<Vec<Row>> {
    match case.kind {
        'h' => chat_rows(case, args),
        'j' => norm_rows(case, args),
        _ if case.tensors.is_none() && !matches!(case.kind, 'a'..='g') => {
            Ok(vec![unsupported(case, "*", None, "this version does not compute it")])
        }
        _ => {
            let golden = case.read()?;
            let computed = lab.compute(case, &golden)?;
            let results = golden.iter().filter(|(name, _)| !is_given(name));
            let rows = results.map(|(name, theirs)| compare((case, &golden), &computed, name, theirs)).collect();
            lab.forget(&case.json.path.with_extension("safetensors"));
            Ok(rows)
        }
    }
}

fn unsupported(case: &Case, tensor: &str, shape: Option<&[usize]>, why: &str) -> Row {
    Row {
        case: case.name.clone(),
        tensor: tensor.to_owned(),
        shape: shape.map(<[usize]>::to_vec),
        errors: None,
        status: Status::Unsupported,
        computed_on: None,
        detail: why.to_owned(),
    }
}

fn compare((case, golden): (&Case, &Tensors), computed: &Computed, name: &str, theirs: &Tensor) -> Row {
    let Some(part) = computed.parts.iter().find(|part| part.layouts.contains_key(name)) else {
        return unsupported(case, name, Some(&theirs.shape), "this version does not compute it");
    };
    let mut row = unsupported(case, name, Some(&theirs.shape), "");
    row.computed_on = Some(part.computed_on);
    row.status = Status::Fail;
    let aligned = match &part.values {
        Err(error) => Err(format!("{error:#}")),
        Ok(values) => match values.get(name) {
            None => Err("the graph gave no such output".to_owned()),
            Some(ours) => Aligner { ours: values, used: &computed.used }.align(ours, theirs, part.layouts[name]),
        },
    };
    match aligned {
        Err(detail) => row.detail = detail,
        Ok((ours, theirs_values)) => {
            let rule = rules::rule(case, golden, name);
            judge(&mut row, rule.errors(&ours, &theirs_values));
        }
    }
    row
}

fn judge(row: &mut Row, errors: Errors) {
    row.errors = Some(errors);
    row.status = if errors.within() { Status::Ok } else { Status::Fail };
    if row.status == Status::Fail {
        let (found, allowed) = (errors.relative_l2, errors.tolerance);
        row.detail = format!("relative error {found:.2e}, allowed {allowed:.0e}");
    }
}

/// Conversations: texts and ids, all exact.
fn chat_rows(case: &Case, args: &ConformanceArgs) -> Result<Vec<Row>> {
    use enel_text::golden::{Outcome, check_chat};
    let network = if args.offline { Network::Off } else { Network::Allowed };
    let cache = super::places::cache_dir().unwrap_or_else(std::env::temp_dir);
    let checked = check_chat(&args.dir, &cache, network)?;
    let exact = Errors { max_abs: 0.0, relative_l2: 0.0, tolerance: EXACT };
    let row = |checked: enel_text::golden::Row| {
        let mut row = unsupported(case, &checked.name, None, "");
        row.computed_on = Some("host");
        (row.status, row.errors, row.detail) = match checked.outcome {
            Outcome::Ok => (Status::Ok, Some(exact), String::new()),
            Outcome::Fail(detail) => (Status::Fail, None, detail),
            Outcome::Unsupported(detail) => (Status::Unsupported, None, detail),
        };
        row
    };
    let rows: Vec<Row> = checked.into_iter().filter(|row| row.case == case.name).map(row).collect();
    if rows.is_empty() {
        bail!("{} holds nothing to compare: expected a file h_*.json with conversations", case.json.path.display());
    }
    Ok(rows)
}

/// Normalised clouds, with the tolerances of the module that defines them; inputs are compared as model files are read.
fn norm_rows(case: &Case, args: &ConformanceArgs) -> Result<Vec<Row>> {
    use enel_io::golden::{Outcome, check_pc_norm};
    let golden: Tensors = case.read()?;
    let row = |checked: enel_io::golden::Row| {
        let mut row = unsupported(case, &checked.name, Some(&checked.shape), "");
        row.computed_on = Some("host");
        row.errors =
            Some(Errors { max_abs: checked.max_abs, relative_l2: checked.rel_l2, tolerance: checked.tolerance });
        (row.status, row.detail) = match checked.outcome {
            Outcome::Ok => (Status::Ok, String::new()),
            Outcome::Fail(detail) => (Status::Fail, detail),
        };
        row
    };
    let checked = check_pc_norm(&args.dir)?.into_iter().filter(|row| row.case == case.name);
    let mut rows: Vec<Row> = checked.map(row).collect();
    let model_file = enel_io::Weights::open(&case.json.path.with_extension("safetensors"))?;
    for (name, theirs) in &golden {
        if rows.iter().any(|row| row.tensor == *name) || is_given(name) {
            continue;
        }
        let mut row = unsupported(case, name, Some(&theirs.shape), "this version does not compute it");
        if name.ends_with(".in") {
            let ours: Vec<f64> = model_file.to_f32(name)?.into_iter().map(f64::from).collect();
            row.computed_on = Some("host");
            judge(&mut row, Errors::of(&ours, &theirs.to_f64(), EXACT));
        }
        rows.push(row);
    }
    rows.sort_by(|a, b| a.tensor.cmp(&b.tensor));
    Ok(rows)
}
