//! How is a conversation led? A line in, an answer out, in the model's own template, with or without a cloud.
//!
//! Law: the tokens of a turn are those training would cut the whole conversation into; what the cache holds of them is
//! kept, the rest is run. So the cache serves all turns, and no turn depends on how the one before came about.

use super::answer::{Show, Speech, join};
use super::cloud::ReadingArgs;
use super::flags::{AnswerArgs, ModelArgs};
use super::model::Model;
use super::ready::{About, Ready, ReadyCloud, Sample, ms, read_cloud};
use crate::outln;
use anyhow::{Result, bail};
use clap::Args;
use enel_text::chat::{Message, Template, generation};
use serde_json::json;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Instant;

/// Talks with a model, about a cloud if one is given.
#[derive(Debug, Args)]
#[command(mut_arg("up", |arg| arg.requires("cloud")), mut_arg("cloud_seed", |arg| arg.requires("cloud")))]
#[command(after_help = "Each line of stdin is a turn; a model with a point part gets the cloud before the first. \
    /reset forgets the\nconversation, /quit or the end of input ends it, Ctrl-C stops an answer.\n\nExamples:\n  \
    enel model fetch smollm2 && enel chat --model smollm2 --greedy\n  \
    echo 'Describe a wooden chair in one sentence.' | enel chat --model smollm2 --greedy\n  \
    enel chat --model path/to/enel --cloud samples/chair.ply\n  \
    printf 'What is this?\\nWhich colour?\\n' | enel chat --cloud samples/chair.ply --max-new-tokens 16 --json")]
pub struct ChatArgs {
    /// The cloud the conversation is about.
    #[arg(long, value_name = "CLOUD")]
    pub cloud: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flags of a group of their own")]
    pub reading: ReadingArgs,
    /// What stands before the conversation, in the place of the template's own text.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Longest conversation, in tokens; at most what the model was made for.
    #[arg(long, value_name = "N", default_value = "2048", value_parser = clap::value_parser!(u32).range(16..=131_072))]
    pub context: u32,
    /// Points the model gets; others are sub-sampled or repeated. A preset has its own, a folder 8 x input_points.
    #[arg(long, value_name = "N", requires = "cloud")]
    pub points: Option<usize>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flags of a group of their own")]
    pub model: ModelArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flags of a group of their own")]
    pub answer: AnswerArgs,
    /// Print one line of JSON for each turn, instead of the text as it comes.
    #[arg(long)]
    pub json: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// Names the file that cannot be used; what the device reports.
pub fn chat(args: &ChatArgs) -> Result<()> {
    let about = if args.cloud.is_some() { About::Cloud } else { About::Text };
    let opened = Ready::open(&args.model, about, args.points)?;
    let cloud = match &args.cloud {
        Some(path) => Some(read_cloud(path, &args.reading, &opened.model)?),
        None => None,
    };
    if let (Some(path), Some(cloud)) = (&args.cloud, &cloud) {
        cloud.report.tell(path);
    }
    let mut ready = opened.compile(&args.model)?;
    let capacity = (args.context as usize).min(ready.model.max_positions);
    let facts = ready.facts();
    let (sample, model) = ready.sample(capacity)?;
    let template = template(args, model);
    let mut talk = Talk { args, model, template, cloud, sample, capacity, turns: Vec::new(), cached: Vec::new() };
    let mut n_refused = 0;
    let is_terminal = std::io::stdin().is_terminal();
    let mut lines = std::io::stdin().lock().lines();
    loop {
        if is_terminal {
            eprint!("> ");
            std::io::stderr().flush()?;
        }
        let Some(line) = lines.next() else { break };
        let line = line?;
        match line.trim() {
            "" => {}
            "/quit" => break,
            "/reset" => talk.turns.clear(),
            command if command.starts_with('/') => eprintln!("{command} is unknown; there are /reset and /quit"),
            question => match talk.turn(question)? {
                Some(mut report) if args.json => {
                    join(&mut report, facts.clone());
                    outln!("{report}")?;
                }
                Some(_) => {}
                None => n_refused += 1,
            },
        }
    }
    match n_refused {
        0 => Ok(()),
        n => bail!("{n} question(s) could not be asked"),
    }
}

fn template(args: &ChatArgs, model: &Model) -> Template {
    let mut template = Template::of(&model.tokenizer);
    if let Some(text) = &args.system {
        match &mut template {
            Template::Vicuna { system } => system.clone_from(text),
            Template::ChatMl { system } => *system = Some(text.clone()),
        }
    }
    template
}

/// A conversation under way.
struct Talk<'a> {
    args: &'a ChatArgs,
    model: &'a Model,
    template: Template,
    cloud: Option<ReadyCloud>,
    sample: Sample<'a>,
    capacity: usize,
    turns: Vec<Message>,
    /// Tokens whose keys and values the cache holds.
    cached: Vec<i32>,
}

