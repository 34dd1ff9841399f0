//! How do parts become one launch? Each part's text in a namespace, and an entry that sends blocks to their part.

use crate::error::EmitError;
use crate::kernels::{fill, part};
use crate::spell::element_type;
use crate::unit::Text;
use enel_bundle::{Access, Config, Desc, Extent, Grid, Launch};
use serde::Serialize;

/// A kernel's text, launch and parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// CUDA C++.
    pub source: String,
    /// How it is launched.
    pub launch: Launch,
    /// Template of each part.
    pub templates: Vec<&'static str>,
    /// What was chosen for each part.
    pub configs: Vec<Config>,
}

/// What the template is told of a part.
#[derive(Serialize)]
struct Joined {
    text: String,
    /// Initialisers of its `Args`.
    names: String,
    /// Number of its blocks, an expression over the parameters.
    blocks: String,
    /// Condition that sends surplus threads away; empty where there are none.
    guard: String,
}

/// Writes the kernel that computes `descs`, which are independent of each other, in one launch.
///
/// The same Descs and name give the same text. `name` ends up in the entry's name, odd characters replaced.
///
/// # Errors
/// [`EmitError`] when a Desc is not well formed or its part would not fit a block.
pub fn render<'d>(name: &str, descs: impl IntoIterator<Item = &'d Desc>) -> Result<Rendered, EmitError> {
    let descs: Vec<&Desc> = descs.into_iter().collect();
    let texts = descs.iter().map(|desc| part(desc)).collect::<Result<Vec<Text>, EmitError>>()?;
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let entry = format!("k_{}", name.chars().map(plain).collect::<String>());
    let threads = texts.iter().map(|text| text.threads).max().unwrap_or(1);
    let blocks = texts.iter().map(|text| text.blocks).min().unwrap_or(1);
    let smem_bytes = texts.iter().map(|text| text.smem_bytes).max().unwrap_or(0);

    let (mut grids, mut configs, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    let templates = texts.iter().map(|text| text.template).collect();
    let (mut buffers, mut sizes, mut scratch_bytes) = (0, 0, 0u64);
    for (desc, text) in descs.iter().zip(texts) {
        let (first_buffer, first_size) = (buffers, sizes);
        buffers += desc.buffers.len();
        sizes += desc.dynamics.len();
        let names = (first_buffer..buffers).map(|n| format!("b{n}"));
        let scratch = (text.scratch_bytes > 0).then(|| format!("scratch + {scratch_bytes}"));
        scratch_bytes += (text.scratch_bytes as u64).next_multiple_of(256);
        let names = names.chain((first_size..sizes).map(|n| format!("s{n}"))).chain(scratch);
        let names: Vec<String> = names.collect();
        let grid = shifted(&text.grid, first_size as u32);
        let guard = format!("if (threadIdx.x < {}u) ", text.threads);
        parts.push(Joined {
            text: text.source,
            names: names.join(", "),
            blocks: count(&grid),
            guard: if text.threads < threads { guard } else { String::new() },
        });
        grids.push(grid);
        configs.push(text.config);
    }
    let mut context = tera::Context::new();
    context.insert("parts", &parts);
    context.insert("threads", &threads);
    context.insert("blocks", &blocks);
    context.insert("entry", &entry);
    context.insert("params", &params(&descs, scratch_bytes > 0));
    let source = fill("launch.cu.tera", &context)?;
    let launch = Launch { entry, grids, threads, smem_bytes, scratch_bytes };
    Ok(Rendered { source, launch, templates, configs })
}

/// The grid over the kernel's sizes instead of the part's own.
fn shifted(Grid(factors): &Grid, by: u32) -> Grid {
    let shift = |extent: &Extent| match extent {
        Extent::Const(n) => Extent::Const(*n),
        Extent::Dyn(n) => Extent::Dyn(n + by),
    };
    Grid(factors.iter().map(|(extents, tile)| (extents.iter().map(shift).collect(), *tile)).collect())
}

/// Number of blocks, spelled.
fn count(Grid(factors): &Grid) -> String {
    let spell = |extent: &Extent| match extent {
        Extent::Const(n) => format!("{n}ull"),
        Extent::Dyn(n) => format!("(u64)s{n}"),
    };
    let factor = |(extents, tile): &(Vec<Extent>, i64)| {
        let size: Vec<String> = extents.iter().map(spell).collect();
        let size = if size.is_empty() { "1ull".to_owned() } else { size.join(" * ") };
        if *tile == 1 { format!("({size})") } else { format!("(({size} + {}ull) / {tile}ull)", tile - 1) }
    };
    let factors: Vec<String> = factors.iter().map(factor).collect();
    if factors.is_empty() { "1".to_owned() } else { factors.join(" * ") }
}

fn params(descs: &[&Desc], has_scratch: bool) -> String {
    let roles = descs.iter().flat_map(|desc| &desc.buffers).enumerate();
    let buffers = roles.map(|(n, role)| match role.access {
        Access::Read => format!("const {}* __restrict__ b{n}", element_type(role.dtype)),
        Access::Write | Access::Update => format!("{}* b{n}", element_type(role.dtype)),
    });
    let sizes = 0..descs.iter().map(|desc| desc.dynamics.len()).sum::<usize>();
    let sizes = sizes.map(|n| format!("const long long s{n}"));
    let scratch = has_scratch.then(|| "unsigned char* scratch".to_owned());
    buffers.chain(sizes).chain(scratch).collect::<Vec<_>>().join(", ")
}
