//! Random pointwise ops: each on operands whose facts make the result well conditioned.

use super::draw::Draw;
use super::fact::{Fact, extremes};
use enel_ir::{NodeId, Op, infer};
use enel_types::{BinaryOp, DType, UnaryOp};

impl Draw<'_> {
    /// A unary op on a float or an integer.
    pub(crate) fn unary(&mut self) -> Option<NodeId> {
        let x = self.any()?;
        let op = self.rng.pick(UnaryOp::ALL);
        if self.dtype(x).is_float() { self.unary_float(op, x) } else { self.unary_int(op, x) }
    }

    fn unary_float(&mut self, op: UnaryOp, x: NodeId) -> Option<NodeId> {
        let f = self.fact(x);
        let (x, fact) = match op {
            UnaryOp::Neg => (x, f.negated()),
            UnaryOp::Abs if f.is_exact() || self.config.kinks => {
                let lo = if f.lo > 0.0 || f.hi < 0.0 { f.lo.abs().min(f.hi.abs()) } else { 0.0 };
                (x, Fact { lo, hi: f.mag(), ..f })
            }
            UnaryOp::Sign if f.is_exact() => (x, Fact::exact(-1.0, 1.0, 0)),
            UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round if f.is_exact() => {
                (x, Fact::exact(f.lo.floor(), f.hi.ceil(), 0))
            }
            UnaryOp::Sqrt => {
                let x = self.positive(x)?;
                let f = self.fact(x);
                (x, monotone(f, f64::sqrt, 0.5 / f.lo.sqrt()))
            }
            UnaryOp::Rsqrt => {
                let x = self.positive(x)?;
                let f = self.fact(x);
                (x, monotone(f, |v| 1.0 / v.sqrt(), 0.5 * f.lo.powf(-1.5)))
            }
            UnaryOp::Recip => {
                let x = self.positive(x)?;
                (x, inverse(self.fact(x)))
            }
            UnaryOp::Log => {
                let x = self.positive(x)?;
                let f = self.fact(x);
                (x, monotone(f, f64::ln, 1.0 / f.lo))
            }
            UnaryOp::Exp => {
                let x = self.tame(x, 2.0)?;
                let f = self.fact(x);
                (x, Fact::smooth(f.lo.exp(), f.hi.exp(), f.hi.exp() * f.err))
            }
            UnaryOp::Sin | UnaryOp::Cos => {
                let x = self.tame(x, 8.0)?;
                (x, Fact::smooth(-1.0, 1.0, self.fact(x).err))
            }
            UnaryOp::Tanh => (x, Fact::smooth(-1.0, 1.0, f.err)),
            // The slope of erf is at most 2 / sqrt(pi).
            UnaryOp::Erf => (x, Fact::smooth(-1.0, 1.0, 1.13 * f.err)),
            UnaryOp::Abs | UnaryOp::Sign | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Not => {
                return None;
            }
        };
        self.emit(Op::Unary(op), &[x], fact)
    }

    fn unary_int(&mut self, op: UnaryOp, x: NodeId) -> Option<NodeId> {
        let f = self.fact(x);
        let fact = match op {
            UnaryOp::Neg => f.negated(),
            UnaryOp::Abs => Fact::exact(0.0, f.mag(), 0).or(f),
            UnaryOp::Sign => Fact::exact(-1.0, 1.0, 0),
            UnaryOp::Not => Fact::full(self.dtype(x)),
            UnaryOp::Floor
            | UnaryOp::Ceil
            | UnaryOp::Round
            | UnaryOp::Sqrt
            | UnaryOp::Rsqrt
            | UnaryOp::Recip
            | UnaryOp::Exp
            | UnaryOp::Log
            | UnaryOp::Sin
            | UnaryOp::Cos
            | UnaryOp::Tanh
            | UnaryOp::Erf => return None,
        };
        self.emit(Op::Unary(op), &[x], fact)
    }

    /// A binary op on two nodes that broadcast, or on a node and a constant.
    pub(crate) fn binary(&mut self) -> Option<NodeId> {
        let x = self.any()?;
        let op = self.rng.pick(BinaryOp::ALL);
        let same = self.dtype(x);
        let partner = |d: &Draw<'_>, id: NodeId| {
            let joins = d.dtype(id) == same || (d.dtype(id).is_float() && same.is_float());
            joins && infer(&Op::Binary(BinaryOp::Eq), &[d.graph.ty(x), d.graph.ty(id)], &d.graph.symbols).is_ok()
        };
        let y = match self.rng.below(4) {
            0 if same != DType::Bool => {
                let value = self.rng.between(0, 4) as f64;
                self.scalar(value, same)?
            }
            _ => self.choose(partner)?,
        };
        let (x, y) = if self.rng.one_in(2) { (x, y) } else { (y, x) };
        if same.is_float() { self.binary_float(op, x, y) } else { self.binary_int(op, x, y) }
    }

    pub(crate) fn binary_float(&mut self, op: BinaryOp, x: NodeId, y: NodeId) -> Option<NodeId> {
        let (f, g) = (self.fact(x), self.fact(y));
        let both_exact = f.is_exact() && g.is_exact();
        let (x, y, fact) = match op {
            BinaryOp::Add => (x, y, f.plus(g)),
            BinaryOp::Sub => (x, y, f.plus(g.negated())),
            BinaryOp::Mul => {
                let (x, y) = (self.tame(x, 64.0)?, self.tame(y, 64.0)?);
                let fact = self.fact(x).times(self.fact(y));
                (x, y, if x == y { Fact { lo: 0.0, ..fact } } else { fact })
            }
            BinaryOp::Div => {
                let y = self.positive(y)?;
                (x, y, Fact { grid: None, ..f.times(inverse(self.fact(y))) })
            }
            BinaryOp::Rem if both_exact => {
                let y = self.positive(y)?;
                let exact = self.fact(y).grid.zip(f.grid)?;
                (x, y, Fact::exact(f.lo.min(0.0), f.hi.max(0.0), exact.0.max(exact.1)))
            }
            BinaryOp::Pow => {
                let (x, y) = (self.positive(x)?, self.tame(y, 2.0)?);
                (x, y, power(self.fact(x), self.fact(y)))
            }
            BinaryOp::Max if both_exact || self.config.kinks => {
                (x, y, Fact { lo: f.lo.max(g.lo), hi: f.hi.max(g.hi), ..f.or(g) })
            }
            BinaryOp::Min if both_exact || self.config.kinks => {
                (x, y, Fact { lo: f.lo.min(g.lo), hi: f.hi.min(g.hi), ..f.or(g) })
            }
            BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge
                if both_exact && self.config.ints =>
            {
                (x, y, Fact::full(DType::Bool))
            }
            BinaryOp::Rem | BinaryOp::Max | BinaryOp::Min | BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => {
                return None;
            }
            BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => return None,
        };
        self.emit(Op::Binary(op), &[x, y], fact)
    }

    fn binary_int(&mut self, op: BinaryOp, x: NodeId, y: NodeId) -> Option<NodeId> {
        let (f, g) = (self.fact(x), self.fact(y));
        let fact = match op {
            BinaryOp::Add => f.plus(g),
            BinaryOp::Sub => f.plus(g.negated()),
            BinaryOp::Mul => f.times(g),
            // The quotient of the least number and -1 leaves the dtype: it wraps.
            BinaryOp::Div | BinaryOp::Rem => Fact::exact(f.lo.min(-f.hi), f.hi.max(-f.lo), 0),
            BinaryOp::Max | BinaryOp::Min => f.or(g),
            BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => Fact::full(self.dtype(x)),
            BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => {
                Fact::full(DType::Bool)
            }
            BinaryOp::Pow => return None,
        };
        self.emit(Op::Binary(op), &[x, y], fact)
    }

    /// A select, or a change of dtype.
    pub(crate) fn select_or_cast(&mut self) -> Option<NodeId> {
        let x = self.any()?;
        if self.config.ints && self.rng.one_in(2) {
            let condition = self.choose(|d, id| {
                let types = [d.graph.ty(id), d.graph.ty(x), d.graph.ty(x)];
                infer(&Op::Select, &types, &d.graph.symbols).is_ok()
            })?;
            let y = self.choose(|d, id| {
                let types = [d.graph.ty(condition), d.graph.ty(x), d.graph.ty(id)];
                infer(&Op::Select, &types, &d.graph.symbols).is_ok()
            })?;
            let fact = self.fact(x).or(self.fact(y));
            return self.emit(Op::Select, &[condition, x, y], fact);
        }
        let ints = [DType::I32, DType::I64, DType::U32, DType::U8, DType::Bool];
        let to = if self.config.ints && self.rng.one_in(2) { self.rng.pick(&ints) } else { self.float_dtype() };
        let f = self.fact(x);
        match (self.dtype(x).is_float(), to.is_float()) {
            (true, false) if !f.is_exact() => None,
            // Saturates: the range is cut to the dtype.
            (true, false) => {
                let full = Fact::full(to);
                let fact = Fact::exact(f.lo.floor().clamp(full.lo, full.hi), f.hi.ceil().clamp(full.lo, full.hi), 0);
                let fact = if to == DType::Bool { full } else { fact };
                self.emit(Op::Cast { to }, &[x], fact)
            }
            (true, true) | (false, true) | (false, false) => self.emit(Op::Cast { to }, &[x], f),
        }
    }
}

/// Fact of a monotone function whose slope on the range is at most `slope`.
fn monotone(f: Fact, at: fn(f64) -> f64, slope: f64) -> Fact {
    let (a, b) = (at(f.lo), at(f.hi));
    Fact::smooth(a.min(b), a.max(b), slope * f.err)
}

fn inverse(f: Fact) -> Fact {
    monotone(f, f64::recip, 1.0 / (f.lo * f.lo))
}

/// Fact of `x^y` for x above 0: monotone in each, so its extremes are at corners.
fn power(f: Fact, g: Fact) -> Fact {
    let (lo, hi) = extremes([f.lo.powf(g.lo), f.lo.powf(g.hi), f.hi.powf(g.lo), f.hi.powf(g.hi)]);
    let slope_x = hi * g.mag() / f.lo;
    let slope_y = hi * f.lo.ln().abs().max(f.hi.ln().abs());
    Fact::smooth(lo, hi, slope_x * f.err + slope_y * g.err + hi)
}
