//! Which attributes does an op show? One arm per op, in both directions.

use crate::graph::{Scalar, TensorType};
use crate::ops::{AttentionOperand, Composite, InputKind, Op, ScatterMode};
use crate::spec::ContractSpec;
use enel_types::{BinaryOp, DType, Dim, ReduceOp, UnaryOp};

/// Value of one attribute.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Attr {
    Dims(Vec<Dim>),
    Dim(Dim),
    Bool(bool),
    Number(Scalar),
    Word(String),
    Text(String),
}

fn usizes(list: &[usize]) -> Attr {
    Attr::Dims(list.iter().map(|&x| Dim::constant(x as i64)).collect())
}

fn ints(list: &[i64]) -> Attr {
    Attr::Dims(list.iter().map(|&x| Dim::constant(x)).collect())
}

fn int(x: impl TryInto<i64>) -> Attr {
    Attr::Dim(Dim::constant(x.try_into().unwrap_or(i64::MAX)))
}

/// The attributes of `op` in printing order; leaf types and literals are printed elsewhere.
pub(super) fn list(op: &Op) -> Vec<(&'static str, Attr)> {
    match op {
        Op::Input { .. } | Op::Const { .. } | Op::Unary(_) | Op::Binary(_) | Op::Select => vec![],
        Op::Iota { axis, .. } | Op::Concat { axis } => vec![("axis", int(*axis as i64))],
        Op::SizeOf { size, .. } => vec![("size", Attr::Dim(size.clone()))],
        Op::Cast { to } => vec![("to", Attr::Word(to.name().into()))],
        Op::Reshape { shape } | Op::Broadcast { shape } => vec![("shape", Attr::Dims(shape.clone()))],
        Op::Transpose { perm } => vec![("perm", usizes(perm))],
        Op::Slice { starts, sizes, strides } => vec![
            ("starts", Attr::Dims(starts.clone())),
            ("sizes", Attr::Dims(sizes.clone())),
            ("strides", ints(strides)),
        ],
        Op::Pad { low, high, value } => {
            vec![("low", Attr::Dims(low.clone())), ("high", Attr::Dims(high.clone())), ("value", Attr::Number(*value))]
        }
        Op::Reverse { axes } => vec![("axes", usizes(axes))],
        Op::Window { axis, size, stride, dilation } => vec![
            ("axis", int(*axis as i64)),
            ("size", int(*size)),
            ("stride", int(*stride)),
            ("dilation", int(*dilation)),
        ],
        Op::Gather { axis, batch } => vec![("axis", int(*axis as i64)), ("batch", int(*batch as i64))],
        Op::Scatter { axis, batch, mode } => {
            let word = match mode {
                ScatterMode::Set => "set",
                ScatterMode::Add => "add",
            };
            vec![("axis", int(*axis as i64)), ("batch", int(*batch as i64)), ("mode", Attr::Word(word.into()))]
        }
        Op::Reduce { axes, keep, .. } => vec![("axes", usizes(axes)), ("keep", Attr::Bool(*keep))],
        Op::Contract { spec } => vec![("spec", Attr::Text(spec.to_string()))],
        Op::Fps { n } => vec![("n", Attr::Dim(n.clone()))],
        Op::Knn { k } => vec![("k", Attr::Dim(k.clone()))],
        Op::TopK { k, largest } => vec![("k", Attr::Dim(k.clone())), ("largest", Attr::Bool(*largest))],
        Op::Composite(c) => composite(c),
    }
}

fn composite(c: &Composite) -> Vec<(&'static str, Attr)> {
    match c {
        Composite::Relu | Composite::Sigmoid | Composite::Silu | Composite::StopGradient => vec![],
        Composite::Gelu { tanh } => vec![("tanh", Attr::Bool(*tanh))],
        Composite::Softmax { axis } | Composite::LogSoftmax { axis } => vec![("axis", int(*axis as i64))],
        Composite::Mean { axes, keep } => vec![("axes", usizes(axes)), ("keep", Attr::Bool(*keep))],
        Composite::Variance { axes, keep, ddof } => {
            vec![("axes", usizes(axes)), ("keep", Attr::Bool(*keep)), ("ddof", int(*ddof))]
        }
        Composite::RmsNorm { eps } | Composite::LayerNorm { eps } => vec![("eps", Attr::Number(*eps))],
        Composite::BatchNorm { axis, eps } => vec![("axis", int(*axis as i64)), ("eps", Attr::Number(*eps))],
        Composite::Attention { scale } | Composite::AttentionLse { scale } => {
            vec![("scale", Attr::Number(*scale))]
        }
        Composite::AttentionGrad { scale, by } => {
            vec![("scale", Attr::Number(*scale)), ("by", Attr::Word(by.name().into()))]
        }
        Composite::CrossEntropy { ignore } => vec![("ignore", int(*ignore))],
        Composite::LinearCrossEntropy { ignore, columns } => {
            vec![("ignore", int(*ignore)), ("columns", int(*columns))]
        }
        Composite::RandomBits { stream, shape } => {
            vec![("stream", int(*stream)), ("shape", Attr::Dims(shape.clone()))]
        }
    }
}

