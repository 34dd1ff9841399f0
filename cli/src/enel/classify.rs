//! Which of these labels fits a cloud? Each label is scored as an answer to the question; the likeliest comes first.
//!
//! Law: a label's score is the log-likelihood of its tokens and of the end mark after them, given cloud and question,
//! so labels that begin other labels have no advantage.

use super::answer::join;
use super::cloud::CloudArgs;
use super::flags::ModelArgs;
use super::model::Model;
use super::progress::Progress;
use super::ready::{About, Ready, Sample, ms, read_cloud};
use crate::{out, outln};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use enel_text::chat::{Message, PointBlock, Template, generation, prompt};
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// Ranks labels for a point cloud or a mesh.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --model the built-in `tiny` preset runs with random weights: the ranking means nothing.\n\n\
    Examples:\n  \
    enel classify samples/chair.ply --labels chair,table,lamp\n  \
    enel classify samples/lamp.ply --labels labels.txt --by mean --json\n  \
    enel classify samples/car.ply --labels car,guitar --prompt 'What is this?' --answer 'This is a {}.'"
)]
pub struct ClassifyArgs {
    #[command(flatten)]
    #[allow(missing_docs, reason = "flags of a group of their own")]
    pub cloud: CloudArgs,
    /// Labels, separated by commas, or a file with one on each line.
    #[arg(long, value_name = "A,B,...|FILE")]
    pub labels: String,
    /// What is asked.
    #[arg(long, default_value = "What is this?")]
    pub prompt: String,
    /// The answer that is scored; {} stands for the label.
    #[arg(long, default_value = "{}", value_parser = with_place)]
    pub answer: String,
    /// What labels are ranked by.
    #[arg(long, value_enum, default_value = "total")]
    pub by: By,
    /// Points the model gets; others are sub-sampled or repeated. A preset has its own, a folder 8 x input_points.
    #[arg(long, value_name = "N")]
    pub points: Option<usize>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flags of a group of their own")]
    pub model: ModelArgs,
    /// Print one JSON object with the ranking and timings.
    #[arg(long)]
    pub json: bool,
}

/// What labels are ranked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// The log-likelihood of the whole answer.
    Total,
    /// The same for each token, which does not favour short labels.
    Mean,
}

fn with_place(text: &str) -> Result<String, String> {
    if text.contains("{}") { Ok(text.to_owned()) } else { Err("expected {} where the label goes".to_owned()) }
}

/// A label with its score.
#[derive(Clone, Debug)]
struct Scored {
    label: String,
    log_likelihood: f64,
    n_tokens: usize,
}

impl Scored {
    fn rank(&self, by: By) -> f64 {
        match by {
            By::Total => self.log_likelihood,
            By::Mean => self.log_likelihood / self.n_tokens.max(1) as f64,
        }
    }
}

/// Runs the subcommand.
///
/// # Errors
/// Names the file that cannot be used; what the device reports.
pub fn classify(args: &ClassifyArgs) -> Result<()> {
    let labels = labels(&args.labels)?;
    let opened = Ready::open(&args.model, About::Cloud, args.points)?;
    let asked = ask(args, &opened.model, &labels)?;
    let CloudArgs { path, reading } = &args.cloud;
    let cloud = read_cloud(path, reading, &opened.model)?;
    cloud.report.tell(path);
    let mut ready = opened.compile(&args.model)?;
    let mut report = ready.facts();
    let (load_ms, compile_ms) = ready.timings();
    let longest = asked.answers.iter().map(Vec::len).max().unwrap_or(0);
    let (mut sample, model) = ready.sample(asked.prompt.len() + longest)?;
    let clock = Instant::now();
    let first = sample.start(model, &asked.prompt, Some(&cloud))?;
    let prefill_ms = ms(clock);
    let clock = Instant::now();
    let progress = Progress::count("scoring labels", labels.len() as u64);
    let mut ranking = Vec::with_capacity(labels.len());
    for (at, (label, ids)) in labels.into_iter().zip(&asked.answers).enumerate() {
        let log_likelihood = score(&mut sample, asked.prompt.len(), &first, ids)?;
        ranking.push(Scored { label, log_likelihood, n_tokens: ids.len() });
        progress.at(at as u64 + 1);
    }
    drop(progress);
    let score_ms = ms(clock);
    // A stable order: equal scores stay as they were given.
    ranking.sort_by(|a, b| b.rank(args.by).total_cmp(&a.rank(args.by)));
    let shares = shares(&ranking, args.by);
    eprintln!("prompt of {} tokens in {prefill_ms:.1} ms, labels in {score_ms:.1} ms", asked.prompt.len());
    if !args.json {
        for (scored, share) in ranking.iter().zip(shares) {
            outln!("{:6.2} %  {:10.3}  {}", share * 100.0, scored.rank(args.by), scored.label)?;
        }
        return Ok(());
    }
    let ranked = ranking.iter().zip(shares).map(|(scored, share)| {
        json!({
            "label": scored.label, "share": share, "log_likelihood": scored.log_likelihood, "tokens": scored.n_tokens,
        })
    });
    join(&mut report, cloud.report.as_json());
    let by = if args.by == By::Total { "total" } else { "mean" };
    join(
        &mut report,
        json!({
            "ranking": ranked.collect::<Vec<_>>(),
            "by": by,
            "prompt_tokens": asked.prompt.len(),
            "timings": {
                "load_ms": load_ms, "compile_ms": compile_ms, "prefill_ms": prefill_ms, "score_ms": score_ms,
            },
        }),
    );
    out::json(&report)
}

