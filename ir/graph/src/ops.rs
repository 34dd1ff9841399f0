//! Which operations exist? The enum, and one table row each: name, class, arity, rules.
//!
//! Law: a new op is a variant, a row of [`OPS`], an arm in `infer`, in the interpreter, and in lowering; matches over
//! ops have no wildcard where meaning is decided, so the compiler lists what is missing. `ir/ops.md` is generated.

use crate::graph::{Scalar, TensorType};
use crate::spec::ContractSpec;
use enel_types::{BinaryOp, DType, Dim, ReduceOp, UnaryOp};
use std::fmt::Write as _;

/// Where an input's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InputKind {
    /// Given with every call.
    Data,
    /// Bound once, the same for every call.
    Weight,
    /// Kept on the device between calls; may be updated by a tied output.
    State,
}

/// How `scatter` combines a row with what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScatterMode {
    /// The row replaces it; of several rows with one index the last wins.
    Set,
    /// The row is added; rows with one index are added in order.
    Add,
}

/// An operand of attention, by which its result is differentiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttentionOperand {
    /// q.
    Query,
    /// k.
    Key,
    /// v.
    Value,
}

impl AttentionOperand {
    /// All, in operand order.
    pub const ALL: [AttentionOperand; 3] = [AttentionOperand::Query, AttentionOperand::Key, AttentionOperand::Value];

    /// The letter of the text format.
    pub const fn name(self) -> &'static str {
        match self {
            AttentionOperand::Query => "q",
            AttentionOperand::Key => "k",
            AttentionOperand::Value => "v",
        }
    }
}

/// An operation with its attributes. Operands and result type live in [`crate::Node`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "fields are documented by the rows of OPS")]
pub enum Op {
    Input { name: String, kind: InputKind, ty: TensorType },
    Const { values: Vec<Scalar>, ty: TensorType },
    Iota { axis: usize, ty: TensorType },
    SizeOf { size: Dim, dtype: DType },
    Unary(UnaryOp),
    Binary(BinaryOp),
    Select,
    Cast { to: DType },
    Reshape { shape: Vec<Dim> },
    Transpose { perm: Vec<usize> },
    Broadcast { shape: Vec<Dim> },
    Slice { starts: Vec<Dim>, sizes: Vec<Dim>, strides: Vec<i64> },
    Concat { axis: usize },
    Pad { low: Vec<Dim>, high: Vec<Dim>, value: Scalar },
    Reverse { axes: Vec<usize> },
    Window { axis: usize, size: i64, stride: i64, dilation: i64 },
    Gather { axis: usize, batch: usize },
    Scatter { axis: usize, batch: usize, mode: ScatterMode },
    Reduce { op: ReduceOp, axes: Vec<usize>, keep: bool },
    Contract { spec: ContractSpec },
    Fps { n: Dim },
    Knn { k: Dim },
    TopK { k: Dim, largest: bool },
    Composite(Composite),
}

/// An operation whose meaning is a graph of primitives (see [`crate::decompose`]).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "fields are documented by the rows of OPS")]
pub enum Composite {
    Relu,
    Sigmoid,
    Silu,
    Gelu { tanh: bool },
    Softmax { axis: usize },
    LogSoftmax { axis: usize },
    Mean { axes: Vec<usize>, keep: bool },
    Variance { axes: Vec<usize>, keep: bool, ddof: i64 },
    RmsNorm { eps: Scalar },
    LayerNorm { eps: Scalar },
    BatchNorm { axis: usize, eps: Scalar },
    Attention { scale: Scalar },
    AttentionLse { scale: Scalar },
    AttentionGrad { scale: Scalar, by: AttentionOperand },
    CrossEntropy { ignore: i64 },
    LinearCrossEntropy { ignore: i64, columns: i64 },
    StopGradient,
    RandomBits { stream: i64, shape: Vec<Dim> },
}

/// What kind of work an op is; passes ask this, never names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// No operands: inputs, constants, counters.
    Leaf,
    /// Each result element from the operands' elements at the same place.
    Pointwise,
    /// Result elements are operand elements, elsewhere.
    Move,
    /// Elements along axes combine to one.
    Reduce,
    /// Sum of products over paired axes.
    Contract,
    /// Writes rows into a copy of an operand.
    Scatter,
    /// Chooses indices from whole operands.
    Index,
    /// Stands for a graph of the others.
    Composite,
}

/// One row of the op table.
#[derive(Debug)]
pub struct OpSpec {
    /// Mnemonic of the text format.
    pub name: &'static str,
    /// Kind of work.
    pub class: Class,
    /// Operand names, in order; `..` marks one or more.
    pub operands: &'static str,
    /// Attributes as the text format spells them.
    pub attrs: &'static str,
    /// Meaning in one sentence.
    pub doc: &'static str,
    /// The rules C1, C2, ...
    pub rules: &'static [&'static str],
}