/// The `{key = value}` list of one line, taken apart key by key.
pub(super) struct AttrMap(pub(super) Vec<(String, Attr)>);

type Read<T> = Result<T, String>;

impl AttrMap {
    fn take(&mut self, key: &str) -> Option<Attr> {
        let at = self.0.iter().position(|(k, _)| k == key)?;
        Some(self.0.remove(at).1)
    }

    fn need(&mut self, key: &str) -> Read<Attr> {
        self.take(key).ok_or_else(|| format!("attribute `{key}` is missing"))
    }

    fn dims(&mut self, key: &str) -> Read<Vec<Dim>> {
        match self.need(key)? {
            Attr::Dims(d) => Ok(d),
            other => Err(format!("`{key}` should be a list like [1, 2], got {other:?}")),
        }
    }

    fn ints(&mut self, key: &str) -> Read<Vec<i64>> {
        let constant = |d: &Dim| d.as_const().ok_or_else(|| format!("`{key}` takes plain numbers"));
        self.dims(key)?.iter().map(constant).collect()
    }

    fn usizes(&mut self, key: &str) -> Read<Vec<usize>> {
        let axis = |x: i64| usize::try_from(x).map_err(|_| format!("`{key}` takes numbers from 0"));
        self.ints(key)?.into_iter().map(axis).collect()
    }

    fn dim(&mut self, key: &str) -> Read<Dim> {
        match self.need(key)? {
            Attr::Dim(d) => Ok(d),
            other => Err(format!("`{key}` should be a size, got {other:?}")),
        }
    }

    fn int(&mut self, key: &str, default: Option<i64>) -> Read<i64> {
        match (self.take(key), default) {
            (Some(Attr::Dim(d)), _) => d.as_const().ok_or_else(|| format!("`{key}` takes a plain number")),
            (Some(other), _) => Err(format!("`{key}` should be a whole number, got {other:?}")),
            (None, Some(x)) => Ok(x),
            (None, None) => Err(format!("attribute `{key}` is missing")),
        }
    }

    fn usize(&mut self, key: &str, default: Option<i64>) -> Read<usize> {
        usize::try_from(self.int(key, default)?).map_err(|_| format!("`{key}` takes a number from 0"))
    }

    fn flag(&mut self, key: &str, default: bool) -> Read<bool> {
        match self.take(key) {
            None => Ok(default),
            Some(Attr::Bool(b)) => Ok(b),
            Some(other) => Err(format!("`{key}` should be true or false, got {other:?}")),
        }
    }

    fn number(&mut self, key: &str, default: Option<f64>) -> Read<Scalar> {
        match (self.take(key), default) {
            (Some(Attr::Number(x)), _) => Ok(x),
            (Some(Attr::Dim(d)), _) => {
                let x = d.as_const().ok_or_else(|| format!("`{key}` takes a plain number"))?;
                Ok(Scalar::I(x))
            }
            (Some(other), _) => Err(format!("`{key}` should be a number, got {other:?}")),
            (None, Some(x)) => Ok(Scalar::F(x)),
            (None, None) => Err(format!("attribute `{key}` is missing")),
        }
    }

    fn float(&mut self, key: &str, default: Option<f64>) -> Read<Scalar> {
        Ok(Scalar::F(self.number(key, default)?.as_f64()))
    }

    fn word(&mut self, key: &str) -> Read<String> {
        match self.need(key)? {
            Attr::Word(w) | Attr::Text(w) => Ok(w),
            other => Err(format!("`{key}` should be a word, got {other:?}")),
        }
    }
}

fn dtype(word: &str) -> Read<DType> {
    DType::parse(word).ok_or_else(|| format!("`{word}` is no dtype"))
}

