//! How does a conversation become a prompt, token ids and labels?
//!
//! Two templates: Vicuna v1.1, the one released models were trained on, and ChatML. `<point>` in an annotation becomes
//! a point block: a start mark, one patch mark for each point token, an end mark. Batches are padded on the right.

use serde::{Deserialize, Serialize};

use crate::labels;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// The label of a token that does not count in the loss.
pub const IGNORE: i64 = -100;

/// Stands for the cloud in annotation files.
pub const POINT: &str = "<point>";

/// The system text of Vicuna v1.1. **Source** `vicuna_v1.1` in FastChat's conversation table.
pub const VICUNA_SYSTEM: &str = "A chat between a curious user and an artificial intelligence assistant. \
    The assistant gives helpful, detailed, and polite answers to the user's questions.";

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The user, `human` in annotation files.
    #[serde(rename = "human")]
    Human,
    /// The model, `gpt` in annotation files.
    #[serde(rename = "gpt")]
    Assistant,
}

/// One turn of a conversation, as annotation files write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub from: Role,
    /// What is said.
    pub value: String,
}

impl Message {
    /// A turn of the user.
    pub fn human(value: impl Into<String>) -> Self {
        Self { from: Role::Human, value: value.into() }
    }

    /// A turn of the model.
    pub fn assistant(value: impl Into<String>) -> Self {
        Self { from: Role::Assistant, value: value.into() }
    }
}

/// How turns are written one after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Template {
    /// `SYSTEM USER: question ASSISTANT: answer</s>USER: ...`
    Vicuna {
        /// What stands before the first turn.
        system: String,
    },
    /// `<|im_start|>user\nquestion<|im_end|>\n<|im_start|>assistant\nanswer<|im_end|>\n...`
    ChatMl {
        /// The text of the system turn; without one the turn is left out.
        system: Option<String>,
    },
}

impl Template {
    /// Vicuna v1.1 with its own system text.
    pub fn vicuna() -> Self {
        Self::Vicuna { system: VICUNA_SYSTEM.to_owned() }
    }

    /// The template a tokenizer's marks tell of: ChatML if it has `<|im_start|>`, with the system text of its folder, else
    /// Vicuna v1.1.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        match tokenizer.id("<|im_start|>") {
            Some(_) => Self::ChatMl { system: tokenizer.chat_system().map(str::to_owned) },
            None => Self::vicuna(),
        }
    }

    /// The mark after which generation stops.
    pub fn stop(&self) -> &'static str {
        match self {
            Self::Vicuna { .. } => labels::VICUNA_END,
            Self::ChatMl { .. } => labels::CHATML_END,
        }
    }
}

/// How a cloud is written into a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointBlock {
    /// Point tokens of one cloud.
    pub n_patches: usize,
    /// The mark that is replaced by features.
    pub patch: String,
    /// The marks around the patches, if the model has them.
    pub around: Option<(String, String)>,
}

impl PointBlock {
    /// The released marks around `n_patches` point tokens.
    pub fn new(n_patches: usize) -> Self {
        let around = Some(("<point_start>".to_owned(), "<point_end>".to_owned()));
        Self { n_patches, patch: "<point_patch>".to_owned(), around }
    }

    /// The block as text.
    pub fn text(&self) -> String {
        let patches = self.patch.repeat(self.n_patches);
        match &self.around {
            Some((start, end)) => format!("{start}{patches}{end}"),
            None => patches,
        }
    }

    /// `text` with each [`POINT`] replaced by the block.
    pub fn expand(&self, text: &str) -> String {
        if text.contains(POINT) { text.replace(POINT, &self.text()) } else { text.to_owned() }
    }

    /// All marks, in the order they join a vocabulary.
    pub fn marks(&self) -> impl Iterator<Item = &str> {
        let around = self.around.iter().flat_map(|(start, end)| [start.as_str(), end.as_str()]);
        std::iter::once(self.patch.as_str()).chain(around)
    }

    /// Adds the marks to `tokenizer` and gives their ids in the order of [`PointBlock::marks`].
    ///
    /// # Errors
    /// [`TokenizerError::Backend`].
    pub fn add_to(&self, tokenizer: &mut Tokenizer) -> Result<Vec<u32>, TokenizerError> {
        self.marks().map(|mark| tokenizer.add_mark(mark)).collect()
    }
}

/// Why a conversation has no prompt.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// Two turns of the same speaker.
    #[error("turn {index} is by {found:?}, expected {expected:?}: turns must alternate")]
    Order {
        /// The turn, counted from 0 after a leading turn of the model was dropped.
        index: usize,
        /// Who speaks.
        found: Role,
        /// Who should.
        expected: Role,
    },
    /// A question that spells out a mark of the point block, which the model would take for a cloud.
    #[error("the text of turn {index} contains `{mark}`, which is reserved for the cloud; remove it")]
    ReservedMark {
        /// The turn.
        index: usize,
        /// The mark.
        mark: String,
    },
    /// Nothing is asked.
    #[error("the conversation has no turn of the user")]
    NoQuestion,
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// A conversation ready to train on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The whole text.
    pub prompt: String,
    /// Its ids, cut to the allowed length.
    pub input_ids: Vec<u32>,
    /// For each id itself, or [`IGNORE`].
    pub labels: Vec<i64>,
    /// Why no label counts, if so.
    pub mismatch: Option<Mismatch>,
}

