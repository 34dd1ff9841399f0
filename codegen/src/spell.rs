//! How is a scalar program written in CUDA C++? One `const` per register, in program order.
//!
//! Law: the meanings are those of `enel_types::scalar` and `enel_bundle::Instr`: accurate functions, NaN-propagating
//! extremes, wrapping integers, x / 0 = 0. An integer register is `int` where its range proves that enough, else
//! `long long`. The helper functions called here are in `templates/scalar.cuh`.

use crate::error::EmitError;
use crate::quad::{Form, WIDTH, follows, form};
use crate::range::Range;
use enel_bundle::{BufferRole, Dynamic, Instr, Kind, Program, Reg};
use enel_types::{BinaryOp, DType, UnaryOp};
use std::fmt::Write as _;

/// What the registers of a program may refer to.
pub(crate) struct Scope<'a> {
    /// Name of the program, for errors.
    pub(crate) function: &'a str,
    /// Buffers of the Desc.
    pub(crate) buffers: &'a [BufferRole],
    /// Dynamic sizes of the Desc.
    pub(crate) dynamics: &'a [Dynamic],
    /// C++ name and range of each axis.
    pub(crate) axes: Vec<(String, Range)>,
    /// Kinds of the accumulators, whose C++ names are `acc0`, `acc1`, ...
    pub(crate) accs: &'a [Kind],
}

/// A spelled program.
pub(crate) struct Spelled {
    /// The statements, a line each.
    pub(crate) text: String,
    kinds: Vec<Kind>,
    ranges: Vec<Range>,
    forms: Vec<Form>,
    /// Place of a quad that is being spelled.
    place: usize,
}

/// C++ type of a buffer's elements; 16-bit floats travel as their bits.
pub(crate) const fn element_type(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "float",
        DType::BF16 | DType::F16 => "unsigned short",
        DType::I64 => "long long",
        DType::I32 => "int",
        DType::U32 => "unsigned int",
        DType::U8 | DType::Bool => "unsigned char",
    }
}

/// C++ type of a register that leaves a function.
pub(crate) const fn register_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Float => "float",
        Kind::Int => "long long",
        Kind::Bool => "bool",
    }
}

/// A literal of the float with these bits.
pub(crate) fn float_literal(bits: u32) -> String {
    format!("__int_as_float(0x{bits:08x})")
}

impl Spelled {
    /// Kind of a register, checked against its use.
    pub(crate) fn expect(&self, function: &str, reg: Reg, expected: Kind) -> Result<String, EmitError> {
        let got = self.kind(function, reg)?;
        if got == expected {
            Ok(name(reg))
        } else {
            Err(EmitError::Kind { function: function.to_owned(), reg: reg.0, expected, got })
        }
    }

    /// Kind of a register.
    pub(crate) fn kind(&self, function: &str, reg: Reg) -> Result<Kind, EmitError> {
        let count = self.kinds.len();
        self.kinds.get(reg.0 as usize).copied().ok_or_else(|| EmitError::Reference {
            function: function.to_owned(),
            what: "register",
            index: reg.0 as usize,
            count,
        })
    }

    /// Range of an existing integer register.
    pub(crate) fn range(&self, reg: Reg) -> Range {
        self.ranges[reg.0 as usize]
    }

    /// How an existing register differs between the places of a quad.
    pub(crate) fn form(&self, reg: Reg) -> Form {
        self.forms[reg.0 as usize]
    }

    /// C++ name of a register at a place of a quad.
    pub(crate) fn name_at(&self, reg: Reg, place: usize) -> String {
        match self.form(reg) {
            Form::Same => name(reg),
            Form::Run | Form::Pairs | Form::Clamped | Form::Each => format!("{}_{place}", name(reg)),
        }
    }

    fn name(&self, reg: Reg) -> String {
        self.name_at(reg, self.place)
    }
}

/// C++ name of a register.
pub(crate) fn name(reg: Reg) -> String {
    format!("r{}", reg.0)
}

