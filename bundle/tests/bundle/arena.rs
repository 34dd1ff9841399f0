//! Live temps never overlap, and the checker would notice if they did.

use crate::sample;
use enel_bundle::{ARENA_ALIGNMENT, Buffer, BufferKind, Plan, PlanError, Step, check_layout, layout};
use enel_types::{DType, Dim, SymId, Symbol, Symbols};
use proptest::prelude::*;

const STEPS: usize = 40;

/// A plan of copies among `sizes.len()` temps; sizes are `a*S + b*R + c` elements.
fn plan(sizes: &[(i64, i64, i64)], touches: &[(usize, usize)]) -> Plan {
    let mut symbols = Symbols::default();
    for name in ["S", "R"] {
        symbols.add(Symbol { name: name.into(), min: 1, max: 1000, multiple: 1 }).unwrap();
    }
    let size = |&(a, b, c): &(i64, i64, i64)| {
        let s = Dim::sym(SymId(0)).mul(&Dim::constant(a));
        let r = Dim::sym(SymId(1)).mul(&Dim::constant(b));
        s.add(&r).add(&Dim::constant(c))
    };
    let buffer = |s| Buffer { kind: BufferKind::Temp, dtype: DType::BF16, shape: vec![size(s)] };
    Plan {
        name: "copies".into(),
        symbols,
        buffers: sizes.iter().map(buffer).collect(),
        bind: vec![],
        steps: touches
            .iter()
            .map(|(from, to)| Step::Copy { from: (*from % sizes.len()) as u32, to: (*to % sizes.len()) as u32 })
            .collect(),
        outputs: vec![],
    }
}

fn plans() -> impl Strategy<Value = Plan> {
    let sizes = prop::collection::vec((0i64..20, 0i64..20, 1i64..5000), 1..24);
    let touches = prop::collection::vec((0usize..24, 0usize..24), 0..STEPS);
    (sizes, touches).prop_map(|(sizes, touches)| plan(&sizes, &touches))
}

proptest! {
    #[test]
    fn live_temps_never_overlap(plan in plans(), s in 1i64..1000, r in 1i64..1000) {
        let symbols = [s, r];
        let found = layout(&plan, &symbols).unwrap();
        prop_assert_eq!(check_layout(&plan, &symbols, &found), Ok(()));
        prop_assert_eq!(layout(&plan, &symbols).unwrap(), found);
    }

    /// Never worse than giving every temp its own place, never better than the fullest step.
    #[test]
    fn the_arena_is_between_its_bounds(plan in plans(), s in 1i64..1000) {
        let symbols = [s, 7];
        let size = |b: usize| plan.buffers[b].bytes(&symbols).unwrap().next_multiple_of(ARENA_ALIGNMENT);
        let ranges = plan.live_ranges();
        let touched: Vec<usize> = (0..ranges.len()).filter(|b| ranges[*b].is_some()).collect();
        let alive = |step: usize| {
            let here = touched.iter().filter(|b| ranges[**b].is_some_and(|(first, last)| first <= step && step <= last));
            here.map(|b| size(*b)).sum::<usize>()
        };
        let fullest = (0..plan.steps.len()).map(alive).max().unwrap_or(0);
        let arena_bytes = layout(&plan, &symbols).unwrap().arena_bytes;
        prop_assert!(arena_bytes >= fullest);
        prop_assert!(arena_bytes <= touched.iter().map(|b| size(*b)).sum::<usize>());
    }

    /// Moving one of two live temps onto the other is noticed.
    #[test]
    fn an_overlap_is_noticed(plan in plans(), pick in any::<prop::sample::Index>()) {
        let symbols = [3, 5];
        let pairs: Vec<(u32, u32)> = plan.steps.iter().filter_map(|step| match step {
            Step::Copy { from, to } if from != to => Some((*from, *to)),
            Step::Copy { .. } | Step::Call(_) => None,
        }).collect();
        prop_assume!(!pairs.is_empty());
        let (from, to) = pairs[pick.index(pairs.len())];
        let mut found = layout(&plan, &symbols).unwrap();
        found.offsets[to as usize] = found.offsets[from as usize];
        found.arena_bytes *= 2;
        let faults = check_layout(&plan, &symbols, &found).unwrap_err();
        let overlaps = |f: &PlanError| matches!(f, PlanError::Overlap { .. });
        prop_assert!(faults.iter().all(overlaps));
    }
}

#[test]
fn temps_that_never_meet_share_a_place() {
    let found =
        layout(&plan(&[(0, 0, 128), (0, 0, 128), (0, 0, 128), (0, 0, 128)], &[(0, 1), (2, 3)]), &[1, 1]).unwrap();
    assert_eq!(found.arena_bytes, 512);
}

#[test]
fn places_outside_the_arena_or_out_of_line_are_noticed() {
    let plan = plan(&[(0, 0, 1000), (0, 0, 1000)], &[(0, 1)]);
    let good = layout(&plan, &[1, 1]).unwrap();
    let mut cut = good.clone();
    cut.arena_bytes -= 256;
    assert!(matches!(check_layout(&plan, &[1, 1], &cut).unwrap_err()[..], [PlanError::Place { need_bytes: 2000, .. }]));
    let mut shifted = good.clone();
    shifted.offsets[0] = shifted.offsets[0].map(|o| o + 4);
    shifted.arena_bytes += 4096;
    assert!(check_layout(&plan, &[1, 1], &shifted).is_err());
    let mut gone = good;
    gone.offsets[1] = None;
    assert!(matches!(check_layout(&plan, &[1, 1], &gone).unwrap_err()[..], [PlanError::Place { buffer: 1, .. }]));
}

#[test]
fn only_temps_are_placed_and_sizes_follow_symbols() {
    let plan = sample::plan();
    let small = layout(&plan, &[1]).unwrap();
    let large = layout(&plan, &[64]).unwrap();
    assert!(small.arena_bytes < large.arena_bytes);
    let placed: Vec<usize> = (0..plan.buffers.len()).filter(|b| large.offsets[*b].is_some()).collect();
    assert_eq!(placed, [3, 6]);
    assert!(matches!(layout(&plan, &[]), Err(PlanError::Size { .. })));
}
