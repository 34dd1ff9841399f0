//! Where in a conversation do the model's own words begin and end, counted in tokens?
//!
//! Vicuna: turns are found in the text again and measured by encoding them, which is how released models were
//! trained; its faults (see [`Mismatch`]) are kept on purpose. ChatML: segments are encoded one by one, so labels are
//! exact and the ids of a prompt are always a prefix of the ids trained on.

use crate::chat::{ChatError, Example, IGNORE, Message, Mismatch, Role};
use crate::tokenizer::{Tokenizer, TokenizerError};

/// Ends a turn of the model.
pub(crate) const VICUNA_END: &str = "</s>";
/// Ends every turn.
pub(crate) const CHATML_END: &str = "<|im_end|>";

const VICUNA_SEPARATOR: &str = " ";
const VICUNA_USER: &str = "USER";
const VICUNA_ASSISTANT: &str = "ASSISTANT";

/// Turns without a leading one of the model; they alternate, the user first.
pub(crate) fn check_order(turns: &[Message]) -> Result<&[Message], ChatError> {
    let turns = match turns.first() {
        Some(Message { from: Role::Assistant, .. }) => &turns[1..],
        _ => turns,
    };
    for (index, turn) in turns.iter().enumerate() {
        let expected = if index % 2 == 0 { Role::Human } else { Role::Assistant };
        if turn.from != expected {
            return Err(ChatError::Order { index, found: turn.from, expected });
        }
    }
    Ok(turns)
}

/// A turn without words is only opened: that is how a prompt for generation ends.
pub(crate) fn vicuna_prompt(system: &str, turns: &[Message]) -> String {
    let mut text = format!("{system}{VICUNA_SEPARATOR}");
    for turn in turns {
        let (name, end) = match turn.from {
            Role::Human => (VICUNA_USER, VICUNA_SEPARATOR),
            Role::Assistant => (VICUNA_ASSISTANT, VICUNA_END),
        };
        text.push_str(name);
        text.push(':');
        if !turn.value.is_empty() {
            text.push(' ');
            text.push_str(&turn.value);
            text.push_str(end);
        }
    }
    text
}

pub(crate) fn vicuna_example(
    tokenizer: &Tokenizer,
    system: &str,
    turns: &[Message],
    max_tokens: usize,
) -> Result<Example, ChatError> {
    let prompt = vicuna_prompt(system, turns);
    let mut input_ids = tokenizer.encode(&prompt, true)?;
    input_ids.truncate(max_tokens);
    let whole = match tokenizer.pad_id() {
        Some(pad) => input_ids.iter().filter(|&&id| id != pad).count(),
        None => input_ids.len(),
    };
    let mut labels: Vec<i64> = input_ids.iter().map(|&id| i64::from(id)).collect();
    let by_turns = mask_questions(tokenizer, &prompt, &mut labels)?;
    let mismatch = (by_turns < max_tokens && by_turns != whole).then_some(Mismatch { by_turns, whole });
    if mismatch.is_some() {
        labels.fill(IGNORE);
    }
    Ok(Example { prompt, input_ids, labels, mismatch })
}

/// Masks all but the answers; returns how many tokens the turns have together, the begin mark counted once.
fn mask_questions(tokenizer: &Tokenizer, prompt: &str, labels: &mut [i64]) -> Result<usize, TokenizerError> {
    let opening = format!("{VICUNA_SEPARATOR}{VICUNA_ASSISTANT}: ");
    let n_labels = labels.len();
    let mut mask =
        |start: usize, end: usize| labels[start.min(n_labels)..end.clamp(start, usize::MAX).min(n_labels)].fill(IGNORE);
    let mut position = 1;
    mask(0, position);
    for round in prompt.split(VICUNA_END) {
        // A round with more than one opening, or none, cannot be told apart: everything from here on is masked.
        let Some((question, answer)) = round.split_once(&opening) else { break };
        if answer.contains(&opening) {
            break;
        }
        // The begin mark makes up for the end mark the split took away.
        let n_round = tokenizer.encode(round, true)?.len();
        // Two less: the begin mark, and the space after the colon that the answer's first token will carry.
        let n_question = tokenizer.encode(&format!("{question}{opening}"), true)?.len().saturating_sub(2);
        mask(position, position + n_question);
        position += n_round;
    }
    mask(position, usize::MAX);
    Ok(position)
}

/// A part of a ChatML conversation.
pub(crate) struct Segment {
    pub(crate) text: String,
    counts: bool,
}

/// The parts in order; a last turn of the model without words is only opened.
pub(crate) fn chatml_segments<'a>(system: Option<&'a str>, turns: &'a [Message]) -> impl Iterator<Item = Segment> + 'a {
    let opening = |name: &str| Segment { text: format!("<|im_start|>{name}\n"), counts: false };
    let rest = |text: &str, counts: bool| {
        [Segment { text: format!("{text}{CHATML_END}"), counts }, Segment { text: "\n".to_owned(), counts: false }]
    };
    let system = system.map(move |text| std::iter::once(opening("system")).chain(rest(text, false)));
    let n_turns = turns.len();
    let turns = turns.iter().enumerate().flat_map(move |(index, turn)| {
        let is_model = turn.from == Role::Assistant;
        let is_open = is_model && turn.value.is_empty() && index + 1 == n_turns;
        let body = (!is_open).then(|| rest(&turn.value, is_model));
        std::iter::once(opening(if is_model { "assistant" } else { "user" })).chain(body.into_iter().flatten())
    });
    system.into_iter().flatten().chain(turns)
}

pub(crate) fn chatml_example(
    tokenizer: &Tokenizer,
    system: Option<&str>,
    turns: &[Message],
    max_tokens: usize,
) -> Result<Example, ChatError> {
    let mut example = Example { prompt: String::new(), input_ids: Vec::new(), labels: Vec::new(), mismatch: None };
    // Masked neighbours are encoded together: only an answer's two borders are cuts.
    let mut pending = String::new();
    let mut is_first = true;
    let mut flush = |text: &mut String, counts: bool, example: &mut Example| -> Result<(), TokenizerError> {
        if !text.is_empty() {
            let ids = tokenizer.encode(text, is_first)?;
            is_first = false;
            example.labels.extend(ids.iter().map(|&id| if counts { i64::from(id) } else { IGNORE }));
            example.input_ids.extend(ids);
            text.clear();
        }
        Ok(())
    };
    for mut segment in chatml_segments(system, turns) {
        example.prompt.push_str(&segment.text);
        if segment.counts {
            flush(&mut pending, false, &mut example)?;
            flush(&mut segment.text, true, &mut example)?;
        } else {
            pending.push_str(&segment.text);
        }
    }
    flush(&mut pending, false, &mut example)?;
    example.input_ids.truncate(max_tokens);
    example.labels.truncate(max_tokens);
    Ok(example)
}
