//! How do programs, kernels and plans read as text? One stable spelling, for inspection and for goldens.
//!
//! Law: output only, never parsed. Every field is destructured, so a new one cannot be forgotten.

use crate::desc::{
    Acc, AccOp, Access, AttentionBody, AttentionGradBody, Body, BufferRole, ContractBody, Desc, Dynamic, Extent, Fold,
    FpsBody, KnnBody, MapBody, ReduceBody, ScatterBody, ScatterMode, Store, TopKBody, Value,
};
use crate::plan::{Buffer, BufferKind, Call, Config, Grid, Kernel, Launch, Part, Plan, Port, Step};
use crate::program::{Instr, Program, Reg};
use enel_types::{Dim, Symbols};
use std::fmt::{self, Display, Formatter, Result};

impl Display for Reg {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "%{}", self.0)
    }
}

impl Display for Instr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Instr::Axis(n) => write!(f, "axis {n}"),
            Instr::Float(bits) => write!(f, "float {:?}", f32::from_bits(*bits)),
            Instr::Int(n) => write!(f, "int {n}"),
            Instr::Bool(b) => write!(f, "bool {b}"),
            Instr::Size(n) => write!(f, "size n{n}"),
            Instr::Load { buffer, index } => write!(f, "load b{buffer}[{index}]"),
            Instr::Acc(n) => write!(f, "acc {n}"),
            Instr::Unary(op, x) => write!(f, "{} {x}", op.name()),
            Instr::Binary(op, x, y) => write!(f, "{} {x}, {y}", op.name()),
            Instr::Select(c, x, y) => write!(f, "select {c}, {x}, {y}"),
            Instr::Cast(to, x) => write!(f, "cast {to} {x}"),
        }
    }
}

/// One instruction a line, `%0 = axis 0`.
impl Display for Program {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.instrs().iter().enumerate().try_for_each(|(at, instr)| writeln!(f, "%{at} = {instr}"))
    }
}

impl Display for Extent {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Extent::Const(n) => write!(f, "{n}"),
            Extent::Dyn(n) => write!(f, "n{n}"),
        }
    }
}

impl Display for Access {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::Update => "update",
        })
    }
}

impl Display for AccOp {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            AccOp::Sum => "sum",
            AccOp::Prod => "prod",
            AccOp::Max => "max",
            AccOp::Min => "min",
            AccOp::ArgMax => "argmax",
            AccOp::ArgMin => "argmin",
            AccOp::Deviations => "deviations",
        })
    }
}

impl Display for Desc {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Desc { buffers, dynamics, body } = self;
        writeln!(f, "{}", body.family())?;
        for (n, BufferRole { dtype, access }) in buffers.iter().enumerate() {
            writeln!(f, "  b{n}: {access} {dtype}")?;
        }
        for (n, Dynamic { max, multiple }) in dynamics.iter().enumerate() {
            writeln!(f, "  n{n}: up to {max} in steps of {multiple}")?;
        }
        match body {
            Body::Map(b) => b.fmt(f),
            Body::Reduce(b) => b.fmt(f),
            Body::Contract(b) => b.fmt(f),
            Body::Attention(b) => b.fmt(f),
            Body::AttentionGrad(b) => b.fmt(f),
            Body::Fps(b) => b.fmt(f),
            Body::Knn(b) => b.fmt(f),
            Body::TopK(b) => b.fmt(f),
            Body::Scatter(b) => b.fmt(f),
        }
    }
}

fn space(f: &mut Formatter<'_>, name: &str, extents: &[Extent]) -> Result {
    writeln!(f, "  {name} {}", list(extents))
}

fn list<T: Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(T::to_string).collect();
    format!("[{}]", items.join(", "))
}

fn program(f: &mut Formatter<'_>, name: &str, program: &Program) -> Result {
    writeln!(f, "  {name}:")?;
    program.to_string().lines().try_for_each(|line| writeln!(f, "    {line}"))
}

fn value(f: &mut Formatter<'_>, name: &str, Value { program: code, reg }: &Value) -> Result {
    program(f, name, code)?;
    writeln!(f, "    give {reg}")
}

fn stores(f: &mut Formatter<'_>, stores: &[Store]) -> Result {
    let line = |Store { buffer, index, value }: &Store| writeln!(f, "    b{buffer}[{index}] = {value}");
    stores.iter().try_for_each(line)
}

