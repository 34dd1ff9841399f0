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

    /// Whether `later`, a read-modify-write, has seen what `self`, another, wrote: who follows the later one then follows both
    /// (PTX ISA 9.0, chapter 8: observation order is part of causality order).
    #[inline(always)]
    fn is_seen_by(&self, later: &Stamp) -> bool {
        const UPDATE: u32 = How::READ.0 | How::WRITE.0 | How::STRONG;
        self.tag & later.tag & UPDATE == UPDATE && !self.conflicts(later)
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

/// Words of a quad: what a copy of 16 bytes or a row of a matrix touches at once.
const QUAD_WORDS: usize = 4;

/// 32 words, by the largest parts that were always touched as a whole.
struct Line {
    /// While only whole warps have touched it, lane `i` word `i`: the stamps of one word, with `lanes` all ones.
    alike: Word,
    /// While four words were always touched at once: the stamps of one of the four.
    quads: Option<Box<[Word; LINE_WORDS / QUAD_WORDS]>>,
    apart: Option<Box<[Word; LINE_WORDS]>>,
}

struct Page {
    lines: [Line; PAGE_WORDS / LINE_WORDS],
    spilled: HashMap<u8, Vec<Stamp>>,
}

impl Line {
    const NEW: Line = Line { alike: NO_WORD, quads: None, apart: None };

    /// The stamps of word `index`.
    #[inline(always)]
    fn stamps(&self, index: usize) -> Word {
        match (&self.apart, &self.quads) {
            (Some(words), _) => words[index],
            (None, Some(quads)) => quads[index / QUAD_WORDS],
            (None, None) => self.alike.of_lane(index),
        }
    }

    /// All words, each with its own stamps from now on.
    #[inline(always)]
    fn words(&mut self) -> &mut [Word; LINE_WORDS] {
        if self.apart.is_none() {
            self.divide();
        }
        self.apart.get_or_insert_with(|| Box::new([NO_WORD; LINE_WORDS]))
    }

    #[cold]
    fn divide(&mut self) {
        let apart = std::array::from_fn(|i| self.stamps(i));
        *self = Line { apart: Some(Box::new(apart)), ..Line::NEW };
    }

    /// Quads, where all that touched the line can be said of quads.
    #[inline(always)]
    fn quads(&mut self) -> Option<&mut [Word; LINE_WORDS / QUAD_WORDS]> {
        if self.quads.is_none() && (self.apart.is_some() || !self.alike.is_empty()) {
            return None;
        }
        Some(self.quads.get_or_insert_with(|| Box::new([NO_WORD; LINE_WORDS / QUAD_WORDS])))
    }

    /// The line as a whole, where all that touched it were whole warps.
    #[inline(always)]
    fn whole(&mut self) -> Option<&mut Word> {
        (self.apart.is_none() && self.quads.is_none()).then_some(&mut self.alike)
    }
}

impl Page {
    fn new() -> Box<Page> {
        Box::new(Page { lines: [const { Line::NEW }; PAGE_WORDS / LINE_WORDS], spilled: HashMap::new() })
    }

    #[inline(always)]
    fn line(&mut self, word: usize) -> &mut Line {
        &mut self.lines[word % PAGE_WORDS / LINE_WORDS]
    }
}

impl Word {
    fn is_empty(&self) -> bool {
        self.0.iter().all(|stamp| stamp.period == 0)
    }

    /// What lane `lane` did, of what all lanes did, each in a word of its own.
    fn of_lane(&self, lane: usize) -> Word {
        Word(self.0.map(|s| if s.period == 0 { EMPTY } else { Stamp { lanes: 1 << lane, ..s } }))
    }

    /// The earlier access that nothing orders before `new`.
    #[inline(always)]
    fn clash(&self, order: &Order, new: &Stamp) -> Option<Stamp> {
        let Word(slots) = self;
        slots.iter().find(|old| old.period != 0 && old.conflicts(new) && !order.knows(old, new.lanes)).copied()
    }

    /// What `agent` did is from now on `as_new`'s.
    fn land(&mut self, agent: Who, as_new: &Stamp) {
        for stamp in self.0.iter_mut().filter(|s| s.who == agent) {
            *stamp = Stamp { tag: stamp.tag, ..*as_new };
        }
    }

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
            if old.covered_by(new) && (order.knows(old, new.lanes) || old.is_seen_by(new)) {
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

    /// All accesses that are remembered, each with its word.
    pub(crate) fn stamps(&self) -> impl Iterator<Item = (usize, Stamp)> + '_ {
        let pages = self.pages.iter().enumerate().filter_map(|(at, page)| Some((at * PAGE_WORDS, page.as_deref()?)));
        pages.flat_map(|(start, page)| {
            let words = (0..PAGE_WORDS).flat_map(move |i| {
                let Word(slots) = page.lines[i / LINE_WORDS].stamps(i % LINE_WORDS);
                slots.into_iter().map(move |stamp| (start + i, stamp))
            });
            let spilled =
                page.spilled.iter().flat_map(move |(&i, list)| list.iter().map(move |s| (start + usize::from(i), *s)));
            words.chain(spilled).filter(|(_, stamp)| stamp.period != 0)
        })
    }

    /// The first access to `word` that is remembered and as `wanted`.
    #[inline(always)]
    pub(crate) fn find(&mut self, word: usize, wanted: impl Fn(&Stamp) -> bool) -> Option<Stamp> {
        let page = self.page(word);
        let Word(slots) = page.line(word).stamps(word % LINE_WORDS);
        let found = slots.into_iter().find(|old| old.period != 0 && wanted(old));
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
        if page.line(word).words()[word % LINE_WORDS].record(order, new, is_global) {
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
        let page = self.page(first);
        let at = first % LINE_WORDS;
        if !page.spilled.is_empty() || at + n > LINE_WORDS {
            return None;
        }
        let is_quads = at.is_multiple_of(QUAD_WORDS) && n.is_multiple_of(QUAD_WORDS);
        let line = page.line(first);
        // Parts of `words` words each, with the same stamps.
        let (parts, words) = match is_quads.then(|| line.quads()).flatten() {
            Some(quads) => (&mut quads[at / QUAD_WORDS..(at + n) / QUAD_WORDS], QUAD_WORDS),
            None => (&mut page.line(first).words()[at..at + n], 1),
        };
        let mut spilled = Vec::new();
        for (i, part) in parts.iter_mut().enumerate() {
            if let Some(clash) = part.clash(order, new) {
                return Some(Err(clash));
            }
            if !part.record(order, kept, is_global) {
                spilled.extend(first + i * words..first + (i + 1) * words);
            }
        }
        for word in spilled {
            spill(&mut page.spilled, word, order, kept);
        }
        Some(Ok(()))
    }

    /// Lane `i` of a whole warp touches word `first + i`: checked and remembered at once. `None` where the words have to
    /// be taken one by one.
    pub(crate) fn touch_line(&mut self, first: usize, order: &Order, new: &Stamp) -> Option<Result<(), Stamp>> {
        let is_global = self.is_global;
        let whole = self.page(first).line(first).whole()?;
        // The same warp is the same lane here, in every word.
        if let Some(clash) = whole.clash(order, new) {
            return Some(Err(Stamp { lanes: 1, ..clash }));
        }
        whole.record(order, new, is_global).then_some(Ok(()))
    }

    /// Asynchronous writes to words `first..first + n` have arrived: from now on they are `as_new`'s.
    pub(crate) fn land(&mut self, (first, n): (usize, usize), agent: Who, as_new: &Stamp) {
        let mut word = first;
        while word < first + n {
            let page = self.page(word);
            let (line, at) = (page.line(word), word % LINE_WORDS);
            let is_quad = at.is_multiple_of(QUAD_WORDS) && first + n - word >= QUAD_WORDS;
            let words = match line.quads.as_deref_mut().filter(|_| is_quad) {
                Some(quads) => {
                    quads[at / QUAD_WORDS].land(agent, as_new);
                    QUAD_WORDS
                }
                None => {
                    line.words()[at].land(agent, as_new);
                    1
                }
            };
            if !page.spilled.is_empty() {
                for at in word..word + words {
                    let spilled = page.spilled.get_mut(&((at % PAGE_WORDS) as u8));
                    for stamp in spilled.into_iter().flatten().filter(|s| s.who == agent) {
                        *stamp = Stamp { tag: stamp.tag, ..*as_new };
                    }
                }
            }
            word += words;
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
    list.retain(|old| !(old.covered_by(new) && (order.knows(old, new.lanes) || old.is_seen_by(new))));
    list.push(*new);
}

#[cfg(test)]
mod tests {
    use super::{How, LINE_WORDS, QUAD_WORDS, Region, Stamp};
    use crate::machine::clock::Who;
    use crate::machine::order::{Handoff, Order};
    use crate::machine::warp::ALL;
    use proptest::prelude::*;

    const WARPS: u32 = 3;

    /// What happens to one line.
    #[derive(Clone, Debug)]
    enum Event {
        /// Lanes `i` of a whole warp and words `i`.
        Line(u32, How),
        /// One lane or all, and words `first..first + n`.
        Words(u32, u32, How, (usize, usize)),
        /// The warp's agent writes a quad; the warp waits for all of them.
        Copy(u32, usize),
        Wait(u32),
        /// All meet.
        Barrier,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let how = prop_oneof![4 => Just(How::READ), 1 => Just(How::WRITE)];
        let lanes = prop_oneof![Just(ALL), (0..32u32).prop_map(|lane| 1 << lane)];
        let quads = LINE_WORDS / QUAD_WORDS;
        let quads =
            (0..quads).prop_flat_map(move |q| (Just(QUAD_WORDS * q), (1..=quads - q).prop_map(|n| QUAD_WORDS * n)));
        let words = prop_oneof![8 => quads, 1 => (0..LINE_WORDS).prop_map(|word| (word, 1))];
        let event = prop_oneof![
            1 => (0..WARPS, how.clone()).prop_map(|(warp, how)| Event::Line(warp, how)),
            8 => (0..WARPS, lanes, how, words).prop_map(|(warp, lanes, how, words)| Event::Words(warp, lanes, how, words)),
            4 => (0..WARPS, 0..LINE_WORDS / QUAD_WORDS).prop_map(|(warp, quad)| Event::Copy(warp, QUAD_WORDS * quad)),
            2 => (0..WARPS).prop_map(Event::Wait),
            4 => Just(Event::Barrier),
        ];
        prop::collection::vec(event, 1..40)
    }

    /// Word by word: whether one of them is in conflict.
    fn touch_each(
        region: &mut Region,
        order: &Order,
        words: impl Iterator<Item = (usize, Stamp, Stamp)> + Clone,
    ) -> bool {
        let clashes = words.clone().any(|(word, new, _)| region.conflict(word, order, &new).is_some());
        words.for_each(|(word, _, kept)| region.record(word, order, &kept));
        clashes
    }

    proptest! {
        #[test]
        fn large_parts_find_what_words_find(events in events(), is_global: bool) {
            let region = || Region { is_global, ..Region::default() };
            let (mut whole, mut each) = (region(), region());
            let mut orders: Vec<Order> = (0..WARPS).map(|warp| Order::new(Who::warp(0, warp))).collect();
            let mut copied: Vec<Vec<usize>> = vec![Vec::new(); WARPS as usize];
            for (pc, event) in events.into_iter().enumerate() {
                let pc = pc as u32;
                let (fast, slow) = match event {
                    Event::Line(warp, how) => {
                        let order = &orders[warp as usize];
                        let stamp = |lanes| Stamp::new(order.who, order.period, lanes, pc).on(15, how);
                        let words = (0..LINE_WORDS).map(|i| (i, stamp(1 << i), stamp(1 << i)));
                        let fast = match whole.touch_line(0, order, &stamp(ALL)) {
                            Some(found) => found.is_err(),
                            None => touch_each(&mut whole, order, words.clone()),
                        };
                        (fast, touch_each(&mut each, order, words))
                    }
                    Event::Words(warp, lanes, how, (first, n)) => {
                        let order = &orders[warp as usize];
                        let stamp = Stamp::new(order.who, order.period, lanes, pc).on(15, how);
                        let words = (first..first + n).map(|i| (i, stamp, stamp));
                        let fast = match whole.touch_words((first, n), order, (&stamp, &stamp)) {
                            Some(found) => found.is_err(),
                            None => touch_each(&mut whole, order, words.clone()),
                        };
                        (fast, touch_each(&mut each, order, words))
                    }
                    Event::Copy(warp, first) => {
                        let order = &mut orders[warp as usize];
                        let period = order.begin_async();
                        let own = Stamp::new(order.who, order.period, 1, pc).on(15, How::WRITE);
                        let flying = Stamp::new(order.who.agent(), period, 1, pc).on(15, How::WRITE);
                        copied[warp as usize].push(first);
                        let words = (first..first + QUAD_WORDS).map(|i| (i, own, flying));
                        let fast = match whole.touch_words((first, QUAD_WORDS), order, (&own, &flying)) {
                            Some(found) => found.is_err(),
                            None => touch_each(&mut whole, order, words.clone()),
                        };
                        (fast, touch_each(&mut each, order, words))
                    }
                    Event::Wait(warp) => {
                        let order = &orders[warp as usize];
                        let stamp = Stamp::new(order.who, order.period, 1, pc);
                        for first in copied[warp as usize].drain(..) {
                            whole.land((first, QUAD_WORDS), order.who.agent(), &stamp);
                            (first..first + QUAD_WORDS).for_each(|i| each.land((i, 1), order.who.agent(), &stamp));
                        }
                        (false, false)
                    }
                    Event::Barrier => {
                        let mut handoff = Handoff::new(0);
                        orders.iter_mut().for_each(|order| order.arrive(&mut handoff));
                        for order in &mut orders {
                            order.leave(&handoff);
                            order.sync_lanes(ALL, ALL);
                        }
                        (false, false)
                    }
                };
                prop_assert_eq!(fast, slow);
                if fast {
                    break;
                }
            }
        }
    }
}