/// The op called `name` with these attributes; `ty` is the stated result type, which leaves need.
pub(super) fn read(name: &str, map: &mut AttrMap, ty: Option<&TensorType>) -> Result<Op, String> {
    let stated = || ty.cloned().ok_or_else(|| format!("`{name}` needs its type, as in `: f32[4, 8]`"));
    if let Some(op) = UnaryOp::parse(name) {
        return Ok(Op::Unary(op));
    }
    if let Some(op) = BinaryOp::parse(name) {
        return Ok(Op::Binary(op));
    }
    if let Some(op) = name.strip_prefix("reduce_").and_then(ReduceOp::parse) {
        return Ok(Op::Reduce { op, axes: map.usizes("axes")?, keep: map.flag("keep", false)? });
    }
    Ok(match name {
        "input" | "weight" | "state" => {
            let kind = match name {
                "input" => InputKind::Data,
                "weight" => InputKind::Weight,
                _ => InputKind::State,
            };
            Op::Input { name: map.word("name")?, kind, ty: stated()? }
        }
        "iota" => Op::Iota { axis: map.usize("axis", None)?, ty: stated()? },
        "size_of" => Op::SizeOf { size: map.dim("size")?, dtype: stated()?.dtype },
        "select" => Op::Select,
        "cast" => Op::Cast { to: dtype(&map.word("to")?)? },
        "reshape" => Op::Reshape { shape: map.dims("shape")? },
        "transpose" => Op::Transpose { perm: map.usizes("perm")? },
        "broadcast" => Op::Broadcast { shape: map.dims("shape")? },
        "slice" => {
            let (starts, sizes) = (map.dims("starts")?, map.dims("sizes")?);
            let strides =
                if map.0.iter().any(|(k, _)| k == "strides") { map.ints("strides")? } else { vec![1; sizes.len()] };
            Op::Slice { starts, sizes, strides }
        }
        "concat" => Op::Concat { axis: map.usize("axis", None)? },
        "pad" => {
            let value = map.number("value", None)?;
            // `value = 0` on a float tensor means 0.0: the stated type, if any, decides.
            let float = ty.is_none_or(|t| t.dtype.is_float());
            let value = if float { Scalar::F(value.as_f64()) } else { value };
            Op::Pad { low: map.dims("low")?, high: map.dims("high")?, value }
        }
        "reverse" => Op::Reverse { axes: map.usizes("axes")? },
        "window" => Op::Window {
            axis: map.usize("axis", None)?,
            size: map.int("size", None)?,
            stride: map.int("stride", Some(1))?,
            dilation: map.int("dilation", Some(1))?,
        },
        "gather" => Op::Gather { axis: map.usize("axis", Some(0))?, batch: map.usize("batch", Some(0))? },
        "scatter" => {
            let mode = match map.word("mode")?.as_str() {
                "set" => ScatterMode::Set,
                "add" => ScatterMode::Add,
                other => return Err(format!("mode is `set` or `add`, got `{other}`")),
            };
            Op::Scatter { axis: map.usize("axis", Some(0))?, batch: map.usize("batch", Some(0))?, mode }
        }
        "contract" => Op::Contract { spec: ContractSpec::parse(&map.word("spec")?)? },
        "fps" => Op::Fps { n: map.dim("n")? },
        "knn" => Op::Knn { k: map.dim("k")? },
        "topk" => Op::TopK { k: map.dim("k")?, largest: map.flag("largest", true)? },
        other => Op::Composite(read_composite(other, map)?),
    })
}

fn read_composite(name: &str, map: &mut AttrMap) -> Result<Composite, String> {
    Ok(match name {
        "relu" => Composite::Relu,
        "sigmoid" => Composite::Sigmoid,
        "silu" => Composite::Silu,
        "gelu" => Composite::Gelu { tanh: map.flag("tanh", false)? },
        "softmax" => Composite::Softmax { axis: map.usize("axis", None)? },
        "log_softmax" => Composite::LogSoftmax { axis: map.usize("axis", None)? },
        "mean" => Composite::Mean { axes: map.usizes("axes")?, keep: map.flag("keep", false)? },
        "variance" => Composite::Variance {
            axes: map.usizes("axes")?,
            keep: map.flag("keep", false)?,
            ddof: map.int("ddof", Some(0))?,
        },
        "rms_norm" => Composite::RmsNorm { eps: map.float("eps", Some(1e-6))? },
        "layer_norm" => Composite::LayerNorm { eps: map.float("eps", Some(1e-5))? },
        "batch_norm" => Composite::BatchNorm { axis: map.usize("axis", None)?, eps: map.float("eps", Some(1e-5))? },
        "attention" => Composite::Attention { scale: map.float("scale", None)? },
        "attention_lse" => Composite::AttentionLse { scale: map.float("scale", None)? },
        "attention_grad" => {
            let scale = map.float("scale", None)?;
            let word = map.word("by")?;
            let by = AttentionOperand::ALL.into_iter().find(|by| by.name() == word);
            Composite::AttentionGrad { scale, by: by.ok_or_else(|| format!("by is `q`, `k` or `v`, got `{word}`"))? }
        }
        "random_bits" => Composite::RandomBits { stream: map.int("stream", Some(0))?, shape: map.dims("shape")? },
        "stop_gradient" => Composite::StopGradient,
        "cross_entropy" => Composite::CrossEntropy { ignore: map.int("ignore", Some(-100))? },
        "linear_cross_entropy" => Composite::LinearCrossEntropy {
            ignore: map.int("ignore", Some(-100))?,
            columns: map.int("columns", Some(4096))?,
        },
        other => return Err(format!("`{other}` is no op; `ir/ops.md` lists them")),
    })
}
