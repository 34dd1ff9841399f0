//! Random index ops: farthest points and neighbours of clouds that are inputs, largest of exact values.

use super::draw::Draw;
use super::fact::Fact;
use enel_ir::{NodeId, Op};
use enel_types::Dim;

impl Draw<'_> {
    /// fps, knn or topk.
    pub(crate) fn geometry(&mut self) -> Option<NodeId> {
        if !self.config.geometry || !self.config.ints {
            return None;
        }
        match self.rng.below(3) {
            0 => self.fps(),
            1 => self.knn(),
            _ => self.topk(),
        }
    }

    fn some_cloud(&mut self) -> Option<NodeId> {
        if !self.clouds.is_empty() && self.rng.one_in(2) {
            return Some(self.rng.pick(&self.clouds.clone()));
        }
        let (batch, points) = (self.dim(), self.dim().add(&Dim::constant(3)));
        self.cloud(batch, points)
    }

    /// A count that `extent` always holds.
    fn part_of(&mut self, extent: &Dim) -> Dim {
        if self.rng.one_in(3) { extent.clone() } else { Dim::constant(self.rng.between(1, self.min_of(extent))) }
    }

    fn fps(&mut self) -> Option<NodeId> {
        let xyz = self.some_cloud()?;
        let extent = self.shape(xyz)[1].clone();
        let n = self.part_of(&extent);
        let fact = Fact::exact(0.0, self.max_of(&extent) - 1.0, 0);
        let index = self.emit(Op::Fps { n }, &[xyz], fact)?;
        // The chosen points are a cloud again: moving keeps their bits.
        let fact = self.fact(xyz);
        if let Some(centres) = self.emit(Op::Gather { axis: 1, batch: 1 }, &[xyz, index], fact) {
            self.facts[centres.index()] = fact;
            self.clouds.push(centres);
        }
        Some(index)
    }

    fn knn(&mut self) -> Option<NodeId> {
        let points = self.some_cloud()?;
        let shape = self.shape(points);
        let mates: Vec<NodeId> =
            self.clouds.iter().copied().filter(|&c| self.graph.ty(c).shape[0] == shape[0]).collect();
        let queries = self.rng.pick(&mates);
        let k = self.part_of(&shape[1]);
        let fact = Fact::exact(0.0, self.max_of(&shape[1]) - 1.0, 0);
        self.emit(Op::Knn { k }, &[queries, points], fact)
    }

    fn topk(&mut self) -> Option<NodeId> {
        let x = self.choose(|d, id| d.fact(id).is_exact() && d.graph.ty(id).rank() >= 1)?;
        let extent = self.shape(x).last()?.clone();
        let k = self.part_of(&extent);
        let largest = self.rng.one_in(2);
        let fact = Fact::exact(0.0, self.max_of(&extent) - 1.0, 0);
        self.emit(Op::TopK { k, largest }, &[x], fact)
    }
}
