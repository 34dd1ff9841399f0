//! Which kernels share a launch? Independent ones do, as early as what they read is there.
//!
//! Law: an item never runs later than the order it came in says, so what is only read before some point (a state that
//! is updated in place) stays read before it. Results do not depend on sharing.

use std::collections::HashMap;

/// Parts of one launch: enough for every layer seen, few enough that parameters stay far below 4 KB.
pub(crate) const MAX_PARTS: usize = 8;

/// A kernel as far as order matters.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Values it reads, by index in the graph.
    pub(crate) reads: Vec<usize>,
    /// The values it makes.
    pub(crate) outputs: Vec<usize>,
    /// False for families that want a launch of their own.
    pub(crate) can_share: bool,
    /// Elements of its result, at the largest sizes.
    pub(crate) n_elems: u64,
}

/// A result this much smaller than the largest may lie around early; others are made as late as sharing allows.
const SMALL: u64 = 8;

/// Items by launch, launches in order.
pub(crate) fn launches(items: &[Item]) -> Vec<Vec<usize>> {
    let largest = items.iter().map(|item| item.n_elems).max().unwrap_or(0);
    let mut made: HashMap<usize, usize> = HashMap::new();
    let mut launches: Vec<Vec<usize>> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let ready = item.reads.iter().filter_map(|read| made.get(read)).map(|launch| launch + 1).max().unwrap_or(0);
        let is_open = |launch: &usize| {
            let members = &launches[*launch];
            members.len() < MAX_PARTS && members.iter().all(|&member| items[member].can_share)
        };
        let mut open = (ready..launches.len()).filter(is_open);
        let found = match (item.can_share, item.n_elems.saturating_mul(SMALL) <= largest) {
            (false, _) => None,
            (true, true) => open.next(),
            (true, false) => open.next_back(),
        };
        let launch = found.unwrap_or_else(|| {
            launches.push(Vec::new());
            launches.len() - 1
        });
        launches[launch].push(at);
        made.extend(item.outputs.iter().map(|&output| (output, launch)));
    }
    launches
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Items from `(reads, can_share, n_elems)`; item i makes value i.
    fn order(list: &[(&[usize], bool, u64)]) -> Vec<Vec<usize>> {
        let item = |(at, (reads, can_share, n_elems)): (usize, &(&[usize], bool, u64))| Item {
            reads: reads.to_vec(),
            outputs: vec![at],
            can_share: *can_share,
            n_elems: *n_elems,
        };
        launches(&list.iter().enumerate().map(item).collect::<Vec<_>>())
    }

    #[test]
    fn independent_items_share_and_chains_do_not() {
        assert_eq!(order(&[(&[], true, 1), (&[], true, 1), (&[0], true, 1)]), [vec![0, 1], vec![2]]);
        assert_eq!(order(&[(&[], true, 1), (&[0], true, 1), (&[1], true, 1)]), [vec![0], vec![1], vec![2]]);
    }

    #[test]
    fn small_results_come_early_and_large_ones_late() {
        let chain = |n_elems| order(&[(&[], true, 80), (&[0], true, 80), (&[1], true, 80), (&[], true, n_elems)]);
        assert_eq!(chain(10), [vec![0, 3], vec![1], vec![2]]);
        assert_eq!(chain(11), [vec![0], vec![1], vec![2, 3]]);
    }

    #[test]
    fn items_that_cannot_share_are_alone() {
        assert_eq!(order(&[(&[], false, 1), (&[], false, 1), (&[], true, 1)]), [vec![0], vec![1], vec![2]]);
    }

    #[test]
    fn a_launch_has_room_for_a_bounded_number() {
        let many: Vec<(&[usize], bool, u64)> = (0..MAX_PARTS + 1).map(|_| (&[] as &[usize], true, 1)).collect();
        assert_eq!(order(&many).iter().map(Vec::len).collect::<Vec<_>>(), [MAX_PARTS, 1]);
    }
}
