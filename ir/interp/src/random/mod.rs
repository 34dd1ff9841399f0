//! Which programs should every device agree on? Seeded random graphs of all op classes, and inputs for them.
//!
//! Law: same seed and config, same graph. Each node carries a [`fact::Fact`]: a range, whether its values are small
//! multiples of a power of two (then discontinuous ops may read it), and how far f32 may stray from f64. So a graph
//! is never ill-conditioned, and a device that disagrees is wrong. Reading order: `fact`, `draw`, then one file per class.

mod choose;
mod composite;
mod draw;
mod elementwise;
mod fact;
mod inputs;
mod place;
mod rng;
mod sums;

pub use inputs::random_inputs;

use draw::Draw;
use enel_ir::Graph;
use enel_types::DType;
use rng::Rng;

/// What may appear in a random graph.
#[derive(Clone, Debug)]
pub struct RandomConfig {
    /// Ops to draw; helper nodes such as constants and inputs come on top.
    pub nodes: usize,
    /// Largest value in elements, for every binding of the symbols.
    pub max_elems: i64,
    /// Float dtypes to use, at least one.
    pub floats: Vec<DType>,
    /// Integers and bool, with all ops that need them: gather, scatter, comparisons, argmax.
    pub ints: bool,
    /// Named dimensions; without them every extent is constant.
    pub symbols: bool,
    /// fps, knn and topk; needs `ints`.
    pub geometry: bool,
    /// State inputs with tied updates.
    pub state: bool,
    /// Composite ops.
    pub composites: bool,
    /// Ops without a derivative somewhere, such as abs, max and relu, on values that are not exact.
    pub kinks: bool,
    /// Composites only derivatives are made of; off by default, so that older seeds keep their graphs.
    pub derivatives: bool,
    /// Cross-entropy behind a linear map, chunk by chunk; off by default for the same reason.
    pub chunks: bool,
}

impl Default for RandomConfig {
    fn default() -> RandomConfig {
        RandomConfig {
            nodes: 24,
            max_elems: 2048,
            floats: vec![DType::F32, DType::F32, DType::BF16, DType::F16],
            ints: true,
            symbols: true,
            geometry: true,
            state: true,
            composites: true,
            kinks: true,
            derivatives: false,
            chunks: false,
        }
    }
}

/// A graph the verifier accepts, and symbol bindings to run it with: the smallest, the largest and one between.
///
/// # Panics
/// When `floats` is empty.
pub fn random_graph(rng_seed: u64, config: &RandomConfig) -> (Graph, Vec<Vec<i64>>) {
    let mut draw = Draw::new(Rng::new(rng_seed), config);
    draw.leaves();
    // Most tries succeed; the cap ends the loop for configs that leave nothing to draw.
    let mut tries = 0;
    let mut made = 0;
    while made < config.nodes && tries < 40 * config.nodes {
        tries += 1;
        let class = draw.rng.below(20);
        let node = match class {
            0..=4 => draw.unary(),
            5..=8 => draw.binary(),
            9 => draw.select_or_cast(),
            10..=12 => draw.movement(),
            13 => draw.reduce(),
            14 => draw.contract(),
            15 => draw.gather(),
            16 => draw.scatter(),
            17 => draw.geometry(),
            18 => draw.composite(),
            _ => draw.leaf(),
        };
        made += usize::from(node.is_some());
    }
    draw.finish()
}
