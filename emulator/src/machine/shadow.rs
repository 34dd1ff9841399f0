//! Who touched which bytes last? A few stamps per word, each an access nothing later has covered.
//!
//! A word keeps every access that a later one could still conflict with: a stamp goes when an access that comes after it
//! is sure to conflict with whatever it would have. Three stamps lie in place, more spill into a map. Of plain reads of
//! global memory only three are kept, from different blocks if possible: a write that conflicts with any of them
//! conflicts with one that is kept, unless some of their blocks are ordered before it by fences and others are not.

use std::collections::HashMap;

use super::clock::Who;
use super::order::Order;

/// What an access does, as conflicts see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct How(u32);

impl How {
    pub(crate) const READ: How = How(1);
    pub(crate) const WRITE: How = How(2);
    const STRONG: u32 = 4;
    const WIDE: u32 = 8;
    const SWAP: u32 = 16;
    const ALL: u32 = 31;

    /// The same access, strong, with the reach of the whole device or of one block.
    pub(crate) fn strong(self, is_wide: bool) -> How {
        How(self.0 | How::STRONG | if is_wide { How::WIDE } else { 0 })
    }

    /// The same access as part of a compare-and-swap: whoever reads on a guess is told by it whether that was right.
    pub(crate) fn swap(self) -> How {
        How(self.0 | How::SWAP)
    }

    pub(crate) fn and(self, other: How) -> How {
        How(self.0 | other.0)
    }

    pub(crate) fn reads(self) -> bool {
        self.0 & How::READ.0 != 0
    }

    pub(crate) fn writes(self) -> bool {
        self.0 & How::WRITE.0 != 0
    }

    pub(crate) fn is_strong(self) -> bool {
        self.0 & How::STRONG != 0
    }
}

/// One access to one word. Empty while `period` is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) who: Who,
    pub(crate) period: u32,
    pub(crate) lanes: u32,
    /// Program counter (23 bits), bytes of the word (4), how (5).
    tag: u32,
}

impl Stamp {
    pub(crate) fn new(who: Who, period: u32, lanes: u32, pc: u32) -> Self {
        Stamp { who, period, lanes, tag: pc << PC_SHIFT }
    }

    /// The same access to the bytes `bytes` (a bit each) of a word.
    #[inline(always)]
    pub(crate) fn on(self, bytes: u32, how: How) -> Self {
        Stamp { tag: self.tag & !WHAT | bytes << BYTES_SHIFT | how.0, ..self }
    }

    pub(crate) fn pc(&self) -> u32 {
        self.tag >> PC_SHIFT
    }

    pub(crate) fn how(&self) -> How {
        How(self.tag & How::ALL)
    }

    #[inline(always)]
    fn conflicts(&self, other: &Stamp) -> bool {
        let shared = self.tag & other.tag;
        let some_write = (self.tag | other.tag) & How::WRITE.0 != 0;
        // Morally strong: both strong, and each within the other's reach.
        let strong = shared & How::STRONG != 0 && (shared & How::WIDE != 0 || self.who.block() == other.who.block());
        // A plain read that a compare-and-swap will confirm or refute (CUDA programming guide, atomic functions).
        let is_guess = (self.tag ^ other.tag) & (How::SWAP | How::WRITE.0) == How::SWAP | How::WRITE.0;
        shared & BYTES != 0 && some_write && !strong && !is_guess
    }

    /// Whether both touch the same bytes.
    pub(crate) fn meets(&self, other: &Stamp) -> bool {
        self.tag & other.tag & BYTES != 0
    }

    /// Whether nothing can conflict with `self` that would not conflict with `later`, which comes after it.
    #[inline(always)]
    fn covered_by(&self, later: &Stamp) -> bool {
        let all_bytes = self.tag & !later.tag & BYTES == 0;
        all_bytes
            && (later.how().writes() || !self.how().writes())
            && (!later.how().is_strong() || self.how().is_strong())
    }
}

/// Parts of a tag.
const BYTES_SHIFT: u32 = 5;
const BYTES: u32 = 15 << BYTES_SHIFT;
const PC_SHIFT: u32 = 9;
/// All but the program counter.
const WHAT: u32 = (1 << PC_SHIFT) - 1;

