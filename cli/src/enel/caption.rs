//! What does a cloud show? Cloud and question in, words out as they are made; many clouds go to `batch`.

use super::answer::{Answer, Show, Speech, join};
use super::batch;
use super::cloud::ReadingArgs;
use super::flags::{AnswerArgs, ModelArgs};
use super::model::Model;
use super::ready::{About, Ready, ReadyCloud, Sample, ms, read_cloud};
use crate::out;
use anyhow::Result;
use clap::Args;
use enel_text::chat::{Message, Template, generation};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;

/// Describes point clouds and meshes in words.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --model the built-in `tiny` preset runs with random weights: the text is noise, and shows \
    that everything works.\n\nSeveral clouds, or a folder of them, give one line of JSON each, to stdout or to \
    --output. With --output a run\nthat was stopped goes on where it was; a cloud that cannot be read gets a line that \
    says why.\n\n\
    Examples:\n  \
    enel caption samples/chair.ply\n  \
    enel caption samples/chair.ply --device cpu --seed 7 --max-new-tokens 16 --json\n  \
    enel caption samples/lamp.ply --greedy --prompt 'What is it made of?'\n  \
    enel caption samples --greedy --output results.jsonl"
)]
pub struct CaptionArgs {
    /// Clouds, or folders of them.
    #[arg(required = true, value_name = "CLOUD|DIR", help = batch::help())]
    pub clouds: Vec<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flags of a group of their own")]
    pub reading: ReadingArgs,
    /// Where to append one line of JSON for each cloud.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// With --output: try the clouds again that could not be read before.
    #[arg(long, requires = "output")]
    pub retry: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flags of a group of their own")]
    pub model: ModelArgs,
    /// What is asked.
    #[arg(long, default_value = "Caption this 3D model in detail.")]
    pub prompt: String,
    /// Points the model gets; others are sub-sampled or repeated. A preset has its own, a folder 8 x input_points.
    #[arg(long, value_name = "N")]
    pub points: Option<usize>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flags of a group of their own")]
    pub answer: AnswerArgs,
    /// Print one JSON object with text, ids and timings, instead of the text as it comes; of several clouds, lines get
    /// timings.
    #[arg(long)]
    pub json: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// Names the file that cannot be used; what the device reports.
pub fn caption(args: &CaptionArgs) -> Result<()> {
    match &args.clouds[..] {
        [cloud] if args.output.is_none() && !cloud.is_dir() => one(args, cloud),
        _ => batch::caption_all(args),
    }
}

fn one(args: &CaptionArgs, path: &std::path::Path) -> Result<()> {
    let opened = Ready::open(&args.model, About::Cloud, args.points)?;
    let ids = prompt_ids(&args.prompt, &opened.model)?;
    let clock = Instant::now();
    let cloud = read_cloud(path, &args.reading, &opened.model)?;
    let read_ms = ms(clock);
    cloud.report.tell(path);
    let mut ready = opened.compile(&args.model)?;
    let mut report = ready.facts();
    let (load_ms, compile_ms) = ready.timings();
    let (mut sample, model) = ready.sample(ids.len() + args.answer.max_new_tokens as usize)?;
    let show = if args.json { Show::Nothing } else { Show::Stream };
    let (answer, prefill_ms) = describe(args, model, &mut sample, (&ids, &cloud, show))?;
    answer.tell(ids.len(), prefill_ms);
    if !args.json {
        return Ok(());
    }
    join(&mut report, answer_json(&answer, &cloud, (ids.len(), prefill_ms)));
    join(&mut report, json!({ "timings": { "load_ms": load_ms + read_ms, "compile_ms": compile_ms } }));
    out::json(&report)
}

/// The answer to the prompt `ids` about one cloud, and how long the prompt took, in milliseconds.
///
/// # Errors
/// What the device or stdout reports.
pub fn describe(
    args: &CaptionArgs,
    model: &Model,
    sample: &mut Sample<'_>,
    (ids, cloud, show): (&[i32], &ReadyCloud, Show),
) -> Result<(Answer, f64)> {
    let clock = Instant::now();
    let scores = sample.start(model, ids, Some(cloud))?;
    let prefill_ms = ms(clock);
    let max_new_tokens = args.answer.room_after(ids.len(), model)?;
    let speech = Speech { tokenizer: &model.tokenizer, sampler: args.answer.sampler()?, max_new_tokens, show };
    Ok((speech.answer(sample, scores)?, prefill_ms))
}

/// What a report says of an answer about a cloud.
pub fn answer_json(answer: &Answer, cloud: &ReadyCloud, (n_prompt, prefill_ms): (usize, f64)) -> Value {
    let mut report = answer.as_json(n_prompt, prefill_ms);
    join(&mut report, cloud.report.as_json());
    report
}

/// The ids of a question about one cloud.
///
/// # Errors
/// A question that spells a mark of the cloud.
pub fn prompt_ids(question: &str, model: &Model) -> Result<Vec<i32>> {
    let template = Template::of(&model.tokenizer);
    let turns = [Message::human(question)];
    let prompt = generation(&model.tokenizer, &template, Some(&model.clouds()?.block), &turns)?;
    Ok(prompt.ids.into_iter().map(|id| id as i32).collect())
}
