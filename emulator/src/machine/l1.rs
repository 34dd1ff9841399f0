//! What of its reads does a block find again in the first-level cache? The rest is asked of the second level.
//!
//! The cache is a model, on the careful side. A block has it for itself and finds it empty, so that nothing a neighbour
//! left counts. Its share is what the shared memory of all resident blocks leaves of a multiprocessor, divided by them;
//! resident are as many as threads and shared memory allow, since registers, which PTX does not know, can only make them
//! fewer. Lines are replaced by age. Fences do not empty it.
//!
//! **Source** CUDA C++ Programming Guide 13.0, compute capabilities 7.x to 9.0 (unified capacity, shared capacities to
//! choose from, 1 KB reserved for each block) and 5.x ("global memory": lines of 128 bytes, sectors of 32, `ld.global`
//! cached in L1); PTX ISA 9.0, "Cache Operators" (`.cg` and `.cv` pass by the first level, stores write through);
//! Jia et al. 2018, arXiv:1804.06826, section 3 (128-byte lines of four sectors on Volta).

use std::collections::HashMap;

use crate::decode::compute_capability;

/// Sectors of a line.
const SECTORS: u64 = 4;
const LINE_BYTES: usize = 128;
/// Shared memory of a multiprocessor that can be chosen, in KB; the largest is the architecture's.
const SHARED_STEPS: [usize; 9] = [0, 8, 16, 32, 64, 100, 132, 164, 196];
/// Blocks of a multiprocessor, at most.
const MOST_BLOCKS: usize = 32;

/// Lines of 128 bytes that a block's share holds.
pub(crate) fn lines_of(target: &str, threads: u32, smem_bytes: u32) -> usize {
    // Both memories together, the most that is shared, threads.
    let (unified, most_shared, most_threads) = match compute_capability(target) {
        Some(70 | 72) => (128, 96, 2048),
        Some(75) => (96, 64, 1024),
        Some(80 | 87) => (192, 164, 2048),
        Some(86 | 89 | 120 | 121) => (128, 100, 1536),
        _ => (256, 228, 2048),
    };
    let each = smem_bytes as usize + 1024;
    let by_threads = most_threads / threads.next_multiple_of(32) as usize;
    let blocks = by_threads.min(most_shared * 1024 / each).clamp(1, MOST_BLOCKS);
    let needed = (blocks * each).div_ceil(1024);
    let shared = SHARED_STEPS.into_iter().find(|step| *step >= needed).unwrap_or(most_shared).min(most_shared);
    (unified - shared) * 1024 / blocks / LINE_BYTES
}

struct Line {
    tag: u64,
    /// A bit for each sector that is there.
    sectors: u8,
    older: usize,
    newer: usize,
}

/// Slot 0 is no line: the newest is older than it, the oldest newer.
pub(crate) struct L1 {
    capacity: usize,
    lines: Vec<Line>,
    slots: HashMap<u64, usize>,
}

impl L1 {
    pub(crate) fn new(capacity: usize) -> L1 {
        let ends = Line { tag: u64::MAX, sectors: 0, older: 0, newer: 0 };
        L1 { capacity, lines: vec![ends], slots: HashMap::new() }
    }

    /// Reads a sector; true where it was there.
    pub(crate) fn read(&mut self, sector: u64) -> bool {
        if self.capacity == 0 {
            return false;
        }
        let bit = 1 << (sector % SECTORS);
        let slot = self.line(sector / SECTORS);
        let found = self.lines[slot].sectors & bit != 0;
        self.lines[slot].sectors |= bit;
        found
    }

    /// Drops a sector that changes behind the cache.
    pub(crate) fn forget(&mut self, sector: u64) {
        if let Some(&slot) = self.slots.get(&(sector / SECTORS)) {
            self.lines[slot].sectors &= !(1 << (sector % SECTORS));
        }
    }

    /// The slot of a line, which becomes the newest; the oldest goes where it is new and there is no room.
    fn line(&mut self, tag: u64) -> usize {
        let newest = self.lines[0].older;
        if self.lines[newest].tag == tag {
            return newest;
        }
        let slot = match self.slots.get(&tag) {
            Some(&slot) => slot,
            None if self.lines.len() <= self.capacity => {
                // Linked to itself, so that it can be taken out like any other.
                let slot = self.lines.len();
                self.lines.push(Line { tag, sectors: 0, older: slot, newer: slot });
                slot
            }
            None => {
                let oldest = self.lines[0].newer;
                self.slots.remove(&self.lines[oldest].tag);
                self.lines[oldest].tag = tag;
                self.lines[oldest].sectors = 0;
                oldest
            }
        };
        self.slots.insert(tag, slot);
        let Line { older, newer, .. } = self.lines[slot];
        self.lines[older].newer = newer;
        self.lines[newer].older = older;
        let newest = self.lines[0].older;
        (self.lines[slot].older, self.lines[slot].newer) = (newest, 0);
        self.lines[newest].newer = slot;
        self.lines[0].older = slot;
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_read_longest_ago_goes() {
        let mut l1 = L1::new(2);
        let found: Vec<bool> = [0, 0, 1, 4, 0, 8, 0, 4, 1].map(|sector| l1.read(sector)).to_vec();
        // Line 1 (sector 4) goes for line 2, then line 2 for line 1.
        assert_eq!(found, [false, true, false, false, true, false, true, false, true]);
        l1.forget(0);
        assert_eq!((l1.read(0), l1.read(1), L1::new(0).read(0)), (false, true, false));
    }

    #[test]
    fn a_share_is_what_shared_memory_leaves() {
        // Eight blocks of 256 threads; without shared memory they reserve 8 KB, with 17 KB each 144 of 164.
        assert_eq!(lines_of("sm_80", 256, 0), (192 - 8) * 1024 / 8 / 128);
        assert_eq!(lines_of("sm_80", 256, 17 * 1024), (192 - 164) * 1024 / 8 / 128);
        assert_eq!(lines_of("sm_90a", 128, 200 * 1024), (256 - 228) * 8);
        assert_eq!(lines_of("sm_90a", 32, 0), (256 - 32) * 8 / 32);
    }
}