const POINTWISE_RULES: &[&str] = &["shapes broadcast: aligned at the last axis, extents equal or 1"];

const fn row(
    name: &'static str,
    class: Class,
    (operands, attrs): (&'static str, &'static str),
    doc: &'static str,
    rules: &'static [&'static str],
) -> OpSpec {
    OpSpec { name, class, operands, attrs, doc, rules }
}

/// The op table. Unary, binary and reduce ops share a row per kind; their mnemonics are in `enel-types`.
pub const OPS: &[OpSpec] = &[
    row("input", Class::Leaf, ("", "\"name\""), "Value given with every call.", &["names are unique"]),
    row("weight", Class::Leaf, ("", "\"name\""), "Value bound once.", &["names are unique", "extents are constant"]),
    row(
        "state",
        Class::Leaf,
        ("", "\"name\""),
        "Value kept between calls.",
        &["names are unique", "no use after its update"],
    ),
    row(
        "const",
        Class::Leaf,
        ("", "literal"),
        "One value everywhere, or a list of all elements.",
        &["literals fit the dtype", "a list has as many values as the type has elements, at most 4096"],
    ),
    row("iota", Class::Leaf, ("", "axis"), "Index along one axis.", &["axis < rank", "dtype is no bool"]),
    row(
        "size_of",
        Class::Leaf,
        ("", "size"),
        "A size expression as a scalar of the given dtype.",
        &["dtype is no bool"],
    ),
    row(
        "<unary>",
        Class::Pointwise,
        ("x", ""),
        "neg abs sign floor ceil round sqrt rsqrt recip exp log sin cos tanh erf not.",
        &["dtype suits the op"],
    ),
    row(
        "<binary>",
        Class::Pointwise,
        ("x, y", ""),
        "add sub mul div rem pow max min and or xor eq ne lt le gt ge.",
        &[
            "shapes broadcast: aligned at the last axis, extents equal or 1",
            "dtypes are equal, or both float (then f32)",
            "dtype suits the op",
        ],
    ),
    row(
        "select",
        Class::Pointwise,
        ("condition, x, y", ""),
        "x where the condition holds, else y.",
        &[
            "condition is bool",
            "shapes broadcast: aligned at the last axis, extents equal or 1",
            "dtypes of x and y are equal, or both float (then f32)",
        ],
    ),
    row(
        "cast",
        Class::Pointwise,
        ("x", "to"),
        "Change of dtype: to integer truncates and saturates (NaN is 0), between integers wraps, to bool is x != 0.",
        POINTWISE_RULES,
    ),
    row("reshape", Class::Move, ("x", "shape"), "The same elements in row-major order.", &["element counts are equal"]),
    row("transpose", Class::Move, ("x", "perm"), "Result axis i is operand axis perm[i].", &["perm is a permutation"]),
    row(
        "broadcast",
        Class::Move,
        ("x", "shape"),
        "Repeats along new leading axes and axes of extent 1.",
        &["shapes broadcast to `shape`"],
    ),
    row(
        "slice",
        Class::Move,
        ("x", "starts, sizes, strides"),
        "Elements start + i * stride.",
        &["one entry per axis", "the last element is inside", "strides >= 1"],
    ),
    row(
        "concat",
        Class::Move,
        ("..", "axis"),
        "Operands one after the other.",
        &["dtypes equal", "other extents equal"],
    ),
    row(
        "pad",
        Class::Move,
        ("x", "low, high, value"),
        "Surrounds with a constant.",
        &["one entry per axis, none negative", "the value fits the dtype"],
    ),
    row("reverse", Class::Move, ("x", "axes"), "Counts the axes down.", &["axes are distinct and < rank"]),
    row(
        "window",
        Class::Move,
        ("x", "axis, size, stride, dilation"),
        "Sliding windows: axis [L] becomes [N, size], element (n, i) is n * stride + i * dilation.",
        &["a window fits", "L - span divides by stride, or all is constant"],
    ),
    row(
        "gather",
        Class::Move,
        ("x, index", "axis, batch"),
        "Rows of x at index; an index outside is clamped. Result: x axes before `axis`, index axes after `batch`, x axes after.",
        &["index is i32, i64 or u32", "batch <= axis", "the first `batch` extents agree"],
    ),
    row(
        "scatter",
        Class::Scatter,
        ("base, index, rows", "axis, batch, mode"),
        "base with rows written (`set`, last wins) or added (`add`, in order) at index; rows outside are dropped.",
        &[
            "index is i32, i64 or u32",
            "batch <= axis",
            "rows have the shape gather would give",
            "base and rows have one dtype",
            "`add` takes no bool",
        ],
    ),
    row(
        "reduce_<op>",
        Class::Reduce,
        ("x", "axes, keep"),
        "sum prod max min argmax argmin over axes; keep leaves extents of 1.",
        &["axes are distinct and < rank", "argmax and argmin take one axis and give i32", "dtype suits the op"],
    ),
    row(
        "contract",
        Class::Contract,
        ("lhs, rhs", "spec"),
        "Sum of products, an einsum of two operands; sums are f32 or wider.",
        &["operands are float", "ranks and extents fit the letters"],
    ),
    row(
        "fps",
        Class::Index,
        ("xyz", "n"),
        "Farthest point sampling: f32[B, N, 3] gives i32[B, n]; starts at 0; ties go to the lowest index.",
        &["xyz is f32[B, N, 3]", "n <= N"],
    ),
    row(
        "knn",
        Class::Index,
        ("queries, points", "k"),
        "The k nearest points by (squared distance, index): f32[B, G, 3], f32[B, N, 3] give i32[B, G, k].",
        &["both f32[B, _, 3] with one B", "k <= N"],
    ),
    row(
        "topk",
        Class::Index,
        ("x", "k, largest"),
        "Indices of the k largest (or smallest) along the last axis, ties to the lowest index, NaN last.",
        &["x is float or integer of rank >= 1", "k <= the last extent"],
    ),
    row("relu", Class::Composite, ("x", ""), "max(x, 0).", &["float"]),
    row("sigmoid", Class::Composite, ("x", ""), "1 / (1 + exp(-x)).", &["float"]),
    row("silu", Class::Composite, ("x", ""), "x * sigmoid(x).", &["float"]),
    row("gelu", Class::Composite, ("x", "tanh"), "x * Phi(x) by erf, or the tanh form.", &["float"]),
    row(
        "softmax",
        Class::Composite,
        ("x", "axis"),
        "Normalised exponentials, the maximum subtracted first.",
        &["float", "axis < rank"],
    ),
    row("log_softmax", Class::Composite, ("x", "axis"), "Logarithm of softmax.", &["float", "axis < rank"]),
    row("mean", Class::Composite, ("x", "axes, keep"), "Sum over count.", &["float", "axes are distinct and < rank"]),
    row(
        "variance",
        Class::Composite,
        ("x", "axes, keep, ddof"),
        "Mean squared deviation from the mean, over count - ddof.",
        &["float", "axes are distinct and < rank"],
    ),
    row(
        "rms_norm",
        Class::Composite,
        ("x, gain", "eps"),
        "x * rsqrt(mean(x^2) + eps) * gain over the last axis.",
        &["float", "gain is [C]"],
    ),
    row(
        "layer_norm",
        Class::Composite,
        ("x, gain, bias", "eps"),
        "(x - mean) * rsqrt(var + eps) * gain + bias over the last axis.",
        &["float", "gain and bias are [C]"],
    ),
    row(
        "batch_norm",
        Class::Composite,
        ("x, gain, bias, mean, var", "axis, eps"),
        "Inference form: (x - mean) * rsqrt(var + eps) * gain + bias along axis.",
        &["float", "axis < rank", "the four vectors are [C]"],
    ),
    row(
        "attention",
        Class::Composite,
        ("q, k, v, low, high", "scale"),
        "Token t attends to rows low[t] <= j < high[t] of k and v: q [T, H, D], k and v [S, G, D], G divides H; an empty range gives 0.",
        &["q, k, v float of rank 3", "G divides H; k and v agree; D agrees", "low and high are i32[T]"],
    ),
    row(
        "attention_lse",
        Class::Composite,
        ("q, k, low, high", "scale"),
        "Logarithm of the sum of the exponentials of a token's scaled scores, f32[T, H]; 0 for an empty range.",
        &["q, k float of rank 3", "G divides H; D agrees", "low and high are i32[T]"],
    ),
    row(
        "attention_grad",
        Class::Composite,
        ("q, k, v, dy, low, high, lse, delta", "scale, by"),
        "Derivative of attention by its operand q, k or v, from the derivative dy by its result y, its lse, and delta, the sum of dy * y over channels.",
        &[
            "q, k, v float of rank 3",
            "G divides H; k and v agree; D agrees",
            "low and high are i32[T]",
            "dy is float [T, H, D]; lse and delta are f32[T, H]",
        ],
    ),
    row(
        "cross_entropy",
        Class::Composite,
        ("logits, labels", "ignore"),
        "Mean of -log_softmax(logits)[label] over labels that differ from ignore: [T, V], i32[T] give a scalar.",
        &["logits float [T, V]", "labels i32[T]"],
    ),
    row(
        "linear_cross_entropy",
        Class::Composite,
        ("hidden, matrix, labels", "ignore, columns"),
        "Cross-entropy of the logits hidden matrix^T, of which only `columns` columns are there at once: [T, C], [V, C], i32[T] give a scalar.",
        &["hidden and matrix float, [T, C] and [V, C], V constant", "labels i32[T]", "columns >= 1"],
    ),
    row("stop_gradient", Class::Composite, ("x", ""), "x itself; no derivative passes.", &["float"]),
    row(
        "random_bits",
        Class::Composite,
        ("seed, step", "stream, shape"),
        "First words of Philox4x32-10 with key seed and counter (element, stream, step), equal on every device: u32.",
        &["seed and step are i64[]", "stream is in 0..2^32"],
    ),
];

