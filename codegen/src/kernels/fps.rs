//! fps: distances live in registers, else in shared memory, else nowhere.

use crate::error::EmitError;
use crate::unit::{Group, LaunchPlan, SMEM_LIMIT_BYTES, Text, Unit, config, extent_max};
use enel_bundle::{Desc, Extent, FpsBody, Kind};

/// Points a thread can hold: eight of four registers each leave room in the 128 a thread of 512 has.
const MOST_EACH: i64 = 16;
/// Largest cloud of the exact index arithmetic.
const MOST_POINTS: i64 = 1 << 24;

pub(crate) fn render(desc: &Desc, body: &FpsBody) -> Result<Text, EmitError> {
    let (batch, points, chosen) = ([body.batch], [body.points], [body.n]);
    let mut unit = Unit::new(desc, &[&batch, &points, &chosen, &[body.batch, body.n]])?;
    unit.size("points_size", &points);
    unit.size("chosen_size", &chosen);
    let coordinate = [Extent::Const(3)];
    let groups =
        [Group { name: "b", axes: &batch }, Group { name: "i", axes: &points }, Group { name: "c", axes: &coordinate }];
    unit.value("xyz", &groups, &body.xyz, Kind::Float)?;
    unit.result_buffer("fps", body.out, Kind::Int)?;
    let n_points = extent_max(desc, body.points)?;
    if n_points > MOST_POINTS {
        return Err(EmitError::Size { what: "points of a cloud", got: n_points, expected: "at most 2^24" });
    }
    let threads = match n_points {
        ..=64 => 32,
        65..=512 => 128,
        513..=2048 => 256,
        _ => 512,
    };
    let each = (n_points as u64).div_ceil(threads as u64) as i64;
    // Slots of the block's best come on top of the distances.
    let in_smem = 4 * n_points + 2048 <= SMEM_LIMIT_BYTES;
    let (template, numbers, smem_bytes) = match (each <= MOST_EACH, in_smem) {
        (true, _) => ("fps_registers.cu.tera", config(&[("each", each)]), 0),
        (false, true) => ("fps_shared.cu.tera", config(&[("distances", n_points)]), 4 * n_points),
        (false, false) => ("fps_recompute.cu.tera", config(&[]), 0),
    };
    let plan = LaunchPlan {
        config: numbers,
        words: &[("out", format!("b{}", body.out))],
        lists: &[],
        grid: vec![(vec![body.batch], 1)],
        blocks: 1,
        threads: threads as u32,
        smem_bytes,
        scratch_bytes: 0,
    };
    unit.finish(template, plan)
}
