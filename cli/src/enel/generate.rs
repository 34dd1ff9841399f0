//! How does a text go on? Text in, the model's continuation out as it is made; no cloud, no template.

use super::answer::{Show, Speech, join};
use super::flags::{AnswerArgs, ModelArgs};
use super::ready::{About, Ready, ms};
use crate::out;
use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;
use std::io::Read;
use std::time::Instant;

/// Continues a text.
#[derive(Debug, Args)]
#[command(after_help = "Without --prompt the text is read from stdin.\n\nExamples:\n  \
    enel model fetch smollm2\n  \
    enel generate --model smollm2 --prompt 'The capital of France is' --greedy\n  \
    enel generate --model path/to/llama --prompt 'Once upon a time' --temperature 0.8 --max-new-tokens 64\n  \
    echo '2, 4, 6,' | enel generate --model smollm2 --greedy --max-new-tokens 8 --json")]
pub struct GenerateArgs {
    /// The text to continue.
    #[arg(long)]
    pub prompt: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flags of a group of their own")]
    pub model: ModelArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flags of a group of their own")]
    pub answer: AnswerArgs,
    /// Print one JSON object with text, ids and timings, instead of the text as it comes.
    #[arg(long)]
    pub json: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// Names the file that cannot be used; what the device reports.
pub fn generate(args: &GenerateArgs) -> Result<()> {
    let prompt = match &args.prompt {
        Some(prompt) => prompt.clone(),
        None => from_stdin()?,
    };
    let opened = Ready::open(&args.model, About::Text, None)?;
    let ids: Vec<i32> = opened.model.tokenizer.encode(&prompt, true)?.into_iter().map(|id| id as i32).collect();
    if ids.is_empty() {
        bail!("the prompt has no tokens; give some text");
    }
    let max_new_tokens = args.answer.room_after(ids.len(), &opened.model)?;
    let mut ready = opened.compile(&args.model)?;
    let mut report = ready.facts();
    let (load_ms, compile_ms) = ready.timings();
    let (mut sample, model) = ready.sample(ids.len() + max_new_tokens)?;
    let clock = Instant::now();
    let scores = sample.start(model, &ids, None)?;
    let prefill_ms = ms(clock);
    let show = if args.json { Show::Nothing } else { Show::Stream };
    let speech = Speech { tokenizer: &model.tokenizer, sampler: args.answer.sampler()?, max_new_tokens, show };
    let answer = speech.answer(&mut sample, scores)?;
    answer.tell(ids.len(), prefill_ms);
    if !args.json {
        return Ok(());
    }
    join(&mut report, answer.as_json(ids.len(), prefill_ms));
    join(&mut report, json!({ "timings": { "load_ms": load_ms, "compile_ms": compile_ms } }));
    out::json(&report)
}

/// All of stdin; one line end at its end is the shell's and not the prompt's.
fn from_stdin() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text)?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}