/// The labels of the flag: of a file if there is one of that name.
fn labels(text: &str) -> Result<Vec<String>> {
    let path = Path::new(text);
    let is_file = path.is_file();
    let listed = if is_file {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {text}"))?
    } else {
        text.replace(',', "\n")
    };
    let mut labels: Vec<String> = Vec::new();
    for label in listed.lines().map(str::trim).filter(|label| !label.is_empty()) {
        if labels.iter().any(|known| known == label) {
            bail!("the label `{label}` stands twice");
        }
        labels.push(label.to_owned());
    }
    match labels.len() {
        0 => bail!("there are no labels in `{text}`"),
        _ => Ok(labels),
    }
}

/// The question's tokens, and those of each answer after it.
struct Asked {
    prompt: Vec<i32>,
    answers: Vec<Vec<i32>>,
}

fn ask(args: &ClassifyArgs, model: &Model, labels: &[String]) -> Result<Asked> {
    let (tokenizer, block) = (&model.tokenizer, &model.clouds()?.block);
    let template = Template::of(tokenizer);
    let question = Message::human(&args.prompt);
    let opening = generation(tokenizer, &template, Some(block), std::slice::from_ref(&question))?;
    let mut answers = Vec::with_capacity(labels.len());
    for label in labels {
        let answer = args.answer.replace("{}", label);
        if let Some(mark) = block.marks().find(|mark| answer.contains(*mark)) {
            bail!("the label `{label}` contains `{mark}`, which is reserved for the cloud");
        }
        let whole = whole_ids(model, &template, block, [&args.prompt, &answer])?;
        let Some(ids) = whole.strip_prefix(&opening.ids[..]).filter(|ids| !ids.is_empty()) else {
            bail!("the label `{label}` changes how the question before it is cut into tokens");
        };
        answers.push(ids.iter().map(|&id| id as i32).collect());
    }
    Ok(Asked { prompt: opening.ids.into_iter().map(|id| id as i32).collect(), answers })
}

/// The ids of question and answer up to the mark that ends it, cut as a conversation of training is.
fn whole_ids(
    model: &Model,
    template: &Template,
    block: &PointBlock,
    [question, answer]: [&str; 2],
) -> Result<Vec<u32>> {
    let tokenizer = &model.tokenizer;
    let turns = [Message::human(format!("{}\n{question}", block.text())), Message::assistant(answer)];
    let text = prompt(template, &turns)?;
    let mut ids = tokenizer.encode(&text, true)?;
    // ChatML writes a line end after the end mark, which no model is asked to say.
    if let Some(stop) = tokenizer.id(template.stop())
        && let Some(end) = ids.iter().rposition(|&id| id == stop)
    {
        ids.truncate(end + 1);
    }
    Ok(ids)
}

/// Log-likelihood of `ids` after the first `n_prompt` tokens, whose last gave `first`.
fn score(sample: &mut Sample<'_>, n_prompt: usize, first: &[f32], ids: &[i32]) -> Result<f64> {
    let vocab = first.len();
    let mut total = log_share(first, ids[0])?;
    if let [said @ .., _] = ids
        && !said.is_empty()
    {
        sample.truncate(n_prompt)?;
        let scores = sample.extend_scored(said)?;
        for (row, &id) in scores.chunks_exact(vocab).zip(&ids[1..]) {
            total += log_share(row, id)?;
        }
    }
    Ok(total)
}

/// The logarithm of a token's share, in f64.
fn log_share(scores: &[f32], id: i32) -> Result<f64> {
    let chosen = usize::try_from(id).ok().and_then(|id| scores.get(id)).context("a token is outside the vocabulary")?;
    let best = f64::from(scores.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = scores.iter().map(|&score| (f64::from(score) - best).exp()).sum();
    let value = f64::from(*chosen) - best - sum.ln();
    if value.is_nan() {
        bail!("the model's scores are broken: they hold NaN");
    }
    Ok(value)
}

/// What is left of certainty when one of the labels must be right.
fn shares(ranking: &[Scored], by: By) -> Vec<f64> {
    let best = ranking.first().map_or(0.0, |scored| scored.rank(by));
    let weights: Vec<f64> = ranking.iter().map(|scored| (scored.rank(by) - best).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}
