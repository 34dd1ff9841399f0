//! What does one kernel compute? Buffers, sizes, and a body per family built from scalar programs.
//!
//! Law: a Desc is the whole meaning: two equal Descs may share a kernel, and each device has one implementation per
//! family. Axes of a program's space are numbered in the order the body's documentation lists them.

use crate::program::{Program, Reg};
use enel_types::DType;
use serde::{Deserialize, Serialize};

/// A kernel's meaning.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Desc {
    /// Buffers in argument order.
    pub buffers: Vec<BufferRole>,
    /// Sizes known only at call time, in argument order after the buffers.
    pub dynamics: Vec<Dynamic>,
    /// The computation.
    pub body: Body,
}

/// One buffer argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BufferRole {
    /// Storage type of its elements.
    pub dtype: DType,
    /// How the kernel uses it.
    pub access: Access,
}

/// How a kernel uses a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Access {
    /// Only read.
    Read,
    /// Every element the body defines is written, none read.
    Write,
    /// Some elements are replaced, the rest stays (scatter); or each element is replaced by one computed from it, where
    /// [`Store::replaces`] says so.
    Update,
}

/// A size given at call time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Dynamic {
    /// Largest value any call gives.
    pub max: i64,
    /// Every value is a multiple of this.
    pub multiple: i64,
}

/// Extent of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Extent {
    /// Known when compiling.
    Const(i64),
    /// Dynamic size n of the Desc.
    Dyn(u32),
}

impl Extent {
    /// The value for a call's dynamic sizes.
    pub fn value(self, dynamics: &[i64]) -> i64 {
        match self {
            Extent::Const(n) => n,
            Extent::Dyn(i) => dynamics[i as usize],
        }
    }
}

/// A program together with the register that is its value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Value {
    /// The instructions.
    pub program: Program,
    /// The result.
    pub reg: Reg,
}

/// One element written: `buffer[index] = value`, registers of the program the store stands beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Store {
    /// Buffer of the Desc.
    pub buffer: u32,
    /// Linear element index; distinct for distinct coordinates.
    pub index: Reg,
    /// What is written, rounded to the buffer's dtype.
    pub value: Reg,
}

impl Store {
    /// True for a load of the very element this store replaces, in the same program: the point that reads it is the one
    /// that writes it, so the order of points does not matter.
    pub fn replaces(&self, buffer: u32, index: Reg) -> bool {
        self.buffer == buffer && self.index == index
    }
}

/// The computation, by family.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Body {
    /// Elementwise, with any indexing.
    Map(MapBody),
    /// Elements combined along axes.
    Reduce(ReduceBody),
    /// Sum of products.
    Contract(ContractBody),
    /// Softmax-weighted sums over ranges of rows.
    Attention(AttentionBody),
    /// Their derivatives.
    AttentionGrad(AttentionGradBody),
    /// Farthest point sampling.
    Fps(FpsBody),
    /// k nearest neighbours.
    Knn(KnnBody),
    /// k largest or smallest.
    TopK(TopKBody),
    /// Rows written or added at indices.
    Scatter(ScatterBody),
}

impl Body {
    /// Name of the family.
    pub const fn family(&self) -> &'static str {
        match self {
            Body::Map(_) => "map",
            Body::Reduce(_) => "reduce",
            Body::Contract(_) => "contract",
            Body::Attention(_) => "attention",
            Body::AttentionGrad(_) => "attention_grad",
            Body::Fps(_) => "fps",
            Body::Knn(_) => "knn",
            Body::TopK(_) => "topk",
            Body::Scatter(_) => "scatter",
        }
    }
}

/// For every point of `space`: run `program`, perform `stores`. Axes: `space`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MapBody {
    /// Iteration space, outermost first.
    pub space: Vec<Extent>,
    /// Run once per point.
    pub program: Program,
    /// What is written.
    pub stores: Vec<Store>,
}

/// How an accumulator combines values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AccOp {
    /// Sum; floats in f32 or wider.
    Sum,
    /// Product.
    Prod,
    /// Largest; NaN if any is.
    Max,
    /// Smallest; NaN if any is.
    Min,
    /// Linear index (over the inner axes) of the largest, lowest on ties, NaN largest; the accumulator is Int.
    ArgMax,
    /// Linear index of the smallest, lowest on ties, NaN smallest; the accumulator is Int.
    ArgMin,
    /// Sum of squared deviations from the mean, in one pass without cancellation (Welford, Chan).
    Deviations,
}