/// The expression that rounds register `value` to `dtype`.
pub(crate) fn rounded(dtype: DType, value: &str) -> String {
    match dtype {
        DType::F32 | DType::I64 => value.to_owned(),
        DType::BF16 => format!("to_bf16({value})"),
        DType::F16 => format!("to_f16({value})"),
        DType::I32 => format!("(int)({value})"),
        DType::U32 => format!("(unsigned int)({value})"),
        DType::U8 | DType::Bool => format!("(unsigned char)({value})"),
    }
}

/// Spells those instructions of `program` that `wanted` depends on.
pub(crate) fn spell(program: &Program, wanted: &[Reg], scope: &Scope<'_>) -> Result<Spelled, EmitError> {
    spell_places(program, wanted, scope, None)
}

/// The same for the four places from a multiple of four along `axis`, where axes have whole quads. What all four share
/// is spelled once, and a load of four neighbours is one vector load.
pub(crate) fn spell_quad(program: &Program, wanted: Reg, scope: &Scope<'_>, axis: u32) -> Result<Spelled, EmitError> {
    spell_places(program, &[wanted], scope, Some(axis))
}

fn spell_places(program: &Program, wanted: &[Reg], scope: &Scope<'_>, quad: Option<u32>) -> Result<Spelled, EmitError> {
    let dtypes: Vec<DType> = scope.buffers.iter().map(|b| b.dtype).collect();
    let bad = |at| EmitError::Program { function: scope.function.to_owned(), at };
    let kinds = program.kinds(&dtypes, scope.accs).map_err(bad)?;
    let mut out = Spelled { text: String::new(), kinds, ranges: Vec::new(), forms: Vec::new(), place: 0 };
    let mut live = vec![false; program.instrs().len()];
    for reg in wanted {
        out.kind(scope.function, *reg)?;
        live[reg.0 as usize] = true;
    }
    for at in (0..live.len()).rev() {
        if live[at] {
            program.instrs()[at].operands().for_each(|r| live[r.0 as usize] = true);
        }
    }
    for (at, instr) in program.instrs().iter().enumerate() {
        if !live[at] {
            out.ranges.push(Range::FULL);
            out.forms.push(Form::Same);
            continue;
        }
        let form = quad.map_or(Form::Same, |axis| form(program, Reg(at as u32), &out, (axis, scope.dynamics)));
        let neighbours = match *instr {
            Instr::Load { buffer, index } if form == Form::Each => neighbours(&out, (buffer, index), at, scope),
            _ => None,
        };
        if let Some(text) = neighbours {
            out.text.push_str(&text);
            out.ranges.push(Range::FULL);
            out.forms.push(form);
            continue;
        }
        let mut range = Range::FULL;
        for place in 0..if form == Form::Same { 1 } else { WIDTH } {
            out.place = place;
            let (expr, found) = expression(instr, &out, scope)?;
            let expr = follows(program, Reg(at as u32), &out, (form, place)).unwrap_or(expr);
            range = found;
            let ty = match out.kinds[at] {
                Kind::Float => "float",
                Kind::Bool => "bool",
                Kind::Int if range.fits_int() => "int",
                Kind::Int => "long long",
            };
            let suffix = if form == Form::Same { String::new() } else { format!("_{place}") };
            let _ = writeln!(out.text, "  const {ty} r{at}{suffix} = {expr};");
        }
        out.ranges.push(range);
        out.forms.push(form);
    }
    Ok(out)
}

/// Four neighbouring floats as one vector load, where the index says that they are.
fn neighbours(done: &Spelled, (buffer, index): (u32, Reg), at: usize, scope: &Scope<'_>) -> Option<String> {
    let load = match scope.buffers[buffer as usize].dtype {
        DType::F32 => "quad_of",
        DType::BF16 => "quad_of_bf16",
        DType::F16 => "quad_of_f16",
        DType::I64 | DType::I32 | DType::U32 | DType::U8 | DType::Bool => return None,
    };
    let (first, last) = (done.name_at(index, 0), done.name_at(index, WIDTH - 1));
    let quad = match done.form(index) {
        Form::Run => format!("{load}(a.b{buffer} + {first})"),
        Form::Clamped => format!("clamped_quad({load}(a.b{buffer} + ({first} & ~3)), {first} != {last}, {first} & 3)"),
        Form::Same | Form::Pairs | Form::Each => return None,
    };
    let mut text = format!("  const float4 q{at} = {quad};\n");
    for (place, part) in ["x", "y", "z", "w"].iter().enumerate() {
        let _ = writeln!(text, "  const float r{at}_{place} = q{at}.{part};");
    }
    Some(text)
}