impl Op {
    /// Mnemonic of the text format.
    pub fn name(&self) -> String {
        match self {
            Op::Unary(op) => op.name().to_owned(),
            Op::Binary(op) => op.name().to_owned(),
            Op::Reduce { op, .. } => format!("reduce_{}", op.name()),
            other => other.spec().name.to_owned(),
        }
    }

    /// Row of [`OPS`].
    pub fn spec(&self) -> &'static OpSpec {
        let name = match self {
            Op::Input { kind: InputKind::Data, .. } => "input",
            Op::Input { kind: InputKind::Weight, .. } => "weight",
            Op::Input { kind: InputKind::State, .. } => "state",
            Op::Const { .. } => "const",
            Op::Iota { .. } => "iota",
            Op::SizeOf { .. } => "size_of",
            Op::Unary(_) => "<unary>",
            Op::Binary(_) => "<binary>",
            Op::Select => "select",
            Op::Cast { .. } => "cast",
            Op::Reshape { .. } => "reshape",
            Op::Transpose { .. } => "transpose",
            Op::Broadcast { .. } => "broadcast",
            Op::Slice { .. } => "slice",
            Op::Concat { .. } => "concat",
            Op::Pad { .. } => "pad",
            Op::Reverse { .. } => "reverse",
            Op::Window { .. } => "window",
            Op::Gather { .. } => "gather",
            Op::Scatter { .. } => "scatter",
            Op::Reduce { .. } => "reduce_<op>",
            Op::Contract { .. } => "contract",
            Op::Fps { .. } => "fps",
            Op::Knn { .. } => "knn",
            Op::TopK { .. } => "topk",
            Op::Composite(c) => c.name(),
        };
        OPS.iter().find(|row| row.name == name).expect("every op has a row; a test walks all variants")
    }

    /// Kind of work.
    pub fn class(&self) -> Class {
        self.spec().class
    }
}