/// One accumulator of a reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Acc {
    /// How it combines.
    pub op: AccOp,
    /// The element combined: a register of the element program.
    pub value: Reg,
}

/// For every point of `outer`: combine `element` over `inner`, then run `epilogue` and its stores.
///
/// Axes of `element`: `outer`, then `inner`. Axes of `epilogue`: `outer`; `Acc(n)` is accumulator n.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReduceBody {
    /// Axes kept.
    pub outer: Vec<Extent>,
    /// Axes combined.
    pub inner: Vec<Extent>,
    /// Gives the elements.
    pub element: Program,
    /// What is combined.
    pub accs: Vec<Acc>,
    /// Run once per outer point.
    pub epilogue: Program,
    /// What is written, registers of `epilogue`.
    pub stores: Vec<Store>,
}

/// A reduction of contraction results over the innermost row axes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fold {
    /// Sum, Prod, Max or Min.
    pub op: AccOp,
    /// How many of the last row axes are folded, at least 1.
    pub axes: u32,
    /// The element folded: a register of the contract's `epilogue`.
    pub value: Reg,
    /// Run once per unfolded point; axes: batch, rows left, cols; `Acc(0)` is the folded value.
    pub epilogue: Program,
}

/// For every point of batch x rows x cols: `Acc(0)` = sum over `summed` of lhs * rhs, then `epilogue`.
///
/// Axes of `lhs`: batch, rows, summed. Of `rhs`: batch, cols, summed. Of `epilogue`: batch, rows, cols.
/// `stores` are registers of `epilogue`, or of `fold.epilogue` when there is a fold.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContractBody {
    /// Shared axes.
    pub batch: Vec<Extent>,
    /// M axes.
    pub rows: Vec<Extent>,
    /// N axes.
    pub cols: Vec<Extent>,
    /// K axes.
    pub summed: Vec<Extent>,
    /// Left elements.
    pub lhs: Value,
    /// Right elements.
    pub rhs: Value,
    /// True when both sides may be rounded to bf16 before multiplying: their stored operands are bf16 (tensor cores).
    pub bf16: bool,
    /// Run once per result.
    pub epilogue: Program,
    /// Optional reduction of results.
    pub fold: Option<Fold>,
    /// What is written.
    pub stores: Vec<Store>,
}

/// Token t attends to rows `low(t) <= s < high(t)`: `Acc(0)` = sum_s softmax_s(scale q.k) v, 0 for an empty range.
///
/// Without values `Acc(0)` = ln sum_s exp(scale q.k), the lse of Dao 2023 (arXiv:2307.08691), and the epilogue's axes are
/// token, head. Axes of `q` and `epilogue`: token, head, channel. Of `k`, `v`: row, group, channel. Of `low`, `high`:
/// token. Head h uses group `h * groups / heads`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AttentionBody {
    /// Number of tokens.
    pub tokens: Extent,
    /// Number of key and value rows.
    pub keys: Extent,
    /// Query heads.
    pub heads: i64,
    /// Key and value heads.
    pub groups: i64,
    /// Channels per head.
    pub head_size: i64,
    /// Factor on the scores, as bits of an f32.
    pub scale: u32,
    /// Query elements.
    pub q: Value,
    /// Key elements.
    pub k: Value,
    /// Value elements, if values are summed.
    pub v: Option<Value>,
    /// First row seen, Int.
    pub low: Value,
    /// One past the last row seen, Int.
    pub high: Value,
    /// As for contract.
    pub bf16: bool,
    /// Run once per result element.
    pub epilogue: Program,
    /// What is written.
    pub stores: Vec<Store>,
}

/// An operand of attention its result is differentiated by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum By {
    /// q.
    Query,
    /// k.
    Key,
    /// v.
    Value,
}

impl By {
    /// Letter of the operand.
    pub const fn name(self) -> &'static str {
        match self {
            By::Query => "q",
            By::Key => "k",
            By::Value => "v",
        }
    }
}