fn expression(instr: &Instr, done: &Spelled, scope: &Scope<'_>) -> Result<(String, Range), EmitError> {
    let lost = |what, index: u32, count| EmitError::Reference {
        function: scope.function.to_owned(),
        what,
        index: index as usize,
        count,
    };
    let meaningless =
        |op: &'static str, kind: Kind| EmitError::Operation { function: scope.function.to_owned(), op, kind };
    let kind = |r: Reg| done.kinds[r.0 as usize];
    Ok(match *instr {
        Instr::Axis(n) => {
            let (name, range) = scope.axes.get(n as usize).ok_or_else(|| lost("axis", n, scope.axes.len()))?;
            (name.clone(), *range)
        }
        Instr::Float(bits) => (float_literal(bits), Range::FULL),
        Instr::Int(value) => (int_literal(value), Range::of(value)),
        Instr::Bool(value) => (value.to_string(), Range::BIT),
        Instr::Size(n) => {
            let size = scope.dynamics.get(n as usize).ok_or_else(|| lost("size", n, scope.dynamics.len()))?;
            let range = Range::up_to(size.max.max(0));
            (if range.fits_int() { format!("(int)a.s{n}") } else { format!("a.s{n}") }, range)
        }
        Instr::Load { buffer, index } => {
            let dtype = scope.buffers[buffer as usize].dtype;
            let element = format!("a.b{buffer}[{}]", done.name(index));
            (loaded(dtype, &element), Range::of_dtype(dtype))
        }
        Instr::Acc(n) => (format!("acc{n}"), Range::FULL),
        Instr::Unary(op, x) => match kind(x) {
            Kind::Float => {
                (float_unary(op, &done.name(x)).ok_or_else(|| meaningless(op.name(), Kind::Float))?, Range::FULL)
            }
            Kind::Int => {
                let from = done.range(x);
                let range = Range::unary(op, from).ok_or_else(|| meaningless(op.name(), Kind::Int))?;
                (int_unary(op, &done.name(x), from, range), range)
            }
            Kind::Bool if op == UnaryOp::Not => (format!("!{}", done.name(x)), Range::BIT),
            Kind::Bool => return Err(meaningless(op.name(), Kind::Bool)),
        },
        Instr::Binary(op, x, y) => match kind(x) {
            Kind::Float => (
                float_binary(op, &done.name(x), &done.name(y)).ok_or_else(|| meaningless(op.name(), Kind::Float))?,
                Range::FULL,
            ),
            Kind::Int => {
                let (a, b) = (done.range(x), done.range(y));
                let range = Range::binary(op, a, b).ok_or_else(|| meaningless(op.name(), Kind::Int))?;
                (int_binary(op, (&done.name(x), a), (&done.name(y), b), range), range)
            }
            Kind::Bool => {
                let text =
                    bool_binary(op, &done.name(x), &done.name(y)).ok_or_else(|| meaningless(op.name(), Kind::Bool))?;
                (text, Range::BIT)
            }
        },
        Instr::Select(c, x, y) => {
            let range = done.range(x).union(done.range(y));
            (format!("{} ? {} : {}", done.name(c), done.name(x), done.name(y)), range)
        }
        Instr::Cast(to, x) => cast(to, x, done),
    })
}

fn int_literal(value: i64) -> String {
    match value {
        i64::MIN => "(-9223372036854775807LL - 1)".to_owned(),
        v if Range::of(v).fits_int() && v > i64::from(i32::MIN) => v.to_string(),
        v => format!("{v}LL"),
    }
}