const EMPTY: Stamp = Stamp { who: Who::NONE, period: 0, lanes: 0, tag: 0 };
/// Stamps kept in place.
const SLOTS: usize = 3;
/// Words of a page.
const PAGE_WORDS: usize = 256;

#[derive(Clone, Copy)]
struct Word([Stamp; SLOTS]);

const NO_WORD: Word = Word([EMPTY; SLOTS]);
/// Words of a line: as many as a warp has lanes.
const LINE_WORDS: usize = 32;

/// 32 words. While only whole warps have touched them, lane `i` word `i`, the stamps of one word stand for all.
struct Line {
    /// With `lanes` all ones.
    alike: Word,
    apart: Option<Box<[Word; LINE_WORDS]>>,
}

struct Page {
    lines: [Line; PAGE_WORDS / LINE_WORDS],
    spilled: HashMap<u8, Vec<Stamp>>,
}

impl Line {
    #[inline(always)]
    fn word(&mut self, index: usize) -> &mut Word {
        let Line { alike, apart } = self;
        let words = apart.get_or_insert_with(|| {
            let Word(stamps) = std::mem::replace(alike, NO_WORD);
            let lane = |i: usize| stamps.map(|s| if s.period == 0 { EMPTY } else { Stamp { lanes: 1 << i, ..s } });
            Box::new(std::array::from_fn(|i| Word(lane(i))))
        });
        &mut words[index]
    }
}

impl Page {
    fn new() -> Box<Page> {
        Box::new(Page { lines: std::array::from_fn(|_| Line { alike: NO_WORD, apart: None }), spilled: HashMap::new() })
    }

    #[inline(always)]
    fn word(&mut self, word: usize) -> &mut Word {
        self.lines[word % PAGE_WORDS / LINE_WORDS].word(word % LINE_WORDS)
    }
}

impl Word {
    /// Remembers `new`; false if there is no room. With `thin` a plain read takes the place of another.
    #[inline(always)]
    fn record(&mut self, order: &Order, new: &Stamp, thin: bool) -> bool {
        let Word(slots) = self;
        let mut free = SLOTS;
        for (i, old) in slots.iter_mut().enumerate() {
            if old.period == 0 {
                free = free.min(i);
                continue;
            }
            if old.who == new.who && old.period == new.period && old.tag & WHAT == new.tag & WHAT {
                old.lanes |= new.lanes;
                old.tag = new.tag;
                return true;
            }
            if old.covered_by(new) && order.knows(old, new.lanes) {
                *old = EMPTY;
                free = free.min(i);
            }
        }
        if free == SLOTS && thin && new.how() == How::READ {
            let is_read = |s: &Stamp| s.how() == How::READ;
            let same_block = slots.iter().rposition(|s| is_read(s) && s.who.block() == new.who.block());
            free = same_block.or_else(|| slots.iter().rposition(is_read)).unwrap_or(SLOTS);
        }
        if free < SLOTS {
            slots[free] = *new;
        }
        free < SLOTS
    }
}

/// Stamps of one range of memory, page by page where it was touched.
#[derive(Default)]
pub(crate) struct Region {
    pages: Vec<Option<Box<Page>>>,
    /// Plain reads by many blocks are thinned out.
    is_global: bool,
}

impl Region {
    /// Stamps of an allocation of global memory.
    pub(crate) fn global() -> Self {
        Region { is_global: true, ..Region::default() }
    }

    #[inline(always)]
    fn page(&mut self, word: usize) -> &mut Page {
        let at = word / PAGE_WORDS;
        if self.pages.len() <= at {
            self.pages.resize_with(at + 1, || None);
        }
        self.pages[at].get_or_insert_with(Page::new)
    }

    /// The earlier access that nothing orders before `new`, an access of `order`'s warp to word `word`.
    #[inline(always)]
    pub(crate) fn conflict(&mut self, word: usize, order: &Order, new: &Stamp) -> Option<Stamp> {
        self.find(word, |old| old.conflicts(new) && !order.knows(old, new.lanes))
    }