impl Display for MapBody {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let MapBody { space: extents, program: code, stores: writes } = self;
        space(f, "space", extents)?;
        program(f, "program", code)?;
        stores(f, writes)
    }
}

impl Display for ReduceBody {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let ReduceBody { outer, inner, element, accs, epilogue, stores: writes } = self;
        space(f, "outer", outer)?;
        space(f, "inner", inner)?;
        program(f, "element", element)?;
        for (n, Acc { op, value }) in accs.iter().enumerate() {
            writeln!(f, "    acc {n} = {op} {value}")?;
        }
        program(f, "epilogue", epilogue)?;
        stores(f, writes)
    }
}

impl Display for ContractBody {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let ContractBody { batch, rows, cols, summed, lhs, rhs, bf16, epilogue, fold, stores: writes } = self;
        for (name, extents) in [("batch", batch), ("rows", rows), ("cols", cols), ("summed", summed)] {
            space(f, name, extents)?;
        }
        writeln!(f, "  products {}", if *bf16 { "bf16" } else { "f32" })?;
        value(f, "lhs", lhs)?;
        value(f, "rhs", rhs)?;
        program(f, "epilogue", epilogue)?;
        if let Some(Fold { op, axes, value, epilogue }) = fold {
            writeln!(f, "  fold {op} {value} over the last {axes} of rows")?;
            program(f, "fold epilogue", epilogue)?;
        }
        stores(f, writes)
    }
}

impl Display for AttentionBody {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let AttentionBody {
            tokens,
            keys,
            heads,
            groups,
            head_size,
            scale,
            q,
            k,
            v,
            low,
            high,
            bf16,
            epilogue,
            stores: s,
        } = self;
        writeln!(f, "  tokens {tokens}, keys {keys}, heads {heads}, groups {groups}, head size {head_size}")?;
        let products = if *bf16 { "bf16" } else { "f32" };
        writeln!(f, "  scale {:?}, products {products}", f32::from_bits(*scale))?;
        let values = v.iter().map(|v| ("v", v));
        for (name, part) in [("q", q), ("k", k)].into_iter().chain(values).chain([("low", low), ("high", high)]) {
            value(f, name, part)?;
        }
        program(f, "epilogue", epilogue)?;
        stores(f, s)
    }
}

impl Display for AttentionGradBody {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let AttentionGradBody { tokens, keys, heads, groups, head_size, scale, by, q, k, v, dy, .. } = self;
        let AttentionGradBody { low, high, lse, delta, bf16, epilogue, stores: s, .. } = self;
        writeln!(f, "  tokens {tokens}, keys {keys}, heads {heads}, groups {groups}, head size {head_size}")?;
        let products = if *bf16 { "bf16" } else { "f32" };
        writeln!(f, "  scale {:?}, products {products}, by {}", f32::from_bits(*scale), by.name())?;
        let parts = [("q", q), ("k", k), ("v", v), ("dy", dy), ("low", low), ("high", high)];
        for (name, part) in parts.into_iter().chain([("lse", lse), ("delta", delta)]) {
            value(f, name, part)?;
        }
        program(f, "epilogue", epilogue)?;
        stores(f, s)
    }
}

impl Display for FpsBody {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let FpsBody { batch, points, n, xyz, out } = self;
        writeln!(f, "  batch {batch}, points {points}, chosen {n}, out b{out}")?;
        value(f, "xyz", xyz)
    }
}

impl Display for KnnBody {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let KnnBody { batch, queries, points, k, query, point, out } = self;
        writeln!(f, "  batch {batch}, queries {queries}, points {points}, k {k}, out b{out}")?;
        value(f, "query", query)?;
        value(f, "point", point)
    }
}

impl Display for TopKBody {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let TopKBody { outer, n, k, largest, value: element, out } = self;
        space(f, "outer", outer)?;
        let order = if *largest { "largest" } else { "smallest" };
        writeln!(f, "  the {k} {order} of {n}, out b{out}")?;
        value(f, "value", element)
    }
}

impl Display for ScatterBody {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let ScatterBody { mode, prefix, batch, extent, index_space, suffix, index, rows, out } = self;
        space(f, "prefix", prefix)?;
        space(f, "index space", index_space)?;
        space(f, "suffix", suffix)?;
        let verb = match mode {
            ScatterMode::Set => "set",
            ScatterMode::Add => "add",
        };
        writeln!(f, "  {verb} in b{out} along {extent}, index over the first {batch} of prefix")?;
        value(f, "index", index)?;
        value(f, "rows", rows)
    }
}