/// The register value of a stored element.
pub(crate) fn loaded(dtype: DType, element: &str) -> String {
    match dtype {
        DType::F32 | DType::I64 | DType::I32 | DType::U8 => element.to_owned(),
        DType::U32 => format!("(long long){element}"),
        DType::BF16 => format!("from_bf16({element})"),
        DType::F16 => format!("from_f16({element})"),
        DType::Bool => format!("({element} != 0)"),
    }
}

fn float_unary(op: UnaryOp, x: &str) -> Option<String> {
    Some(match op {
        UnaryOp::Neg => format!("-{x}"),
        UnaryOp::Abs => format!("fabsf({x})"),
        UnaryOp::Sign => format!("sign_of({x})"),
        UnaryOp::Floor => format!("floorf({x})"),
        UnaryOp::Ceil => format!("ceilf({x})"),
        UnaryOp::Round => format!("rintf({x})"),
        UnaryOp::Sqrt => format!("sqrtf({x})"),
        UnaryOp::Rsqrt => format!("rsqrtf({x})"),
        UnaryOp::Recip => format!("1.0f / {x}"),
        UnaryOp::Exp => format!("expf({x})"),
        UnaryOp::Log => format!("logf({x})"),
        UnaryOp::Sin => format!("sinf({x})"),
        UnaryOp::Cos => format!("cosf({x})"),
        UnaryOp::Tanh => format!("tanhf({x})"),
        UnaryOp::Erf => format!("erff({x})"),
        UnaryOp::Not => return None,
    })
}

fn float_binary(op: BinaryOp, x: &str, y: &str) -> Option<String> {
    Some(match op {
        BinaryOp::Add => format!("{x} + {y}"),
        BinaryOp::Sub => format!("{x} - {y}"),
        BinaryOp::Mul => format!("{x} * {y}"),
        BinaryOp::Div => format!("{x} / {y}"),
        BinaryOp::Rem => format!("fmodf({x}, {y})"),
        BinaryOp::Pow => format!("powf({x}, {y})"),
        BinaryOp::Max => format!("max_nan({x}, {y})"),
        BinaryOp::Min => format!("min_nan({x}, {y})"),
        BinaryOp::Eq => format!("{x} == {y}"),
        BinaryOp::Ne => format!("{x} != {y}"),
        BinaryOp::Lt => format!("{x} < {y}"),
        BinaryOp::Le => format!("{x} <= {y}"),
        BinaryOp::Gt => format!("{x} > {y}"),
        BinaryOp::Ge => format!("{x} >= {y}"),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => return None,
    })
}

fn bool_binary(op: BinaryOp, x: &str, y: &str) -> Option<String> {
    Some(match op {
        BinaryOp::And | BinaryOp::Min | BinaryOp::Mul => format!("{x} && {y}"),
        BinaryOp::Or | BinaryOp::Max => format!("{x} || {y}"),
        BinaryOp::Xor | BinaryOp::Ne => format!("{x} != {y}"),
        BinaryOp::Eq => format!("{x} == {y}"),
        BinaryOp::Lt => format!("!{x} && {y}"),
        BinaryOp::Le => format!("!{x} || {y}"),
        BinaryOp::Gt => format!("{x} && !{y}"),
        BinaryOp::Ge => format!("{x} || !{y}"),
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Div | BinaryOp::Rem | BinaryOp::Pow => return None,
    })
}

fn int_unary(op: UnaryOp, x: &str, from: Range, to: Range) -> String {
    let wide = !(from.fits_int() && to.fits_int());
    match op {
        UnaryOp::Neg if to == Range::FULL => format!("wrap_sub(0LL, {x})"),
        UnaryOp::Abs if from.natural() => x.to_owned(),
        UnaryOp::Abs if to == Range::FULL => format!("({x} < 0 ? wrap_sub(0LL, {x}) : {x})"),
        UnaryOp::Neg if wide => format!("-(long long){x}"),
        UnaryOp::Abs if wide => format!("({x} < 0 ? -(long long){x} : (long long){x})"),
        UnaryOp::Neg => format!("-{x}"),
        UnaryOp::Abs => format!("({x} < 0 ? -{x} : {x})"),
        UnaryOp::Sign => format!("(({x} > 0) - ({x} < 0))"),
        UnaryOp::Not => format!("~{x}"),
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
        | UnaryOp::Erf => unreachable!("Range::unary has refused {}", op.name()),
    }
}