impl Composite {
    /// Mnemonic of the text format.
    pub const fn name(&self) -> &'static str {
        match self {
            Composite::Relu => "relu",
            Composite::Sigmoid => "sigmoid",
            Composite::Silu => "silu",
            Composite::Gelu { .. } => "gelu",
            Composite::Softmax { .. } => "softmax",
            Composite::LogSoftmax { .. } => "log_softmax",
            Composite::Mean { .. } => "mean",
            Composite::Variance { .. } => "variance",
            Composite::RmsNorm { .. } => "rms_norm",
            Composite::LayerNorm { .. } => "layer_norm",
            Composite::BatchNorm { .. } => "batch_norm",
            Composite::Attention { .. } => "attention",
            Composite::AttentionLse { .. } => "attention_lse",
            Composite::AttentionGrad { .. } => "attention_grad",
            Composite::CrossEntropy { .. } => "cross_entropy",
            Composite::LinearCrossEntropy { .. } => "linear_cross_entropy",
            Composite::StopGradient => "stop_gradient",
            Composite::RandomBits { .. } => "random_bits",
        }
    }
}

/// The op table as a page, the content of `ir/ops.md`.
pub fn ops_markdown() -> String {
    let mut page = String::from(
        "# Ops\n\nGenerated from `ir/graph/src/ops.rs`; a test compares.\n\n| op | class | operands | attributes | meaning | rules |\n|---|---|---|---|---|---|\n",
    );
    for op in OPS {
        let rules: Vec<String> = op.rules.iter().enumerate().map(|(i, r)| format!("C{} {r}", i + 1)).collect();
        let rules = rules.join("; ");
        writeln!(page, "| `{}` | {:?} | {} | {} | {} | {rules} |", op.name, op.class, op.operands, op.attrs, op.doc)
            .expect("writing to a String cannot fail");
    }
    page
}
