//! Which points are centres and neighbours at each stage of the token embedding? Sampled and searched by a device.
//!
//! Law: the ops and their order are those of the model's own stages, so indices are those it would use, bit for bit.

use crate::enel::engine::Engine;
use anyhow::{Context, Result};
use enel_ir::{DType, Dim, Graph, InputKind, Op, Symbols, TensorType};
use enel_model::{PointConfig, names};
use enel_passes::Mode;
use enel_runtime::{HostTensor, HostTensors};

const GRAPH: &str = "groups";

/// Centres of one stage and their neighbours, as rows of the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// One row for each centre, in sampling order.
    pub centres: Vec<u32>,
    /// `group_size` rows for each centre, nearest first.
    pub neighbours: Vec<u32>,
    /// Neighbours of a centre, itself included.
    pub group_size: usize,
}

/// The stages of `config` on a prepared cloud of `[points, 6]`.
///
/// # Errors
/// A config with more centres or neighbours than points, a device that does not open.
pub fn stages(config: &PointConfig, points: &[f32], device: &str) -> Result<Vec<Stage>> {
    config.check()?;
    let n_points = points.len() / CHANNELS;
    let graph = graph(config, n_points)?;
    let mut engine = Engine::open(&[&graph], Mode::F32, device)?;
    engine.bind(&HostTensors::new())?;
    let xyz: Vec<f32> = points.chunks_exact(CHANNELS).flat_map(|row| &row[..3]).copied().collect();
    let inputs = [(names::POINTS.to_owned(), HostTensor::from_f32(&[1, n_points, 3], &xyz)?)];
    let outputs = engine.run(GRAPH, &[], &inputs.into())?;
    let mut from: Vec<u32> = (0..n_points as u32).collect();
    let mut stages = Vec::with_capacity(config.num_stages);
    for stage in 0..config.num_stages {
        // Indices count within the level before; they become rows of the cloud.
        let rows = |name: String| -> Result<Vec<u32>> {
            let values = outputs.get(&name).and_then(HostTensor::to_i64).with_context(|| format!("no `{name}`"))?;
            let row = |&index: &i64| usize::try_from(index).ok().and_then(|index| from.get(index)).copied();
            values.iter().map(row).collect::<Option<_>>().with_context(|| format!("`{name}` leaves the cloud"))
        };
        let (centres, neighbours) = (rows(centres_name(stage))?, rows(neighbours_name(stage))?);
        from.clone_from(&centres);
        stages.push(Stage { centres, neighbours, group_size: config.group_size });
    }
    Ok(stages)
}

/// Channels of a prepared point.
const CHANNELS: usize = 6;

fn centres_name(stage: usize) -> String {
    format!("centres.{stage}")
}

fn neighbours_name(stage: usize) -> String {
    format!("neighbours.{stage}")
}

fn graph(config: &PointConfig, n_points: usize) -> Result<Graph> {
    let dim = |n: usize| Dim::constant(n as i64);
    let mut graph = Graph::new(GRAPH, Symbols::default());
    let ty = TensorType::new(DType::F32, vec![dim(1), dim(n_points), dim(3)]);
    let mut level = graph.input(names::POINTS, InputKind::Data, ty)?;
    for stage in 0..config.num_stages {
        let centres = graph.push(Op::Fps { n: dim(config.centres(stage)) }, &[level])?;
        let at = graph.gather(level, centres, 1, 1)?;
        let neighbours = graph.push(Op::Knn { k: dim(config.group_size) }, &[at, level])?;
        graph.output(&centres_name(stage), centres);
        graph.output(&neighbours_name(stage), neighbours);
        level = at;
    }
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use super::*;
    use enel_io::{Cloud, PrepareConfig, prepare};
    use enel_model::{Bounds, EnelConfig, TapLevel, embed_graph};
    use std::collections::BTreeMap;
    use std::path::Path;

    #[test]
    fn groups_are_those_the_model_makes() {
        let config = EnelConfig::tiny().point;
        let chair = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/chair.ply");
        let prepared = prepare(&Cloud::load(&chair).unwrap(), PrepareConfig::exactly(256)).unwrap();
        let found = stages(&config, &prepared.points, "cpu").unwrap();

        let (graph, _) = embed_graph(&config, None, &Bounds::default(), TapLevel::All).unwrap();
        let mut engine = Engine::open(&[&graph], Mode::F32, "cpu").unwrap();
        let weights: HostTensors = graph
            .inputs()
            .filter(|(_, _, kind)| *kind == InputKind::Weight)
            .map(|(id, name, _)| {
                let shape: Vec<usize> = graph.ty(id).shape.iter().map(|n| n.as_const().unwrap() as usize).collect();
                let n_elems = shape.iter().product();
                (name.to_owned(), HostTensor::from_f32(&shape, &vec![0.5; n_elems]).unwrap())
            })
            .collect();
        engine.bind(&weights).unwrap();
        let points = HostTensor::from_f32(&[1, 256, 6], &prepared.points).unwrap();
        let outputs = engine.run("embed", &[("B", 1)], &BTreeMap::from([(names::POINTS.to_owned(), points)])).unwrap();
        let indices = |name: String| outputs[&name].to_i64().unwrap();
        let mut from: Vec<u32> = (0..256).collect();
        for (s, stage) in found.iter().enumerate() {
            let rows = |name| indices(name).iter().map(|&i| from[i as usize]).collect::<Vec<u32>>();
            assert_eq!(stage.centres, rows(format!("act.stage{s}.fps_idx")));
            assert_eq!(stage.neighbours, rows(format!("act.stage{s}.knn_idx_sorted")));
            from.clone_from(&stage.centres);
        }
        assert_eq!(found.len(), 3);
    }
}