impl Talk<'_> {
    /// Answers a question; gives what a report says, or nothing for a question that was refused.
    fn turn(&mut self, question: &str) -> Result<Option<serde_json::Value>> {
        let Some(mut ids) = self.ask(question)? else { return Ok(None) };
        if ids.len() >= self.capacity && self.turns.len() > 1 {
            eprintln!("the conversation has reached {} tokens and starts anew; see --context", self.capacity);
            self.turns.clear();
            let Some(alone) = self.ask(question)? else { return Ok(None) };
            ids = alone;
        }
        if ids.len() >= self.capacity {
            eprintln!("the question has {} tokens, at most {} fit; see --context", ids.len(), self.capacity - 1);
            self.turns.clear();
            return Ok(None);
        }
        let clock = Instant::now();
        let (scores, n_reused) = self.run(&ids)?;
        let prefill_ms = ms(clock);
        let room = self.capacity - ids.len();
        let speech = Speech {
            tokenizer: &self.model.tokenizer,
            sampler: self.args.answer.sampler()?,
            max_new_tokens: room.min(self.args.answer.max_new_tokens as usize),
            show: if self.args.json { Show::Nothing } else { Show::Stream },
        };
        let answer = speech.answer(&mut self.sample, scores)?;
        // All but the last token were run; an end mark or a stop comes after the last one that was.
        let said = answer.ids.iter().map(|&id| id as i32);
        self.cached = ids.iter().copied().chain(said).collect();
        if answer.stopped != super::answer::Stopped::End {
            self.cached.pop();
        }
        answer.tell(ids.len() - n_reused, prefill_ms);
        let mut report = answer.as_json(ids.len(), prefill_ms);
        join(&mut report, json!({ "question": question, "reused_tokens": n_reused }));
        // An answer without words cannot stand in a conversation; the question goes with it.
        if answer.text.is_empty() {
            self.turns.pop();
        } else {
            self.turns.push(Message::assistant(answer.text));
        }
        Ok(Some(report))
    }

    /// The whole conversation with this question, as tokens; nothing for a question that is refused, which is said.
    fn ask(&mut self, question: &str) -> Result<Option<Vec<i32>>> {
        self.turns.push(Message::human(question));
        let block = self.cloud.as_ref().map(|_| self.model.clouds().map(|part| &part.block)).transpose()?;
        match generation(&self.model.tokenizer, &self.template, block, &self.turns) {
            Ok(prompt) => Ok(Some(prompt.ids.into_iter().map(|id| id as i32).collect())),
            Err(error) => {
                eprintln!("{error}");
                self.turns.pop();
                Ok(None)
            }
        }
    }

    /// Runs what the cache does not hold; gives the scores of the next token and how many tokens were kept.
    fn run(&mut self, ids: &[i32]) -> Result<(Vec<f32>, usize)> {
        let same = self.cached.iter().zip(ids).take_while(|(a, b)| a == b).count();
        // At least one token is run, because its scores are wanted; a cloud's features are in the first run only.
        let n_kept = same.min(ids.len() - 1);
        let patch = self.model.vocabulary.patch;
        let has_cloud_left = self.cloud.is_some() && ids[n_kept..].contains(&patch);
        if n_kept == 0 || has_cloud_left {
            return Ok((self.sample.start(self.model, ids, self.cloud.as_ref())?, 0));
        }
        self.sample.truncate(n_kept)?;
        Ok((self.sample.extend(&ids[n_kept..])?, n_kept))
    }
}