/// The derivative of attention by q, k or v, given `dy`, that by its result.
///
/// With p = exp(scale q.k - lse) over the rows a token sees and ds = scale p (dy.v - delta): `Acc(0)` is sum_s ds k for
/// q, sum_t ds q for k, sum_t p dy for v. Axes of `q`, `dy`: token, head, channel. Of `k`, `v`: row, group, channel. Of
/// `low`, `high`: token. Of `lse`, `delta`: token, head. Of `epilogue`: those of the operand. Heads and groups are as in
/// [`AttentionBody`].
///
/// **Source** Dao 2023, arXiv:2307.08691, algorithm 2.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AttentionGradBody {
    /// Number of tokens.
    pub tokens: Extent,
    /// Number of key and value rows.
    pub keys: Extent,
    /// Query heads.
    pub heads: i64,
    /// Key and value heads.
    pub groups: i64,
    /// Channels per head.
    pub head_size: i64,
    /// Factor on the scores, as bits of an f32.
    pub scale: u32,
    /// Which derivative.
    pub by: By,
    /// Query elements.
    pub q: Value,
    /// Key elements.
    pub k: Value,
    /// Value elements.
    pub v: Value,
    /// Derivative by the result.
    pub dy: Value,
    /// First row seen, Int.
    pub low: Value,
    /// One past the last row seen, Int.
    pub high: Value,
    /// Logarithm of the sum of a row's exponentials.
    pub lse: Value,
    /// Sum of `dy` times the result over channels.
    pub delta: Value,
    /// As for contract.
    pub bf16: bool,
    /// Run once per result element.
    pub epilogue: Program,
    /// What is written.
    pub stores: Vec<Store>,
}

/// `out[b, i]` = i-th farthest point of cloud b, i32, starting at 0. Axes of `xyz`: cloud, point, coordinate (3).
///
/// Exact f32: `d = fma(dz, dz, fma(dy, dy, dx * dx))`; running minimum from +inf; next is the lowest index of the maximum.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FpsBody {
    /// Clouds.
    pub batch: Extent,
    /// Points of each cloud.
    pub points: Extent,
    /// Points chosen.
    pub n: Extent,
    /// Coordinates.
    pub xyz: Value,
    /// Buffer `[batch, n]`, i32.
    pub out: u32,
}

/// `out[b, g, j]` = index of the j-th nearest point by (squared distance, index), i32; distances exact as in FPS.
///
/// Axes of `query`: cloud, query, coordinate. Of `point`: cloud, point, coordinate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KnnBody {
    /// Clouds.
    pub batch: Extent,
    /// Queries of each cloud.
    pub queries: Extent,
    /// Points of each cloud.
    pub points: Extent,
    /// Neighbours per query.
    pub k: Extent,
    /// Query coordinates.
    pub query: Value,
    /// Point coordinates.
    pub point: Value,
    /// Buffer `[batch, queries, k]`, i32.
    pub out: u32,
}

/// `out[outer, j]` = index of the j-th element by (value, index), NaN last. Axes of `value`: outer, element.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TopKBody {
    /// Axes kept.
    pub outer: Vec<Extent>,
    /// Elements ranked.
    pub n: Extent,
    /// How many are kept.
    pub k: Extent,
    /// Descending by value, else ascending; indices always ascend on ties.
    pub largest: bool,
    /// Elements, Float or Int.
    pub value: Value,
    /// Buffer `[outer, k]`, i32.
    pub out: u32,
}

/// How rows meet what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ScatterMode {
    /// Replace; the last row of an index wins.
    Set,
    /// Add, in row order.
    Add,
}

/// `out[prefix, index(i), suffix] (+)= row(prefix, i, suffix)` for every i of `index_space`; indices outside `extent`
/// are dropped. `out` already holds the base.
///
/// Axes of `index`: the first `batch` of `prefix`, then `index_space`. Axes of `rows`: prefix, index_space, suffix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ScatterBody {
    /// Set or add.
    pub mode: ScatterMode,
    /// Axes before the indexed one.
    pub prefix: Vec<Extent>,
    /// How many of them `index` depends on.
    pub batch: u32,
    /// Extent of the indexed axis in `out`.
    pub extent: Extent,
    /// Axes of the index.
    pub index_space: Vec<Extent>,
    /// Axes after the indexed one.
    pub suffix: Vec<Extent>,
    /// Index values, Int.
    pub index: Value,
    /// Row elements.
    pub rows: Value,
    /// Buffer `[prefix, extent, suffix]`, access Update.
    pub out: u32,
}
