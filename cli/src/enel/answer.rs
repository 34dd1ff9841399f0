//! How does an answer come about? A token is chosen, shown and fed back, until the end, the limit or Ctrl-C.

use super::interrupt::Answering;
use super::ready::Sample;
use crate::out;
use anyhow::Result;
use enel_text::chat::Template;
use enel_text::sample::Sampler;
use enel_text::{DecodeStream, Tokenizer};
use serde_json::{Value, json};
use std::time::Instant;

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The model ended it.
    End,
    /// It reached its longest length.
    Length,
    /// The user stopped it.
    Interrupt,
}

impl Stopped {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Stopped::End => "end",
            Stopped::Length => "length",
            Stopped::Interrupt => "interrupt",
        }
    }
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Its tokens, the end mark left out.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub stopped: Stopped,
    /// How long the steps took, in milliseconds.
    pub decode_ms: f64,
}

/// Where text goes as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// To stdout, with a line end after it.
    Stream,
    /// Nowhere: a report follows.
    Nothing,
}

/// How an answer is made.
#[derive(Debug)]
pub struct Speech<'t> {
    /// The vocabulary.
    pub tokenizer: &'t Tokenizer,
    /// Chooses tokens.
    pub sampler: Sampler,
    /// Longest answer, in tokens.
    pub max_new_tokens: usize,
    /// Where text goes.
    pub show: Show,
}

impl Speech<'_> {
    /// Makes the answer that begins with `scores`. All its tokens but the last have been run through `sample` then.
    ///
    /// # Errors
    /// Scores that order nothing, what the device or stdout reports.
    pub fn answer(mut self, sample: &mut Sample<'_>, mut scores: Vec<f32>) -> Result<Answer> {
        let clock = Instant::now();
        let listening = Answering::begin();
        let tokenizer = self.tokenizer;
        let stop = [tokenizer.eos_id(), tokenizer.id(Template::of(tokenizer).stop())];
        let mut stream = DecodeStream::new(tokenizer);
        let mut answer = Answer { text: String::new(), ids: Vec::new(), stopped: Stopped::Length, decode_ms: 0.0 };
        loop {
            // Rows of the table no token has are never spoken.
            let n_known = tokenizer.vocab_size().min(scores.len());
            scores[n_known..].fill(f32::NEG_INFINITY);
            let id = self.sampler.next(&scores)?;
            if stop.contains(&Some(id)) {
                answer.stopped = Stopped::End;
                break;
            }
            answer.ids.push(id);
            self.say(&mut answer, &stream.push(id)?)?;
            if answer.ids.len() >= self.max_new_tokens {
                break;
            }
            if listening.is_stopped() {
                answer.stopped = Stopped::Interrupt;
                break;
            }
            scores = sample.extend(&[i32::try_from(id)?])?;
        }
        self.say(&mut answer, &stream.finish()?)?;
        if self.show == Show::Stream {
            out::part("\n")?;
        }
        answer.decode_ms = clock.elapsed().as_secs_f64() * 1e3;
        Ok(answer)
    }

    fn say(&self, answer: &mut Answer, text: &str) -> Result<()> {
        answer.text.push_str(text);
        if self.show == Show::Nothing || text.is_empty() { Ok(()) } else { out::part(text) }
    }
}

impl Answer {
    /// Tokens a second; the first one comes from the prompt's pass and does not count.
    pub fn tokens_per_s(&self) -> f64 {
        let n_steps = self.ids.len().saturating_sub(1) as f64;
        if self.decode_ms > 0.0 { n_steps / self.decode_ms * 1e3 } else { 0.0 }
    }

    /// One line of talk.
    pub fn tell(&self, n_prompt: usize, prefill_ms: f64) {
        let (n_new, speed) = (self.ids.len(), self.tokens_per_s());
        eprintln!("prompt of {n_prompt} tokens in {prefill_ms:.1} ms, {n_new} tokens at {speed:.1} a second");
    }

    /// Text, tokens and timings for a report.
    pub fn as_json(&self, n_prompt: usize, prefill_ms: f64) -> Value {
        json!({
            "text": self.text,
            "ids": self.ids,
            "stopped": self.stopped.name(),
            "prompt_tokens": n_prompt,
            "timings": {
                "prefill_ms": prefill_ms, "decode_ms": self.decode_ms, "tokens_per_s": self.tokens_per_s(),
            },
        })
    }
}

/// Puts the fields of `from` into `into`; objects inside objects are joined.
pub fn join(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                match into.get_mut(&key) {
                    Some(old @ Value::Object(_)) => join(old, value),
                    _ => drop(into.insert(key, value)),
                }
            }
        }
        (into, from) => *into = from,
    }
}
