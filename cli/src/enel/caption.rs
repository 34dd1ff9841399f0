//! What does a cloud show? Cloud and question in, words out as they are made.

use super::cloud::CloudArgs;
use super::decode::{Decoding, Start};
use super::engine::Engine;
use super::model::Model;
use crate::compile::ModeArg;
use crate::out;
use anyhow::{Context, Result, bail};
use clap::Args;
use enel_io::{PrepareConfig, PrepareReport, prepare};
use enel_ir::{DType, Graph};
use enel_model::{Bounds, EnelConfig, Goal, Prompt, pack, prefill_graph, step_graph};
use enel_passes::Mode;
use enel_runtime::HostTensor;
use enel_text::DecodeStream;
use enel_text::chat::{Message, Template, generation};
use enel_text::sample::{Sampler, SamplingConfig};
use serde_json::json;
use std::time::Instant;

/// Channels of a prepared point: x, y, z, red, green, blue.
const PREPARED_CHANNELS: usize = 6;

/// Describes a point cloud or a mesh in words.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --model the built-in `tiny` preset runs with random weights: the text is noise, and shows \
    that everything works.\n\nExamples:\n  \
    enel caption samples/chair.ply\n  \
    enel caption samples/chair.ply --device cpu --seed 7 --max-new-tokens 16 --json\n  \
    enel caption samples/lamp.ply --greedy --prompt 'What is it made of?'"
)]
pub struct CaptionArgs {
    /// The cloud.
    #[command(flatten)]
    pub cloud: CloudArgs,
    /// A model folder (config.json, tokenizer, safetensors), or a preset with random weights.
    #[arg(long, value_name = "DIR|PRESET", default_value = "tiny")]
    pub model: String,
    /// auto, cpu, emulated or cuda:N.
    #[arg(long, default_value = "auto", value_parser = super::device_name)]
    pub device: String,
    /// What is asked.
    #[arg(long, default_value = "Caption this 3D model in detail.")]
    pub prompt: String,
    /// Points the model gets; others are sub-sampled or repeated. A preset has its own, a folder 8 x input_points.
    #[arg(long, value_name = "N")]
    pub points: Option<usize>,
    /// Longest answer.
    #[arg(long, value_name = "N", default_value = "128", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_new_tokens: u32,
    /// Scores are divided by it; 0 takes the best token.
    #[arg(long, default_value = "1", value_parser = temperature)]
    pub temperature: f32,
    /// Only this many of the best tokens are left; 0 leaves all.
    #[arg(long, value_name = "N", default_value = "50")]
    pub top_k: usize,
    /// Only the best tokens are left whose shares reach this sum.
    #[arg(long, value_name = "P", default_value = "0.95", value_parser = share)]
    pub top_p: f32,
    /// Chooses the random numbers: same seed, same text.
    #[arg(long, default_value = "0")]
    pub seed: u64,
    /// Always take the best token.
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p", "seed"])]
    pub greedy: bool,
    /// Print one JSON object with text, ids and timings, instead of the text as it comes.
    #[arg(long)]
    pub json: bool,
    /// Numeric mode.
    #[arg(long, value_enum, default_value = "f32")]
    pub mode: ModeArg,
}

fn temperature(text: &str) -> Result<f32, String> {
    number(text, |value| value >= 0.0, "a number of at least 0")
}

fn share(text: &str) -> Result<f32, String> {
    number(text, |value| value > 0.0 && value <= 1.0, "more than 0 and at most 1")
}

fn number(text: &str, is_allowed: impl Fn(f32) -> bool, expected: &str) -> Result<f32, String> {
    let value = text.parse::<f32>().ok().filter(|value| value.is_finite() && is_allowed(*value));
    value.ok_or_else(|| format!("expected {expected}"))
}

/// How long the parts took, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Timings {
    load_ms: f64,
    compile_ms: f64,
    prefill_ms: f64,
    decode_ms: f64,
}

