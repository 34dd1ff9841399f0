//! Which calls is each family proved on? Strategies that shrink, with the sizes where kernels break: 1, primes, both sides
//! of a tile's edge, and bounds that choose each template in turn.

mod attention;
mod contract;
mod select;
mod sums;

pub use attention::{
    Heads, Template, attention, attention_case, attention_decode, attention_grad, attention_lse, attention_tensor,
    grad_case,
};
pub use contract::{contract, contract_fold, contract_tensor};
pub use select::{box_grid, fps, fps_case, knn, top_k};
pub use sums::{map, reduce, reduce_teams, scatter};

use crate::check::{Case, Near};
use enel_bundle::{Dynamic, Extent};
use enel_types::DType;
use proptest::prelude::*;
use std::fmt;

/// A drawn call and how near its result has to be.
#[derive(Clone)]
pub struct Drawn {
    /// What was drawn, in words.
    pub what: String,
    /// The call.
    pub case: Case,
    /// The tolerance.
    pub near: Near,
}

impl fmt::Debug for Drawn {
    /// What was drawn; the data follow from it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// A kernel family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Elementwise.
    Map,
    /// Combined along axes.
    Reduce,
    /// Sums of products.
    Contract,
    /// Softmax-weighted sums.
    Attention,
    /// Their derivatives.
    AttentionGrad,
    /// Farthest point sampling.
    Fps,
    /// Nearest neighbours.
    Knn,
    /// Largest or smallest.
    TopK,
    /// Rows at indices.
    Scatter,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 9] = [
        Family::Map,
        Family::Reduce,
        Family::Contract,
        Family::Attention,
        Family::AttentionGrad,
        Family::Fps,
        Family::Knn,
        Family::TopK,
        Family::Scatter,
    ];

    /// Its name, as a Desc's body prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Map => "map",
            Family::Reduce => "reduce",
            Family::Contract => "contract",
            Family::Attention => "attention",
            Family::AttentionGrad => "attention_grad",
            Family::Fps => "fps",
            Family::Knn => "knn",
            Family::TopK => "topk",
            Family::Scatter => "scatter",
        }
    }

    /// Calls of this family, over all its templates.
    pub fn strategy(self) -> BoxedStrategy<Drawn> {
        match self {
            Family::Map => map().boxed(),
            Family::Reduce => prop_oneof![3 => reduce(), 1 => reduce_teams()].boxed(),
            Family::Contract => prop_oneof![contract(), contract_tensor(), contract_fold()].boxed(),
            Family::Attention => {
                prop_oneof![2 => attention(), 1 => attention_decode(), 1 => attention_tensor(), 1 => attention_lse()]
                    .boxed()
            }
            Family::AttentionGrad => attention_grad().boxed(),
            Family::Fps => fps().boxed(),
            Family::Knn => knn().boxed(),
            Family::TopK => top_k().boxed(),
            Family::Scatter => scatter().boxed(),
        }
    }
}

/// 1, primes, and both sides of a tile's edge.
fn size() -> impl Strategy<Value = i64> {
    prop_oneof![Just(1), Just(7), Just(15), Just(16), Just(17), Just(31), Just(33), Just(64), Just(67), 1..80i64]
}

fn float_dtype() -> impl Strategy<Value = DType> {
    prop_oneof![Just(DType::F32), Just(DType::BF16), Just(DType::F16)]
}

/// The seed of a call's data; data do not shrink.
fn seed() -> impl Strategy<Value = u64> {
    any::<u64>().no_shrink()
}

/// `extent` as a constant or as the next dynamic size.
fn extent(value: i64, dynamic: bool, sizes: &mut Vec<i64>, dynamics: &mut Vec<Dynamic>) -> Extent {
    if !dynamic {
        return Extent::Const(value);
    }
    sizes.push(value);
    dynamics.push(crate::build::bounded(value));
    Extent::Dyn(sizes.len() as u32 - 1)
}
