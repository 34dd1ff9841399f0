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

    /// The same access, strong, with the reach of the whole device or of one block.
    pub(crate) fn strong(self, is_wide: bool) -> How {
        How(self.0 | How::STRONG | if is_wide { How::WIDE } else { 0 })
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
    /// Program counter (24 bits), bytes of the word (4), how (4).
    tag: u32,
}

impl Stamp {
    pub(crate) fn new(who: Who, period: u32, lanes: u32, pc: u32) -> Self {
        Stamp { who, period, lanes, tag: pc << 8 }
    }

    /// The same access to the bytes `bytes` (a bit each) of a word.
    #[inline(always)]
    pub(crate) fn on(self, bytes: u32, how: How) -> Self {
        Stamp { tag: self.tag & !0xff | bytes << 4 | how.0, ..self }
    }

    pub(crate) fn pc(&self) -> u32 {
        self.tag >> 8
    }

    pub(crate) fn how(&self) -> How {
        How(self.tag & 15)
    }

    #[inline(always)]
    fn conflicts(&self, other: &Stamp) -> bool {
        let shared = self.tag & other.tag;
        let some_write = (self.tag | other.tag) & How::WRITE.0 != 0;
        // Morally strong: both strong, and each within the other's reach.
        let strong = shared & How::STRONG != 0 && (shared & How::WIDE != 0 || self.who.block() == other.who.block());
        shared & 0xf0 != 0 && some_write && !strong
    }

    /// Whether both touch the same bytes.
    pub(crate) fn meets(&self, other: &Stamp) -> bool {
        self.tag & other.tag & 0xf0 != 0
    }

    /// Whether nothing can conflict with `self` that would not conflict with `later`, which comes after it.
    #[inline(always)]
    fn covered_by(&self, later: &Stamp) -> bool {
        let all_bytes = self.tag & !later.tag & 0xf0 == 0;
        all_bytes
            && (later.how().writes() || !self.how().writes())
            && (!later.how().is_strong() || self.how().is_strong())
    }
}

const EMPTY: Stamp = Stamp { who: Who::NONE, period: 0, lanes: 0, tag: 0 };
/// Stamps kept in place.
const SLOTS: usize = 3;
/// Words of a page.
const PAGE_WORDS: usize = 256;

#[derive(Clone, Copy)]
struct Word([Stamp; SLOTS]);

struct Page {
    words: [Word; PAGE_WORDS],
    spilled: HashMap<u8, Vec<Stamp>>,
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
        self.pages[at].get_or_insert_with(|| {
            Box::new(Page { words: [Word([EMPTY; SLOTS]); PAGE_WORDS], spilled: HashMap::new() })
        })
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
        let found = page.words[word % PAGE_WORDS].0.iter().find(|old| old.period != 0 && wanted(old));
        if found.is_some() || page.spilled.is_empty() {
            return found.copied();
        }
        page.spilled.get(&((word % PAGE_WORDS) as u8))?.iter().find(|old| wanted(old)).copied()
    }

    /// Remembers `new`, which conflicts with nothing.
    #[inline(always)]
    pub(crate) fn record(&mut self, word: usize, order: &Order, new: &Stamp) {
        let is_global = self.is_global;
        let page = self.page(word);
        let Word(slots) = &mut page.words[word % PAGE_WORDS];
        let mut free = SLOTS;
        for (i, old) in slots.iter_mut().enumerate() {
            let twin = old.who == new.who && old.period == new.period && old.tag & 0xff == new.tag & 0xff;
            if twin && old.period != 0 {
                old.lanes |= new.lanes;
                old.tag = new.tag;
                return;
            }
            if old.period != 0 && old.covered_by(new) && order.knows(old, new.lanes) {
                *old = EMPTY;
            }
            if old.period == 0 {
                free = free.min(i);
            }
        }
        if free < SLOTS {
            slots[free] = *new;
            return;
        }
        if is_global && new.how() == How::READ {
            let is_read = |s: &Stamp| s.how() == How::READ;
            let same_block = slots.iter().rposition(|s| is_read(s) && s.who.block() == new.who.block());
            if let Some(at) = same_block.or_else(|| slots.iter().rposition(is_read)) {
                slots[at] = *new;
                return;
            }
        }
        let list = page.spilled.entry((word % PAGE_WORDS) as u8).or_default();
        let twin =
            list.iter_mut().find(|s| s.who == new.who && s.period == new.period && s.tag & 0xff == new.tag & 0xff);
        if let Some(twin) = twin {
            twin.lanes |= new.lanes;
            return;
        }
        list.retain(|old| !(old.covered_by(new) && order.knows(old, new.lanes)));
        list.push(*new);
    }

    /// An asynchronous write to `word` has arrived: from now on it is `as_new`'s.
    pub(crate) fn land(&mut self, word: usize, agent: Who, as_new: &Stamp) {
        let page = self.page(word);
        let spilled = page.spilled.get_mut(&((word % PAGE_WORDS) as u8));
        let all = page.words[word % PAGE_WORDS].0.iter_mut().chain(spilled.into_iter().flatten());
        for stamp in all.filter(|s| s.who == agent) {
            *stamp = Stamp { tag: stamp.tag, ..*as_new };
        }
    }
}
