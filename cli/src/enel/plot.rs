//! How did runs go? Loss, rate and length of derivatives over steps, as one picture of one or several runs.
//!
//! Law: the picture is a function of the logs; the same logs give the same bytes.

mod draw;
mod pixels;

use crate::outln;
use anyhow::{Context, Result, bail};
use clap::Args;
use draw::{Curve, Panel};
use enel_train::log::{self, Line};
use std::path::{Path, PathBuf};

/// Draws loss, rate and length of derivatives of runs over their steps.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  enel plot runs/overfit\n  enel plot runs/overfit -o curves.png\n  \
    enel plot runs/a runs/b -o compared.svg --smooth 20")]
pub struct PlotArgs {
    /// Folders of runs.
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Where the picture is written, by its ending as SVG or PNG; `curves.svg` in the first run's folder where nothing is
    /// said.
    #[arg(short, long, value_name = "FILE.svg|FILE.png")]
    pub output: Option<PathBuf>,
    /// Show the mean of so many steps beside the loss.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub smooth: u32,
}

/// Runs the subcommand.
///
/// # Errors
/// A folder without a log, a picture of another kind or in a place that cannot be written.
pub fn plot(args: &PlotArgs) -> Result<()> {
    let Some(first) = args.runs.first() else { bail!("no run is given") };
    let output = args.output.clone().unwrap_or_else(|| first.join("curves.svg"));
    let ends_in = |ending: &str| output.extension().is_some_and(|own| own.eq_ignore_ascii_case(ending));
    if !ends_in("svg") && !ends_in("png") {
        bail!(crate::Usage(format!("{} does not end in .svg or .png, the kinds that are drawn", output.display())));
    }
    let mut panels = [
        Panel::new("loss", draw::Scale::Log),
        Panel::new("learning rate", draw::Scale::Linear),
        Panel::new("length of derivatives", draw::Scale::Log),
    ];
    for (run, path) in args.runs.iter().enumerate() {
        let lines = log::read(path).with_context(|| {
            format!("cannot read {}; give the folder of a run of `enel train`", path.join(log::LOG).display())
        })?;
        if lines.is_empty() {
            bail!("{} has no steps yet", path.join(log::LOG).display());
        }
        let name = name_of(path, args.runs.len());
        let steps: Vec<&log::StepLine> = lines
            .iter()
            .filter_map(|line| match line {
                Line::Step(line) => Some(line),
                Line::HeldOut(_) => None,
            })
            .collect();
        let over = |value: fn(&log::StepLine) -> f64| -> Vec<(f64, f64)> {
            steps.iter().map(|line| (line.step as f64, value(line))).collect()
        };
        let loss = smoothed(&over(|line| line.loss), args.smooth as usize);
        let held_out = lines.iter().filter_map(|line| match line {
            Line::HeldOut(line) => Some((line.step as f64, line.held_out_loss)),
            Line::Step(_) => None,
        });
        let held_out: Vec<(f64, f64)> = held_out.collect();
        panels[0].curves.push(Curve { name: format!("{name}train"), run, dashed: false, points: loss });
        if !held_out.is_empty() {
            panels[0].curves.push(Curve { name: format!("{name}held out"), run, dashed: true, points: held_out });
        }
        let rate = over(|line| line.learning_rate);
        panels[1].curves.push(Curve { name: name.clone(), run, dashed: false, points: rate });
        panels[2].curves.push(Curve { name, run, dashed: false, points: over(|line| line.grad_norm) });
    }
    let picture = draw::picture(&panels);
    let bytes = if ends_in("png") { pixels::png(&picture)? } else { picture.into_bytes() };
    enel_io::write_atomic(&output, |file| file.write_all(&bytes))
        .with_context(|| format!("cannot write {}", output.display()))?;
    outln!("{}", output.display())
}

/// What a run is called where there are several.
fn name_of(path: &Path, n_runs: usize) -> String {
    match path.file_name() {
        Some(name) if n_runs > 1 => format!("{} ", name.to_string_lossy()),
        _ => String::new(),
    }
}

/// Means of the last `n` values.
fn smoothed(points: &[(f64, f64)], n: usize) -> Vec<(f64, f64)> {
    let mean = |end: usize| {
        let window = &points[(end + 1).saturating_sub(n)..=end];
        window.iter().map(|(_, y)| y).sum::<f64>() / window.len() as f64
    };
    points.iter().enumerate().map(|(at, (x, _))| (*x, mean(at))).collect()
}
