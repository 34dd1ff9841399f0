//! What do all parts of kernels share? The argument struct, one device function per program, and the filled template.
//!
//! Law: a part's text stands in a namespace of its own, so parts never meet; `kernels/launch` joins them. A program becomes one `__device__ __forceinline__` function of linear indices, one per group of axes, which it
//! splits into coordinates itself; templates never see an axis. Indices are `int` where every group's size allows it.

use crate::affine::extent_divisor;
use crate::error::EmitError;
use crate::quad::WIDTH;
use crate::range::Range;
use crate::spell::{Scope, Spelled, element_type, loaded, register_type, rounded, spell, spell_quad};
use enel_bundle::{Access, Config, Desc, Extent, Grid, Kind, Program, Reg, Store, Value};
use std::fmt::Write as _;

/// Room left above the largest index, so that adding a tile's width cannot overflow `int`.
const INDEX_SLACK: i64 = 1 << 20;

/// Shared memory a block may have on the oldest supported architecture (sm_80).
///
/// **Source** CUDA C++ Programming Guide 13.0, "Compute capabilities": 163 KB for 8.0.
pub(crate) const SMEM_LIMIT_BYTES: i64 = 163 * 1024;

/// A part's text and what it needs of its launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    /// CUDA C++: `struct Args` and `run(args, block)`, the work of one block.
    pub(crate) source: String,
    /// What it was filled into.
    pub(crate) template: &'static str,
    /// What was chosen for it.
    pub(crate) config: Config,
    /// Its blocks, over its own dynamic sizes.
    pub(crate) grid: Grid,
    /// Threads of a block.
    pub(crate) threads: u32,
    /// Blocks that are to be resident on a multiprocessor.
    pub(crate) blocks: i64,
    /// Dynamic shared memory of a block.
    pub(crate) smem_bytes: u32,
    /// Scratch memory of all its blocks together, zero before the first launch.
    pub(crate) scratch_bytes: i64,
}

/// A group of axes addressed by one linear index, row-major.
#[derive(Clone, Copy)]
pub(crate) struct Group<'a> {
    /// C++ name of the index.
    pub(crate) name: &'static str,
    /// Its axes.
    pub(crate) axes: &'a [Extent],
}

/// The functions of one kernel.
pub(crate) struct Unit<'d> {
    /// The Desc.
    pub(crate) desc: &'d Desc,
    index: &'static str,
    functions: String,
}

/// Largest value of an extent.
pub(crate) fn extent_max(desc: &Desc, extent: Extent) -> Result<i64, EmitError> {
    let (value, what) = match extent {
        Extent::Const(n) => (n, "a constant extent"),
        Extent::Dyn(i) => {
            let size = desc.dynamics.get(i as usize).ok_or_else(|| EmitError::Reference {
                function: "extents".to_owned(),
                what: "size",
                index: i as usize,
                count: desc.dynamics.len(),
            })?;
            (size.max, "a dynamic size's bound")
        }
    };
    if (1..=1 << 40).contains(&value) {
        Ok(value)
    } else {
        Err(EmitError::Size { what, got: value, expected: "1 to 2^40" })
    }
}

/// Largest product of extents; saturates.
pub(crate) fn size_max(desc: &Desc, axes: &[Extent]) -> Result<i64, EmitError> {
    axes.iter().try_fold(1i64, |product, axis| Ok(product.saturating_mul(extent_max(desc, *axis)?)))
}

/// The product, where no axis is dynamic.
pub(crate) fn size_const(axes: &[Extent]) -> Option<i64> {
    axes.iter().try_fold(1i64, |product, axis| match axis {
        Extent::Const(n) => Some(product.saturating_mul(*n)),
        Extent::Dyn(_) => None,
    })
}

/// One `value` as a config or template number.
pub(crate) fn config(entries: &[(&str, i64)]) -> Config {
    Config(entries.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect())
}

impl<'d> Unit<'d> {
    /// Checks extents and chooses the index type; `groups` are all groups of axes of the body.
    pub(crate) fn new(desc: &'d Desc, groups: &[&[Extent]]) -> Result<Unit<'d>, EmitError> {
        let mut fits = true;
        for axes in groups {
            fits &= size_max(desc, axes)? <= i64::from(i32::MAX) - INDEX_SLACK;
        }
        Ok(Unit { desc, index: if fits { "int" } else { "long long" }, functions: String::new() })
    }

    /// C++ type of indices.
    pub(crate) fn index_type(&self) -> &'static str {
        self.index
    }

