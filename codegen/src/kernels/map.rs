//! map: one thread per few points.

use crate::error::EmitError;
use crate::unit::{Group, LaunchPlan, Text, Unit, config, size_max};
use enel_bundle::{Desc, MapBody};

const THREADS: i64 = 256;

pub(crate) fn render(desc: &Desc, body: &MapBody) -> Result<Text, EmitError> {
    let mut unit = Unit::new(desc, &[&body.space])?;
    unit.size("n_points", &body.space);
    unit.stores("body", &[Group { name: "i", axes: &body.space }], &[], &body.program, &body.stores)?;
    // Four points in flight hide memory latency once there are enough of them to fill a large device anyway.
    let per_thread = if size_max(desc, &body.space)? >= 1 << 20 { 4 } else { 1 };
    let plan = LaunchPlan {
        config: config(&[("per_thread", per_thread)]),
        words: &[],
        lists: &[],
        grid: vec![(body.space.clone(), THREADS * per_thread)],
        blocks: 1,
        threads: THREADS as u32,
        smem_bytes: 0,
        scratch_bytes: 0,
    };
    unit.finish("map.cu.tera", plan)
}
