//! In which order are neighbouring symbols of a text joined?
//!
//! The best-scored pair that spells a piece is joined first, the leftmost of equals; a heap keeps candidates and
//! stale ones are skipped, so a text of n characters costs n log n.
//!
//! **Source** Sennrich, Haddow and Birch 2016, arXiv:1508.07909, with merge ranks replaced by piece scores as
//! SentencePiece does (Kudo and Richardson 2018, arXiv:1808.06226).

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::SpmModel;

const NONE: usize = usize::MAX;

/// A symbol: a byte range of the text and its living neighbours. Joined-away symbols have `len == 0`.
struct Symbol {
    start: usize,
    len: usize,
    prev: usize,
    next: usize,
    frozen: bool,
}

/// A pair that may be joined, with the length it had when it was noted.
struct Candidate {
    score: f32,
    left: usize,
    right: usize,
    len: usize,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

/// The symbols of normalised `text` once no more pairs can be joined, left to right.
pub(super) fn merge<'t>(model: &SpmModel, text: &'t str) -> Vec<&'t str> {
    let mut symbols = split(model, text);
    let mut heap = BinaryHeap::with_capacity(symbols.len());
    for left in 1..symbols.len() {
        note(model, text, &symbols, left - 1, &mut heap);
    }
    while let Some(best) = heap.pop() {
        let is_stale = symbols[best.left].len == 0
            || symbols[best.right].len == 0
            || symbols[best.left].next != best.right
            || symbols[best.left].len + symbols[best.right].len != best.len;
        if is_stale {
            continue;
        }
        let after = symbols[best.right].next;
        symbols[best.right].len = 0;
        symbols[best.left].len = best.len;
        symbols[best.left].next = after;
        if after != NONE {
            symbols[after].prev = best.left;
            note(model, text, &symbols, best.left, &mut heap);
        }
        if symbols[best.left].prev != NONE {
            note(model, text, &symbols, symbols[best.left].prev, &mut heap);
        }
    }
    symbols.iter().filter(|s| s.len > 0).map(|s| &text[s.start..s.start + s.len]).collect()
}

fn split(model: &SpmModel, text: &str) -> Vec<Symbol> {
    let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
    let mut start = 0;
    while let Some(first) = text[start..].chars().next() {
        let user_defined = model.user_defined_prefix(&text[start..]);
        let len = user_defined.unwrap_or(first.len_utf8());
        let index = symbols.len();
        let prev = index.checked_sub(1).unwrap_or(NONE);
        symbols.push(Symbol { start, len, prev, next: index + 1, frozen: user_defined.is_some() });
        start += len;
    }
    if let Some(last) = symbols.last_mut() {
        last.next = NONE;
    }
    symbols
}

fn note(model: &SpmModel, text: &str, symbols: &[Symbol], left: usize, heap: &mut BinaryHeap<Candidate>) {
    let right = symbols[left].next;
    if symbols[left].frozen || symbols[right].frozen {
        return;
    }
    let len = symbols[left].len + symbols[right].len;
    let start = symbols[left].start;
    if let Some(score) = model.score(&text[start..start + len]) {
        // Adding zero makes -0 and 0 equal, as they are for the reference.
        heap.push(Candidate { score: score + 0.0, left, right, len });
    }
}
