//! Where in one allocation does each temp of a plan live? Offsets for given symbol values, and a separate proof.
//!
//! Law: [`layout`] is a pure function; [`check_layout`] shares no code with it and replays the steps over the offsets.

use crate::plan::{BufferKind, Plan, PlanError, Step};

/// Every offset is a multiple of this: what a device allocation guarantees, and enough for any vector access.
///
/// **Source** CUDA C++ Programming Guide, "Device Memory Accesses": addresses from the allocator are aligned to at least 256 bytes.
pub const ARENA_ALIGNMENT: usize = 256;

/// Places of a plan's temps for one binding of its symbols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Byte offset per buffer of the plan; `None` for what is no temp or never touched.
    pub offsets: Vec<Option<usize>>,
    /// Bytes of the whole arena.
    pub arena_bytes: usize,
}

/// A temp to be placed.
struct Item {
    buffer: usize,
    bytes: usize,
    first: usize,
    last: usize,
}

/// Lays out the temps: largest first, each into the tightest gap among those alive at the same time.
///
/// # Errors
/// [`PlanError::Size`] when a size cannot be evaluated or the arena does not fit the address space.
pub fn layout(plan: &Plan, symbols: &[i64]) -> Result<Layout, PlanError> {
    let size_error = |source| PlanError::Size { plan: plan.name.clone(), source };
    let overflow = || size_error(enel_types::DimError::Overflow);
    let mut items = Vec::new();
    for (buffer, range) in plan.live_ranges().into_iter().enumerate() {
        let Some((first, last)) = range else { continue };
        let bytes = plan.buffers[buffer].bytes(symbols).map_err(size_error)?;
        let bytes = bytes.checked_next_multiple_of(ARENA_ALIGNMENT).ok_or_else(overflow)?;
        items.push(Item { buffer, bytes, first, last });
    }
    items.sort_by_key(|i| (std::cmp::Reverse(i.bytes), i.first, i.buffer));

    let mut offsets = vec![None; plan.buffers.len()];
    let mut arena_bytes = 0;
    let mut placed: Vec<(usize, &Item)> = Vec::with_capacity(items.len());
    for item in &items {
        let meets = |other: &Item| other.first <= item.last && item.first <= other.last;
        let taken = placed.iter().filter(|(_, other)| meets(other)).map(|(at, other)| (*at, at + other.bytes));
        let offset = tightest_gap(taken, item.bytes);
        let end = offset.checked_add(item.bytes).ok_or_else(overflow)?;
        arena_bytes = arena_bytes.max(end);
        offsets[item.buffer] = Some(offset);
        // Sorted by offset, so that gaps are found in one sweep.
        let at = placed.partition_point(|(start, other)| (*start, other.buffer) < (offset, item.buffer));
        placed.insert(at, (offset, item));
    }
    Ok(Layout { offsets, arena_bytes })
}

/// Start of the smallest gap that takes `bytes` between ranges sorted by start; past the last one when none does.
fn tightest_gap(taken: impl Iterator<Item = (usize, usize)>, bytes: usize) -> usize {
    let mut free_from = 0;
    let mut best: Option<(usize, usize)> = None;
    for (start, end) in taken {
        let gap = start.saturating_sub(free_from);
        if gap >= bytes && gap > 0 && best.is_none_or(|(size, _)| gap < size) {
            best = Some((gap, free_from));
        }
        free_from = free_from.max(end);
    }
    best.map_or(free_from, |(_, at)| at)
}

/// A claim some buffer has on a byte range.
struct Claim {
    buffer: u32,
    start: usize,
    end: usize,
    /// Who wrote over it.
    lost_to: Option<u32>,
}

/// Replays the steps: a temp claims its bytes when first touched and must still own all of them at every later touch.
///
/// # Errors
/// Every fault found: [`PlanError::Overlap`], [`PlanError::Place`], [`PlanError::Size`].
pub fn check_layout(plan: &Plan, symbols: &[i64], layout: &Layout) -> Result<(), Vec<PlanError>> {
    let mut claims: Vec<Claim> = Vec::new();
    let mut faults = Vec::new();
    for (step, action) in plan.steps.iter().enumerate() {
        let touched: &[u32] = match action {
            Step::Call(call) => &call.buffers,
            Step::Copy { from, to } => &[*from, *to],
        };
        for &buffer in touched {
            let is_temp = matches!(plan.buffers[buffer as usize].kind, BufferKind::Temp);
            if !is_temp || claims.iter().any(|c| c.buffer == buffer) {
                continue;
            }
            let (start, end) = match place(plan, symbols, layout, buffer) {
                Ok(range) => range,
                Err(fault) => {
                    faults.push(fault);
                    (0, 0)
                }
            };
            for old in claims.iter_mut().filter(|c| c.start < end && start < c.end) {
                old.lost_to = Some(buffer);
            }
            claims.push(Claim { buffer, start, end, lost_to: None });
        }
        // After all claims of the step, so that two arguments of one call cannot share bytes either.
        for claim in claims.iter().filter(|c| touched.contains(&c.buffer)) {
            if let Some(second) = claim.lost_to {
                faults.push(PlanError::Overlap { plan: plan.name.clone(), first: claim.buffer, second, step });
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn place(plan: &Plan, symbols: &[i64], layout: &Layout, buffer: u32) -> Result<(usize, usize), PlanError> {
    let size = plan.buffers[buffer as usize].bytes(symbols);
    let need_bytes = size.map_err(|source| PlanError::Size { plan: plan.name.clone(), source })?;
    let arena_bytes = layout.arena_bytes;
    let offset = layout.offsets.get(buffer as usize).copied().flatten();
    let end = offset.and_then(|o| o.checked_add(need_bytes)).filter(|end| *end <= arena_bytes);
    match (offset, end) {
        (Some(start), Some(end)) if start % ARENA_ALIGNMENT == 0 => Ok((start, end)),
        _ => {
            let (plan, alignment) = (plan.name.clone(), ARENA_ALIGNMENT);
            Err(PlanError::Place { plan, buffer, need_bytes, alignment, arena_bytes })
        }
    }
}