    /// Function `name(a)`: the number of points of a group.
    pub(crate) fn size(&mut self, name: &str, axes: &[Extent]) {
        let index = self.index;
        let product = product(index, axes);
        let _ = writeln!(
            self.functions,
            "__device__ __forceinline__ {index} {name}(const Args& a) {{ const {index} n = {product}; __builtin_assume(n >= 0); return n; }}"
        );
    }

    /// Function `type name(a, indices)`: the value of a program.
    pub(crate) fn value(
        &mut self,
        name: &str,
        groups: &[Group<'_>],
        value: &Value,
        kind: Kind,
    ) -> Result<(), EmitError> {
        let (head, axes) = self.head(groups)?;
        let spelled = self.spell(name, axes, &value.program, &[value.reg], &[])?;
        let result = spelled.expect(name, value.reg, kind)?;
        self.function(register_type(kind), name, &head, &format!("{}  return {result};\n", spelled.text));
        Ok(())
    }

    /// Function `void name(a, indices, float* to)`: a value at four places from a multiple of four along the last axis.
    /// Returns whether quads are whole; where they are not, the function must not be called.
    pub(crate) fn quad(&mut self, name: &str, groups: &[Group<'_>], value: &Value) -> Result<bool, EmitError> {
        let (mut head, axes) = self.head(groups)?;
        head.params.push_str(", float* to");
        let last = groups.last().and_then(|group| group.axes.last());
        let whole = last.is_some_and(|extent| extent_divisor(*extent, &self.desc.dynamics) % WIDTH as i64 == 0);
        let mut body = String::new();
        if whole {
            let axis = axes.len() as u32 - 1;
            let scope = self.scope(name, axes, &[]);
            let spelled = spell_quad(&value.program, value.reg, &scope, axis)?;
            spelled.expect(name, value.reg, Kind::Float)?;
            body = spelled.text.clone();
            for place in 0..WIDTH {
                let _ = writeln!(body, "  to[{place}] = {};", spelled.name_at(value.reg, place));
            }
        }
        self.function("void", name, &head, &body);
        Ok(whole)
    }

    /// Function `void name(a, indices, type& out0, ...)`: several values of one program; returns their kinds.
    pub(crate) fn values(
        &mut self,
        name: &str,
        groups: &[Group<'_>],
        program: &Program,
        regs: &[Reg],
    ) -> Result<Vec<Kind>, EmitError> {
        let (head, axes) = self.head(groups)?;
        let spelled = self.spell(name, axes, program, regs, &[])?;
        let kinds: Vec<Kind> = regs.iter().map(|r| spelled.kind(name, *r)).collect::<Result<_, _>>()?;
        let mut params = head.params.clone();
        let mut body = spelled.text;
        for (n, (reg, kind)) in regs.iter().zip(&kinds).enumerate() {
            let _ = write!(params, ", {}& out{n}", register_type(*kind));
            let _ = writeln!(body, "  out{n} = r{};", reg.0);
        }
        self.function("void", name, &Head { params, ..head }, &body);
        Ok(kinds)
    }

    /// Function `void name(a, indices, acc0, ...)`: runs a program and performs its stores.
    pub(crate) fn stores(
        &mut self,
        name: &str,
        groups: &[Group<'_>],
        accs: &[Kind],
        program: &Program,
        stores: &[Store],
    ) -> Result<(), EmitError> {
        let (mut head, axes) = self.head(groups)?;
        for (n, kind) in accs.iter().enumerate() {
            let _ = write!(head.params, ", {} acc{n}", register_type(*kind));
        }
        let wanted: Vec<Reg> = stores.iter().flat_map(|s| [s.index, s.value]).collect();
        let spelled = self.spell(name, axes, program, &wanted, accs)?;
        let mut body = spelled.text.clone();
        for store in stores {
            let text = self.store(name, store, &spelled)?;
            let _ = writeln!(body, "  {text}");
        }
        self.function("void", name, &head, &body);
        Ok(())
    }

    /// Function `type name(a, indices, acc0)`: one value of a program that reads an accumulator; returns its kind.
    pub(crate) fn value_of_acc(
        &mut self,
        name: &str,
        groups: &[Group<'_>],
        program: &Program,
        reg: Reg,
    ) -> Result<Kind, EmitError> {
        let (mut head, axes) = self.head(groups)?;
        head.params.push_str(", float acc0");
        let spelled = self.spell(name, axes, program, &[reg], &[Kind::Float])?;
        let kind = spelled.kind(name, reg)?;
        self.function(register_type(kind), name, &head, &format!("{}  return r{};\n", spelled.text, reg.0));
        Ok(kind)
    }

    /// Range of a value's integer register.
    pub(crate) fn range(&self, groups: &[Group<'_>], value: &Value) -> Result<Range, EmitError> {
        let (_, axes) = self.head(groups)?;
        Ok(self.spell("value", axes, &value.program, &[value.reg], &[])?.range(value.reg))
    }

    /// Kind of a value.
    pub(crate) fn kind(&self, name: &str, groups: &[Group<'_>], value: &Value) -> Result<Kind, EmitError> {
        let (_, axes) = self.head(groups)?;
        self.spell(name, axes, &value.program, &[value.reg], &[])?.kind(name, value.reg)
    }

    /// Checks that a body's result buffer exists and has a dtype of `kind`.
    pub(crate) fn result_buffer(&self, function: &str, buffer: u32, kind: Kind) -> Result<(), EmitError> {
        let count = self.desc.buffers.len();
        let role = self.desc.buffers.get(buffer as usize).ok_or_else(|| EmitError::Reference {
            function: function.to_owned(),
            what: "buffer",
            index: buffer as usize,
            count,
        })?;
        let got = Kind::of(role.dtype);
        if got != kind {
            return Err(EmitError::Kind { function: function.to_owned(), reg: buffer, expected: kind, got });
        }
        Ok(())
    }

    /// Functions `get(a, at)` and `put(a, at, value)` on one buffer.
    pub(crate) fn accessors(&mut self, function: &str, buffer: u32, kind: Kind) -> Result<(), EmitError> {
        self.result_buffer(function, buffer, kind)?;
        let (dtype, ty) = (self.desc.buffers[buffer as usize].dtype, register_type(kind));
        let (load, store) = (loaded(dtype, &format!("a.b{buffer}[at]")), rounded(dtype, "value"));
        self.raw(&format!("__device__ __forceinline__ {ty} get(const Args& a, long long at) {{ return {load}; }}"));
        self.raw(&format!(
            "__device__ __forceinline__ void put(const Args& a, long long at, {ty} value) {{ a.b{buffer}[at] = {store}; }}"
        ));
        Ok(())
    }

    /// A raw function or constant.
    pub(crate) fn raw(&mut self, text: &str) {
        self.functions.push_str(text);
        self.functions.push('\n');
    }

    /// Fills a template with what every kernel has and the family's own numbers and words.
    pub(crate) fn finish(self, template: &'static str, plan: LaunchPlan<'_>) -> Result<Text, EmitError> {
        if plan.smem_bytes > SMEM_LIMIT_BYTES {
            let family = self.desc.body.family();
            return Err(EmitError::SharedMemory { family, need_bytes: plan.smem_bytes, limit_bytes: SMEM_LIMIT_BYTES });
        }
        let mut context = tera::Context::new();
        for (key, value) in &plan.config.0 {
            context.insert(key.clone(), value);
        }
        for (key, value) in plan.words {
            context.insert((*key).to_owned(), value);
        }
        for (key, value) in plan.lists {
            context.insert((*key).to_owned(), value);
        }
        context.insert("index", self.index);
        context.insert("threads", &plan.threads);
        context.insert("functions", &self.functions);
        context.insert("fields", &self.fields(plan.scratch_bytes > 0));
        let source = crate::kernels::fill(template, &context)?;
        let LaunchPlan { config, grid, blocks, threads, smem_bytes, scratch_bytes, words: _, lists: _ } = plan;
        let (grid, smem_bytes) = (Grid(grid), smem_bytes as u32);
        Ok(Text { source, template, config, grid, threads, blocks, smem_bytes, scratch_bytes })
    }

    fn store(&self, function: &str, store: &Store, spelled: &Spelled) -> Result<String, EmitError> {
        let buffers = &self.desc.buffers;
        let role = buffers.get(store.buffer as usize).filter(|b| b.access != Access::Read);
        let role = role.ok_or_else(|| EmitError::Reference {
            function: function.to_owned(),
            what: "written buffer",
            index: store.buffer as usize,
            count: buffers.len(),
        })?;
        let index = spelled.expect(function, store.index, Kind::Int)?;
        let value = spelled.expect(function, store.value, Kind::of(role.dtype))?;
        Ok(format!("a.b{}[{index}] = {};", store.buffer, rounded(role.dtype, &value)))
    }

    fn spell(
        &self,
        function: &str,
        axes: Vec<(String, Range)>,
        program: &Program,
        wanted: &[Reg],
        accs: &[Kind],
    ) -> Result<Spelled, EmitError> {
        spell(program, wanted, &self.scope(function, axes, accs))
    }

    fn scope<'s>(&'s self, function: &'s str, axes: Vec<(String, Range)>, accs: &'s [Kind]) -> Scope<'s> {
        Scope { function, buffers: &self.desc.buffers, dynamics: &self.desc.dynamics, axes, accs }
    }

    fn function(&mut self, ty: &str, name: &str, head: &Head, body: &str) {
        let Head { params, split } = head;
        let _ = writeln!(
            self.functions,
            "__device__ __forceinline__ {ty} {name}(const Args& a{params}) {{\n{split}{body}}}"
        );
    }

    fn head(&self, groups: &[Group<'_>]) -> Result<(Head, Vec<(String, Range)>), EmitError> {
        let mut head = Head::default();
        let mut axes = Vec::new();
        let index = self.index;
        for group in groups {
            let g = group.name;
            let _ = write!(head.params, ", const {index} {g}");
            let mut rest = g.to_owned();
            let mut split = Vec::new();
            for (n, extent) in group.axes.iter().enumerate().rev() {
                let range = Range::up_to(extent_max(self.desc, *extent)? - 1);
                if n == 0 {
                    split.push((rest.clone(), range));
                    continue;
                }
                let unsigned = if index == "int" { "unsigned int" } else { "unsigned long long" };
                let size = extent_text(index, *extent);
                let (axis, next) = (format!("{g}_{n}"), format!("{g}_rest{n}"));
                let _ = writeln!(head.split, "  const {index} {axis} = ({unsigned}){rest} % ({unsigned})({size});");
                let _ = writeln!(head.split, "  const {index} {next} = ({unsigned}){rest} / ({unsigned})({size});");
                split.push((axis, range));
                rest = next;
            }
            axes.extend(split.into_iter().rev());
        }
        Ok((head, axes))
    }

    fn fields(&self, has_scratch: bool) -> Vec<String> {
        let buffers = self.desc.buffers.iter().enumerate().map(|(n, role)| match role.access {
            Access::Read => format!("const {}* b{n};", element_type(role.dtype)),
            Access::Write | Access::Update => format!("{}* b{n};", element_type(role.dtype)),
        });
        let sizes = (0..self.desc.dynamics.len()).map(|n| format!("long long s{n};"));
        let scratch = has_scratch.then(|| "unsigned char* scratch;".to_owned());
        buffers.chain(sizes).chain(scratch).collect()
    }
}

/// What a family has decided.
pub(crate) struct LaunchPlan<'a> {
    /// Numbers; all go to the template and into the bundle.
    pub(crate) config: Config,
    /// Words for the template: type names, literals.
    pub(crate) words: &'a [(&'static str, String)],
    /// Lists for the template's loops.
    pub(crate) lists: &'a [(&'static str, Vec<String>)],
    /// Blocks along x; y and z are 1, because only x takes more than 65535.
    pub(crate) grid: Vec<(Vec<Extent>, i64)>,
    /// Blocks that are to be resident on a multiprocessor: the assembler limits registers to that.
    pub(crate) blocks: i64,
    /// Threads per block.
    pub(crate) threads: u32,
    /// Dynamic shared memory.
    pub(crate) smem_bytes: i64,
    /// Scratch memory, see `team.cuh`; 0 where blocks work alone.
    pub(crate) scratch_bytes: i64,
}

/// Scratch for `items` counters, padded so that what follows is aligned.
pub(crate) fn counter_bytes(items: i64) -> i64 {
    (4 * items as u64).next_multiple_of(256) as i64
}

#[derive(Clone, Default)]
struct Head {
    params: String,
    split: String,
}

fn extent_text(index: &str, extent: Extent) -> String {
    match extent {
        Extent::Const(n) => format!("({index}){n}LL"),
        Extent::Dyn(i) => format!("({index})a.s{i}"),
    }
}

fn product(index: &str, axes: &[Extent]) -> String {
    match axes {
        [] => "1".to_owned(),
        [..] => axes.iter().map(|e| extent_text(index, *e)).collect::<Vec<_>>().join(" * "),
    }
}