fn int_binary(op: BinaryOp, (x, a): (&str, Range), (y, b): (&str, Range), to: Range) -> String {
    // Where operands and result fit int, nothing in between can leave it.
    let wide = !(a.fits_int() && b.fits_int() && to.fits_int());
    let infix = |sign: &str| match wide {
        true => format!("(long long){x} {sign} (long long){y}"),
        false => format!("{x} {sign} {y}"),
    };
    let wraps = to == Range::FULL;
    // Unsigned division is the cheaper one; both are the same on natural numbers.
    let quotient = |sign: &str| match (a.natural() && b.low > 0, wide) {
        (true, true) => format!("(long long)((unsigned long long){x} {sign} (unsigned long long){y})"),
        (true, false) => format!("(int)((unsigned int){x} {sign} (unsigned int){y})"),
        (false, _) if b.has(0) || b.has(-1) => {
            let helper = if sign == "/" { "safe_div" } else { "safe_rem" };
            if wide {
                format!("{helper}((long long){x}, (long long){y})")
            } else {
                format!("(int){helper}((long long){x}, (long long){y})")
            }
        }
        (false, _) => infix(sign),
    };
    match op {
        BinaryOp::Add if wraps => format!("wrap_add({x}, {y})"),
        BinaryOp::Sub if wraps => format!("wrap_sub({x}, {y})"),
        BinaryOp::Mul if wraps => format!("wrap_mul({x}, {y})"),
        BinaryOp::Add => infix("+"),
        BinaryOp::Sub => infix("-"),
        BinaryOp::Mul => infix("*"),
        BinaryOp::Div => quotient("/"),
        BinaryOp::Rem => quotient("%"),
        BinaryOp::Max => format!("({x} > {y} ? {x} : {y})"),
        BinaryOp::Min => format!("({x} < {y} ? {x} : {y})"),
        BinaryOp::And => infix("&"),
        BinaryOp::Or => infix("|"),
        BinaryOp::Xor => infix("^"),
        BinaryOp::Eq => format!("{x} == {y}"),
        BinaryOp::Ne => format!("{x} != {y}"),
        BinaryOp::Lt => format!("{x} < {y}"),
        BinaryOp::Le => format!("{x} <= {y}"),
        BinaryOp::Gt => format!("{x} > {y}"),
        BinaryOp::Ge => format!("{x} >= {y}"),
        BinaryOp::Pow => unreachable!("Range::binary has refused pow"),
    }
}

fn cast(to: DType, x: Reg, done: &Spelled) -> (String, Range) {
    let (r, from) = (done.name(x), done.range(x));
    match (done.kinds[x.0 as usize], Kind::of(to)) {
        (Kind::Float, Kind::Float) | (Kind::Bool, Kind::Bool) => (r, from),
        (Kind::Int, Kind::Float) => (format!("(float){r}"), Range::FULL),
        (Kind::Bool, Kind::Float) => (format!("({r} ? 1.0f : 0.0f)"), Range::FULL),
        (Kind::Float, Kind::Bool) => (format!("{r} != 0.0f"), Range::BIT),
        (Kind::Int, Kind::Bool) => (format!("{r} != 0"), Range::BIT),
        (Kind::Bool, Kind::Int) => (format!("({r} ? 1 : 0)"), Range::BIT),
        (Kind::Float, Kind::Int) => (format!("float_to_{}({r})", to.name()), Range::of_dtype(to)),
        (Kind::Int, Kind::Int) => {
            let range = from.cast(to);
            let text = if range == from {
                r
            } else {
                match to {
                    DType::I32 => format!("(int){r}"),
                    DType::U32 => format!("(long long)(unsigned int){r}"),
                    DType::U8 => format!("(int)({r} & 255)"),
                    DType::I64 | DType::Bool | DType::F32 | DType::BF16 | DType::F16 => r,
                }
            };
            (text, range)
        }
    }
}