/// The pieces of a conversation have another length than the whole, so labels would be misplaced.
///
/// It happens when an answer contains the template's own marks, and when an answer is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the turns add up to {by_turns} tokens, the conversation has {whole}; nothing of it is trained on")]
pub struct Mismatch {
    /// Sum over the turns.
    pub by_turns: usize,
    /// Tokens of the conversation that are not padding.
    pub whole: usize,
}

/// The text of a conversation, [`POINT`] already expanded.
///
/// # Errors
/// [`ChatError::Order`].
pub fn prompt(template: &Template, turns: &[Message]) -> Result<String, ChatError> {
    let turns = labels::check_order(turns)?;
    Ok(match template {
        Template::Vicuna { system } => labels::vicuna_prompt(system, turns),
        Template::ChatMl { system } => labels::chatml_segments(system.as_deref(), turns).map(|s| s.text).collect(),
    })
}

/// A conversation of an annotation file as prompt, ids and labels; at most `max_tokens` ids.
///
/// A leading turn of the model is dropped. Only what the model says counts in the loss, its end mark included.
///
/// # Errors
/// [`ChatError`].
pub fn example(
    tokenizer: &Tokenizer,
    template: &Template,
    block: &PointBlock,
    annotation: &[Message],
    max_tokens: usize,
) -> Result<Example, ChatError> {
    let expanded: Vec<Message> =
        annotation.iter().map(|turn| Message { from: turn.from, value: block.expand(&turn.value) }).collect();
    let turns = labels::check_order(&expanded)?;
    match template {
        Template::Vicuna { system } => labels::vicuna_example(tokenizer, system, turns, max_tokens),
        Template::ChatMl { system } => labels::chatml_example(tokenizer, system.as_deref(), turns, max_tokens),
    }
}

/// What generation starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// All turns so far and the opening of the model's answer.
    pub text: String,
    /// Its ids: those training shows the model up to that point.
    pub ids: Vec<u32>,
}

/// The prompt after `turns`, the last of which asks.
///
/// With a `block` the cloud stands before the first question, on a line of its own, as in training.
///
/// # Errors
/// [`ChatError::ReservedMark`] when a turn spells a mark of the block, [`ChatError::Order`], [`ChatError::NoQuestion`].
pub fn generation(
    tokenizer: &Tokenizer,
    template: &Template,
    block: Option<&PointBlock>,
    turns: &[Message],
) -> Result<Prompt, ChatError> {
    let mut turns = labels::check_order(turns)?.to_vec();
    if let Some(block) = block {
        for (index, turn) in turns.iter().enumerate() {
            if let Some(mark) = block.marks().find(|mark| turn.value.contains(*mark)) {
                return Err(ChatError::ReservedMark { index, mark: mark.to_owned() });
            }
        }
    }
    if turns.last().is_none_or(|last| last.from == Role::Assistant) {
        return Err(ChatError::NoQuestion);
    }
    if let (Some(block), Some(first)) = (block, turns.first_mut()) {
        first.value = format!("{}\n{}", block.text(), first.value);
    }
    turns.push(Message::assistant(""));
    match template {
        Template::Vicuna { system } => {
            let text = labels::vicuna_prompt(system, &turns);
            let ids = tokenizer.encode(&text, true)?;
            Ok(Prompt { text, ids })
        }
        Template::ChatMl { system } => {
            let example = labels::chatml_example(tokenizer, system.as_deref(), &turns, usize::MAX)?;
            Ok(Prompt { text: example.prompt, ids: example.input_ids })
        }
    }
}

/// Examples side by side, padded on the right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Rows.
    pub n_rows: usize,
    /// Columns: the longest row.
    pub n_cols: usize,
    /// `[rows, cols]`.
    pub input_ids: Vec<u32>,
    /// `[rows, cols]`, padding is [`IGNORE`].
    pub labels: Vec<i64>,
    /// `[rows, cols]`: 1 where the id is not the padding id, wherever it stands, as in the released code.
    pub attention_mask: Vec<u8>,
}

/// Puts rows of ids and labels side by side.
pub fn pad_right<'a>(rows: impl IntoIterator<Item = (&'a [u32], &'a [i64])>, pad_id: u32) -> Batch {
    let rows: Vec<_> = rows.into_iter().collect();
    let n_cols = rows.iter().map(|(ids, _)| ids.len()).max().unwrap_or(0);
    let mut batch = Batch {
        n_rows: rows.len(),
        n_cols,
        input_ids: Vec::with_capacity(rows.len() * n_cols),
        labels: Vec::with_capacity(rows.len() * n_cols),
        attention_mask: Vec::with_capacity(rows.len() * n_cols),
    };
    for (ids, labels) in rows {
        let fill = |len: usize| n_cols - len.min(n_cols);
        batch.input_ids.extend(ids.iter().copied().chain(std::iter::repeat_n(pad_id, fill(ids.len()))));
        let labels = &labels[..labels.len().min(n_cols)];
        batch.labels.extend(labels.iter().copied().chain(std::iter::repeat_n(IGNORE, fill(labels.len()))));
    }
    batch.attention_mask.extend(batch.input_ids.iter().map(|&id| u8::from(id != pad_id)));
    batch
}
