//! Which graphs does MODEL name? A preset, a `.tir` file, or a model folder.

use anyhow::{Context, Result, bail};
use enel_ir::{DType, Graph, parse, verify};
use enel_model::{
    Bounds, EnelConfig, Extent, Goal, LlamaConfig, PRESETS, TapLevel, decode_graph, embed_graph, prefill_graph,
    step_graph,
};
use enel_passes::Mode;
use std::path::Path;

/// The graphs of one program, and the model they belong to, if any.
#[derive(Debug)]
pub struct Source {
    /// Compiled into one bundle.
    pub graphs: Vec<Graph>,
    /// The preset's name.
    pub preset: Option<String>,
}

/// Rows of one call that can be scored: tokens of the longest label.
pub const MAX_SCORED: usize = 512;

/// Reads what `model` names; `mode` says how a preset's matrices are stored.
///
/// # Errors
/// A file that cannot be read, does not parse or breaks rules; a name that is no preset.
pub fn load(model: &str, mode: Mode) -> Result<Source> {
    if model.ends_with(".tir") {
        return Ok(Source { graphs: vec![read_graph(Path::new(model))?], preset: None });
    }
    let Some(config) = EnelConfig::preset(model) else {
        bail!("`{model}` is neither a .tir file nor a preset ({})", PRESETS.join(", "));
    };
    Ok(Source { graphs: model_graphs(&config, mode)?, preset: Some(model.to_owned()) })
}

/// Embed, prefill, step and decode of a model.
///
/// # Errors
/// A config without graphs.
pub fn model_graphs(config: &EnelConfig, mode: Mode) -> Result<Vec<Graph>> {
    let (embed, _) = embed_graph(&config.point, Some(config.llama.hidden_size), &bounds(mode), TapLevel::Off)?;
    Ok(vec![embed, prefill(config, mode)?, step(&config.llama, mode)?, decode(&config.llama, mode)?])
}

/// Prompts with clouds, as all commands run them.
///
/// # Errors
/// A config without a graph.
pub fn prefill(config: &EnelConfig, mode: Mode) -> Result<Graph> {
    Ok(prefill_graph(config, &bounds(mode))?)
}

/// Tokens without clouds, as all commands run them: the rows they name are scored, up to [`MAX_SCORED`].
///
/// # Errors
/// A config without a graph.
pub fn step(config: &LlamaConfig, mode: Mode) -> Result<Graph> {
    Ok(step_graph(config, &bounds(mode), Goal::LastLogits)?)
}

/// One token of each of a few samples, as all commands run it.
///
/// # Errors
/// A config without a graph.
pub fn decode(config: &LlamaConfig, mode: Mode) -> Result<Graph> {
    Ok(decode_graph(config, &bounds(mode))?)
}

/// Sizes of a call, and how matrices are stored in a mode.
pub fn bounds(mode: Mode) -> Bounds {
    let storage = match mode {
        Mode::F32 => DType::F32,
        Mode::Bf16 => DType::BF16,
    };
    Bounds { storage, rows: Extent::range(1, MAX_SCORED), ..Bounds::default() }
}

/// A graph in text form, verified.
///
/// # Errors
/// Names the file, and every fault with its place.
pub fn read_graph(path: &Path) -> Result<Graph> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let graph = parse(&text).with_context(|| format!("{} is no graph", path.display()))?;
    if let Err(faults) = verify(&graph) {
        let list: Vec<String> = faults.iter().map(|f| format!("\n  {f}")).collect();
        bail!("{} breaks {} rule(s):{}", path.display(), faults.len(), list.concat());
    }
    Ok(graph)
}

/// Values of symbols given as `NAME=VALUE`.
///
/// # Errors
/// Malformed entries, unknown names, values out of bounds.
pub fn symbols(graph: &Graph, given: &[String]) -> Result<Vec<Option<i64>>> {
    let mut values = vec![None; graph.symbols.len()];
    for entry in given {
        let (name, value) = entry.split_once('=').with_context(|| format!("`{entry}` is not NAME=VALUE"))?;
        let Some(id) = graph.symbols.find(name) else {
            let names: Vec<&str> = graph.symbols.iter().map(|s| s.name.as_str()).collect();
            bail!("graph `{}` has no symbol `{name}`; it has: {}", graph.name(), names.join(", "));
        };
        values[id.0 as usize] = Some(value.parse().with_context(|| format!("`{value}` is no whole number"))?);
    }
    Ok(values)
}