/// What came out.
#[derive(Clone, Debug, Default)]
struct Answer {
    text: String,
    ids: Vec<u32>,
    at_end: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// Names the file that cannot be used; what the device reports.
pub fn caption(args: &CaptionArgs) -> Result<()> {
    let mut timings = Timings::default();
    let clock = Instant::now();
    let model = Model::open(&args.model, args.points)?;
    let (points, report) = points(args, &model.config)?;
    let prompt = prompt_ids(args, &model)?;
    tell(args, &model, &report);
    let is_random = model.is_random();
    timings.load_ms = ms(clock);

    let clock = Instant::now();
    let graphs = graphs(&model.config, args.mode)?;
    let graphs: Vec<&Graph> = graphs.iter().collect();
    let (tokenizer, vocabulary) = (model.tokenizer.clone(), model.vocabulary);
    let weights = model.weights(&graphs)?;
    let mode = match args.mode {
        ModeArg::F32 => Mode::F32,
        ModeArg::Bf16 => Mode::Bf16,
    };
    eprintln!("compiling for {}", args.device);
    let mut engine = Engine::open(&graphs, mode, &args.device)?;
    engine.bind(weights.as_ref())?;
    drop(weights);
    let device = engine.device_name();
    timings.compile_ms = ms(clock);
    eprintln!("compiled and bound for {device} in {:.0} ms", timings.compile_ms);

    let packed = pack(&[Prompt { ids: &prompt, clouds: 1 }], &vocabulary)?;
    let capacity = prompt.len() + args.max_new_tokens as usize;
    let start = Start { packed: &packed, point_row: &packed.point_row, points: &points, capacity };
    let clock = Instant::now();
    let (decoding, scores) = Decoding::start(&mut engine, &start)?;
    timings.prefill_ms = ms(clock);
    let clock = Instant::now();
    let answer = answer(args, &tokenizer, decoding, scores)?;
    timings.decode_ms = ms(clock);

    // The first token comes from the prompt's pass; the steps give the others.
    let n_steps = answer.ids.len().saturating_sub(1) as f64;
    let tokens_per_s = if timings.decode_ms > 0.0 { n_steps / timings.decode_ms * 1e3 } else { 0.0 };
    let (n_prompt, n_new) = (prompt.len(), answer.ids.len());
    eprintln!(
        "prompt of {n_prompt} tokens in {:.1} ms, {n_new} tokens at {tokens_per_s:.1} a second",
        timings.prefill_ms
    );
    if !args.json {
        return Ok(());
    }
    let Timings { load_ms, compile_ms, prefill_ms, decode_ms } = timings;
    out::json(&json!({
        "text": answer.text,
        "ids": answer.ids,
        "stopped": if answer.at_end { "end" } else { "length" },
        "prompt_tokens": n_prompt,
        "model": args.model,
        "random_weights": is_random,
        "device": device,
        "points": { "given": report.n_given, "kept": report.n_kept, "used": report.n_points, "colour": report.has_colour },
        "timings": {
            "load_ms": load_ms, "compile_ms": compile_ms, "prefill_ms": prefill_ms, "decode_ms": decode_ms,
            "tokens_per_s": tokens_per_s,
        },
    }))
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// The cloud as the model takes it: `[1, points, channels]`.
fn points(args: &CaptionArgs, config: &EnelConfig) -> Result<(HostTensor, PrepareReport)> {
    let n = config.point.n_points;
    let (cloud, _) = args.cloud.load(n.max)?;
    let bounds = PrepareConfig { min_points: n.min, max_points: n.max };
    let prepared = prepare(&cloud, bounds).with_context(|| format!("cannot use {}", args.cloud.path.display()))?;
    let channels = config.point.point_dims;
    if channels > PREPARED_CHANNELS {
        bail!("the model reads {channels} channels of a point, a cloud has {PREPARED_CHANNELS}");
    }
    let rows = prepared.points.chunks_exact(PREPARED_CHANNELS);
    let bytes = rows.flat_map(|row| &row[..channels]).flat_map(|value| value.to_ne_bytes()).collect();
    let shape = [1, prepared.report.n_points, channels];
    Ok((HostTensor::new(DType::F32, &shape, bytes)?, prepared.report))
}

fn prompt_ids(args: &CaptionArgs, model: &Model) -> Result<Vec<i32>> {
    let template = Template::of(&model.tokenizer);
    let turns = [Message::human(&args.prompt)];
    let prompt = generation(&model.tokenizer, &template, Some(&model.block), &turns)?;
    Ok(prompt.ids.into_iter().map(|id| id as i32).collect())
}

fn tell(args: &CaptionArgs, model: &Model, report: &PrepareReport) {
    if model.is_random() {
        eprintln!("model `{}` has random, untrained weights: the text below is noise", model.name);
    }
    let PrepareReport { n_given, n_kept, n_points, has_colour } = *report;
    let sampled = if n_kept < n_given { format!(", {n_kept} of them kept") } else { String::new() };
    let repeated = if n_points > n_kept { format!(", repeated to {n_points}") } else { String::new() };
    let colour = if has_colour { "" } else { ", no colour" };
    eprintln!("{}: {n_given} points{sampled}{repeated}{colour}", args.cloud.path.display());
}

fn graphs(config: &EnelConfig, mode: ModeArg) -> Result<Vec<Graph>> {
    let storage = match mode {
        ModeArg::F32 => DType::F32,
        ModeArg::Bf16 => DType::BF16,
    };
    let bounds = Bounds { storage, ..Bounds::default() };
    Ok(vec![prefill_graph(config, &bounds)?, step_graph(&config.llama, &bounds, Goal::Logits)?])
}

fn answer(
    args: &CaptionArgs,
    tokenizer: &enel_text::Tokenizer,
    mut decoding: Decoding<'_>,
    mut scores: Vec<f32>,
) -> Result<Answer> {
    let sampled = SamplingConfig {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        seed: args.seed,
        ..SamplingConfig::default()
    };
    let mut sampler = Sampler::new(if args.greedy { SamplingConfig::default() } else { sampled })?;
    let stop = [tokenizer.eos_id(), tokenizer.id(Template::of(tokenizer).stop())];
    let mut stream = DecodeStream::new(tokenizer);
    let mut answer = Answer::default();
    loop {
        // Rows of the table no token has are never spoken.
        let n_known = tokenizer.vocab_size().min(scores.len());
        scores[n_known..].fill(f32::NEG_INFINITY);
        let id = sampler.next(&scores)?;
        if stop.contains(&Some(id)) {
            answer.at_end = true;
            break;
        }
        answer.ids.push(id);
        say(args, &mut answer, &stream.push(id)?)?;
        if answer.ids.len() >= args.max_new_tokens as usize {
            break;
        }
        scores = decoding.step(&[i32::try_from(id)?])?;
    }
    say(args, &mut answer, &stream.finish()?)?;
    if !args.json {
        out::part("\n")?;
    }
    Ok(answer)
}

fn say(args: &CaptionArgs, answer: &mut Answer, text: &str) -> Result<()> {
    answer.text.push_str(text);
    if args.json || text.is_empty() { Ok(()) } else { out::part(text) }
}