impl Display for Config {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let items: Vec<String> = self.0.iter().map(|(name, n)| format!("{name}={n}")).collect();
        f.write_str(&items.join(" "))
    }
}

/// `ceil(n0*64 / 128) * 4`, or `1`.
impl Display for Grid {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let factor = |(extents, tile): &(Vec<Extent>, i64)| {
            let names: Vec<String> = extents.iter().map(Extent::to_string).collect();
            let size = if names.is_empty() { "1".to_owned() } else { names.join("*") };
            if *tile == 1 { size } else { format!("ceil({size} / {tile})") }
        };
        let factors: Vec<String> = self.0.iter().map(factor).collect();
        f.write_str(if factors.is_empty() { "1" } else { "" })?;
        f.write_str(&factors.join(" * "))
    }
}

impl Display for Launch {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Launch { entry, grids, threads, smem_bytes, scratch_bytes } = self;
        let blocks: Vec<String> = grids.iter().map(Grid::to_string).collect();
        write!(f, "{entry}: {} blocks, {threads} threads, {smem_bytes} B dynamic smem", blocks.join(" + "))?;
        if *scratch_bytes > 0 { write!(f, ", {scratch_bytes} B scratch") } else { Ok(()) }
    }
}

impl Display for Kernel {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Kernel { name, parts, launch } = self;
        for (n, Part { desc, config }) in parts.iter().enumerate() {
            let part = if parts.len() > 1 { format!(" part {n}") } else { String::new() };
            write!(f, "kernel {name}{part}: {desc}")?;
            if !config.0.is_empty() {
                writeln!(f, "  config {config}")?;
            }
        }
        launch.iter().try_for_each(|launch| writeln!(f, "  launch {launch}"))
    }
}

struct Sizes<'a>(&'a [Dim], &'a Symbols);

impl Display for Sizes<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let dims: Vec<String> = self.0.iter().map(|d| d.display(self.1).to_string()).collect();
        f.write_str(&dims.join(", "))
    }
}

impl Display for BufferKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            BufferKind::Input(name) => write!(f, "input {name:?}"),
            BufferKind::Weight(name) => write!(f, "weight {name:?}"),
            BufferKind::Joined(pieces) => {
                let names: Vec<String> = pieces.iter().map(|p| format!("{:?} ({})", p.weight, p.rows)).collect();
                write!(f, "weights {}", names.join(" + "))
            }
            BufferKind::Bound => f.write_str("bound"),
            BufferKind::State(name) => write!(f, "state {name:?}"),
            BufferKind::Output(name) => write!(f, "output {name:?}"),
            BufferKind::Temp => f.write_str("temp"),
        }
    }
}

/// Kernels print as `k3`: their position among the bundle's kernels.
impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Plan { name, symbols, buffers, bind, steps, outputs } = self;
        writeln!(f, "plan {name}")?;
        for s in symbols.iter() {
            writeln!(f, "  symbol {}: {}..={} in steps of {}", s.name, s.min, s.max, s.multiple)?;
        }
        for (n, Buffer { kind, dtype, shape }) in buffers.iter().enumerate() {
            writeln!(f, "  b{n}: {kind} {dtype}[{}]", Sizes(shape, symbols))?;
        }
        for (title, list) in [("bind", bind), ("steps", steps)] {
            if list.is_empty() {
                continue;
            }
            writeln!(f, "  {title}:")?;
            for (n, step) in list.iter().enumerate() {
                writeln!(f, "    {n}: {}", Stepped(step, symbols))?;
            }
        }
        let line = |Port { name, buffer }: &Port| writeln!(f, "  give {name:?} = b{buffer}");
        outputs.iter().try_for_each(line)
    }
}

struct Stepped<'a>(&'a Step, &'a Symbols);

impl Display for Stepped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.0 {
            Step::Call(Call { kernel, buffers, dynamics }) => {
                let buffers: Vec<String> = buffers.iter().map(|b| format!("b{b}")).collect();
                write!(f, "k{kernel}({})", buffers.join(", "))?;
                if dynamics.is_empty() { Ok(()) } else { write!(f, " sizes ({})", Sizes(dynamics, self.1)) }
            }
            Step::Copy { from, to } => write!(f, "copy b{from} to b{to}"),
        }
    }
}