    /// The first access to `word` that is remembered and as `wanted`.
    #[inline(always)]
    pub(crate) fn find(&mut self, word: usize, wanted: impl Fn(&Stamp) -> bool) -> Option<Stamp> {
        let page = self.page(word);
        let found = page.word(word).0.iter().find(|old| old.period != 0 && wanted(old)).copied();
        if found.is_some() || page.spilled.is_empty() {
            return found;
        }
        page.spilled.get(&((word % PAGE_WORDS) as u8))?.iter().find(|old| wanted(old)).copied()
    }

    /// Remembers `new`, which conflicts with nothing.
    #[inline(always)]
    pub(crate) fn record(&mut self, word: usize, order: &Order, new: &Stamp) {
        let is_global = self.is_global;
        let page = self.page(word);
        if page.word(word).record(order, new, is_global) {
            return;
        }
        spill(&mut page.spilled, word, order, new);
    }

    /// Whole words `first..first + n` of one line, checked as `new` and remembered as `kept`. `None` where they have to be taken one by one.
    #[inline(always)]
    pub(crate) fn touch_words(
        &mut self,
        (first, n): (usize, usize),
        order: &Order,
        (new, kept): (&Stamp, &Stamp),
    ) -> Option<Result<(), Stamp>> {
        let is_global = self.is_global;
        let Page { lines, spilled } = self.page(first);
        let (line, at) = (&mut lines[first % PAGE_WORDS / LINE_WORDS], first % LINE_WORDS);
        if !spilled.is_empty() || at + n > LINE_WORDS {
            return None;
        }
        line.word(at);
        let words = line.apart.as_deref_mut()?;
        for (i, word) in words[at..at + n].iter_mut().enumerate() {
            let clash = word.0.iter().find(|old| old.period != 0 && old.conflicts(new) && !order.knows(old, new.lanes));
            if let Some(clash) = clash {
                return Some(Err(*clash));
            }
            if !word.record(order, kept, is_global) {
                spill(spilled, first + i, order, kept);
            }
        }
        Some(Ok(()))
    }

    /// Lane `i` of a whole warp touches word `first + i`: checked and remembered at once. `None` where the words have to
    /// be taken one by one.
    pub(crate) fn touch_line(&mut self, first: usize, order: &Order, new: &Stamp) -> Option<Result<(), Stamp>> {
        let is_global = self.is_global;
        let line = &mut self.page(first).lines[first % PAGE_WORDS / LINE_WORDS];
        if line.apart.is_some() {
            return None;
        }
        // The same warp is the same lane here, in every word.
        let clash =
            line.alike.0.iter().find(|old| old.period != 0 && old.conflicts(new) && !order.knows(old, new.lanes));
        if let Some(clash) = clash {
            return Some(Err(Stamp { lanes: 1, ..*clash }));
        }
        line.alike.record(order, new, is_global).then_some(Ok(()))
    }

    /// An asynchronous write to `word` has arrived: from now on it is `as_new`'s.
    pub(crate) fn land(&mut self, word: usize, agent: Who, as_new: &Stamp) {
        let page = self.page(word);
        let spilled = page.spilled.get_mut(&((word % PAGE_WORDS) as u8));
        for stamp in spilled.into_iter().flatten().filter(|s| s.who == agent) {
            *stamp = Stamp { tag: stamp.tag, ..*as_new };
        }
        for stamp in page.word(word).0.iter_mut().filter(|s| s.who == agent) {
            *stamp = Stamp { tag: stamp.tag, ..*as_new };
        }
    }
}

/// Remembers `new` beside the stamps that lie in place.
#[cold]
fn spill(spilled: &mut HashMap<u8, Vec<Stamp>>, word: usize, order: &Order, new: &Stamp) {
    let list = spilled.entry((word % PAGE_WORDS) as u8).or_default();
    let is_twin = |s: &&mut Stamp| s.who == new.who && s.period == new.period && s.tag & WHAT == new.tag & WHAT;
    if let Some(twin) = list.iter_mut().find(is_twin) {
        twin.lanes |= new.lanes;
        return;
    }
    list.retain(|old| !(old.covered_by(new) && order.knows(old, new.lanes)));
    list.push(*new);
}
