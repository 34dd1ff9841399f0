//! Which kernels run on which buffers, in which order? One Plan per graph; sizes stay expressions until a call binds them.

use crate::desc::{BufferRole, Desc, Dynamic, Extent};
use enel_types::{DType, Dim, DimError, Symbols};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Launch parameters a family's code generator chose, by name; prints and compares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Config(pub BTreeMap<String, i64>);

/// Number of blocks along one grid axis: the product of `ceil(product(extents) / tile)`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Grid(pub Vec<(Vec<Extent>, i64)>);

impl Grid {
    /// The number for a call's dynamic sizes; 1 without factors. Saturates.
    pub fn blocks(&self, dynamics: &[i64]) -> i64 {
        let factor = |(extents, tile): &(Vec<Extent>, i64)| {
            let size = extents.iter().map(|e| e.value(dynamics)).fold(1, i64::saturating_mul);
            size.saturating_add(tile - 1) / tile
        };
        self.0.iter().map(factor).fold(1, i64::saturating_mul)
    }
}

/// How a CUDA kernel is launched. Arguments: one pointer per buffer, then one i64 per dynamic size, then a pointer to
/// scratch memory where there is any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Entry point in its image.
    pub entry: String,
    /// Blocks of each part, over the kernel's dynamic sizes. They lie along x, parts in order; y and z are 1, because
    /// only x takes more than 65535.
    pub grids: Vec<Grid>,
    /// Threads per block.
    pub threads: u32,
    /// Dynamic shared memory.
    pub smem_bytes: u32,
    /// Memory in which its blocks meet. It is zeroed once, belongs to this kernel alone, and a launch leaves it fit for
    /// the next; launches of one kernel must not overlap.
    pub scratch_bytes: u64,
}

impl Launch {
    /// Blocks of all parts together for a call's dynamic sizes. Saturates.
    pub fn blocks(&self, dynamics: &[i64]) -> i64 {
        self.grids.iter().map(|grid| grid.blocks(dynamics)).fold(0, i64::saturating_add)
    }
}

/// One computation of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What it computes.
    pub desc: Desc,
    /// Chosen parameters; empty in a bundle for cpu only.
    pub config: Config,
}

/// A kernel of a bundle: one launch of one or more parts that neither read nor write what another writes.
///
/// A call gives the buffers of all parts one after the other, then their dynamic sizes likewise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// Readable name, unique in the bundle.
    pub name: String,
    /// What it computes; at least one part.
    pub parts: Vec<Part>,
    /// Absent in a bundle for cpu only.
    pub launch: Option<Launch>,
}

impl Kernel {
    /// A kernel that computes `descs`, not yet configured for any target.
    pub fn new(name: String, descs: impl IntoIterator<Item = Desc>) -> Kernel {
        let part = |desc| Part { desc, config: Config::default() };
        Kernel { name, parts: descs.into_iter().map(part).collect(), launch: None }
    }

    /// The meanings of its parts.
    pub fn descs(&self) -> impl Iterator<Item = &Desc> {
        self.parts.iter().map(|part| &part.desc)
    }

    /// Buffer arguments of all parts, in a call's order.
    pub fn buffers(&self) -> impl Iterator<Item = BufferRole> {
        self.descs().flat_map(|desc| desc.buffers.iter().copied())
    }

    /// Dynamic sizes of all parts, in a call's order.
    pub fn dynamics(&self) -> impl Iterator<Item = Dynamic> {
        self.descs().flat_map(|desc| desc.dynamics.iter().copied())
    }

    /// Cuts a call's dynamic sizes into those of each part; a count that does not fit gives short or empty lists.
    pub fn split_dynamics<'a>(&'a self, dynamics: &'a [i64]) -> impl Iterator<Item = &'a [i64]> {
        let mut rest = dynamics;
        self.descs().map(move |desc| {
            let (own, after) = rest.split_at(desc.dynamics.len().min(rest.len()));
            rest = after;
            own
        })
    }

    /// Names of its parts' families, each once.
    pub fn family(&self) -> String {
        let mut names: Vec<&str> = self.descs().map(|desc| desc.body.family()).collect();
        names.sort_unstable();
        names.dedup();
        names.join("_")
    }
}

/// Where a buffer lives and who fills it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BufferKind {
    /// Given with every run, by input name.
    Input(String),
    /// Given once, by weight name; stored in the buffer's dtype.
    Weight(String),
    /// Given once, as several weights one after the other: their first axes add up to the buffer's.
    Joined(Vec<Piece>),
    /// Computed once from weights.
    Bound,
    /// Kept between runs, by state name.
    State(String),
    /// Handed back by every run, by output name.
    Output(String),
    /// Lives from its first to its last step.
    Temp,
}

impl BufferKind {
    /// True for what is given or computed once per binding.
    pub const fn is_fixed(&self) -> bool {
        match self {
            BufferKind::Weight(_) | BufferKind::Joined(_) | BufferKind::Bound => true,
            BufferKind::Input(_) | BufferKind::State(_) | BufferKind::Output(_) | BufferKind::Temp => false,
        }
    }
}

/// A weight inside a buffer of several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Weight name.
    pub weight: String,
    /// Extent of its first axis.
    pub rows: i64,
}

/// A buffer of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffer {
    /// Where it lives.
    pub kind: BufferKind,
    /// Storage type.
    pub dtype: DType,
    /// Extents; row-major without padding.
    pub shape: Vec<Dim>,
}

impl Buffer {
    /// Bytes for given symbol values.
    ///
    /// # Errors
    /// [`DimError`] when a symbol has no value, an extent is negative or the size overflows.
    pub fn bytes(&self, symbols: &[i64]) -> Result<usize, DimError> {
        let mut bytes = self.dtype.size_bytes();
        for extent in self.extents(symbols)? {
            bytes = bytes.checked_mul(extent).ok_or(DimError::Overflow)?;
        }
        // Offsets and element indices are i64 everywhere.
        i64::try_from(bytes).map(|_| bytes).map_err(|_| DimError::Overflow)
    }

    /// The weights it is given as, in order, with their shapes; none for other kinds of buffers.
    ///
    /// # Errors
    /// [`DimError`] when an extent is symbolic, negative or overflows.
    pub fn weights(&self) -> Result<Vec<(&str, Vec<usize>)>, DimError> {
        let whole = |name| Ok(vec![(name, self.extents(&[])?)]);
        match &self.kind {
            BufferKind::Weight(name) => whole(name.as_str()),
            BufferKind::Joined(pieces) => {
                let shape = self.extents(&[])?;
                let mut weights = Vec::with_capacity(pieces.len());
                for Piece { weight, rows } in pieces {
                    let mut shape = shape.clone();
                    let rows = usize::try_from(*rows).map_err(|_| DimError::Overflow)?;
                    *shape.first_mut().ok_or(DimError::Overflow)? = rows;
                    weights.push((weight.as_str(), shape));
                }
                Ok(weights)
            }
            BufferKind::Input(_)
            | BufferKind::Bound
            | BufferKind::State(_)
            | BufferKind::Output(_)
            | BufferKind::Temp => Ok(vec![]),
        }
    }

    /// Extents for given symbol values.
    ///
    /// # Errors
    /// [`DimError`] when a symbol has no value or an extent is negative or overflows.
    pub fn extents(&self, symbols: &[i64]) -> Result<Vec<usize>, DimError> {
        let extent = |d: &Dim| usize::try_from(d.eval(symbols)?).map_err(|_| DimError::Overflow);
        self.shape.iter().map(extent).collect()
    }
}

/// One kernel call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Kernel of the bundle.
    pub kernel: u32,
    /// Buffers of the plan, in the kernel's order.
    pub buffers: Vec<u32>,
    /// The kernel's dynamic sizes.
    pub dynamics: Vec<Dim>,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Run a kernel.
    Call(Call),
    /// Copy one whole buffer into another of the same dtype and size.
    Copy {
        /// Source buffer.
        from: u32,
        /// Target buffer.
        to: u32,
    },
}

/// A named input, weight, state or output as callers see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Name.
    pub name: String,
    /// Its buffer.
    pub buffer: u32,
}

/// The calls of one graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Name of the graph.
    pub name: String,
    /// Named dimensions; a run binds them.
    pub symbols: Symbols,
    /// All buffers.
    pub buffers: Vec<Buffer>,
    /// Run once per binding of weights; reads weights, writes bound buffers.
    pub bind: Vec<Step>,
    /// Run every time.
    pub steps: Vec<Step>,
    /// Outputs in declaration order; a tied output names its state's buffer.
    pub outputs: Vec<Port>,
}

/// Why a plan does not hold together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A step names a kernel or buffer that does not exist, or with the wrong number or dtype of arguments.
    #[error("step {step} of plan `{plan}`: {message}")]
    Step {
        /// Plan name.
        plan: String,
        /// Position, bind steps first.
        step: usize,
        /// What does not fit.
        message: String,
    },
    /// A buffer's declaration cannot stand.
    #[error("buffer {buffer} of plan `{plan}`: {message}")]
    Buffer {
        /// Plan name.
        plan: String,
        /// Position among the plan's buffers.
        buffer: usize,
        /// What is wrong.
        message: String,
    },
    /// An output cannot be handed back.
    #[error("output `{name}` of plan `{plan}`: {message}")]
    Output {
        /// Plan name.
        plan: String,
        /// Output name.
        name: String,
        /// What is wrong.
        message: &'static str,
    },
    /// A temp has no place of its own inside the arena.
    #[error("plan `{plan}`: temp {buffer} needs {need_bytes} B at a multiple of {alignment} B inside {arena_bytes} B")]
    Place {
        /// Plan name.
        plan: String,
        /// The temp.
        buffer: u32,
        /// Its size.
        need_bytes: usize,
        /// Alignment of every offset.
        alignment: usize,
        /// Size of the arena.
        arena_bytes: usize,
    },
    /// Sizes cannot be evaluated.
    #[error("plan `{plan}`: {source}")]
    Size {
        /// Plan name.
        plan: String,
        /// Why.
        source: DimError,
    },
    /// Two temps that live at the same time overlap.
    #[error("plan `{plan}`: buffers {first} and {second} overlap at step {step}")]
    Overlap {
        /// Plan name.
        plan: String,
        /// A buffer.
        first: u32,
        /// The other.
        second: u32,
        /// Where both are live.
        step: usize,
    },
}

impl Plan {
    /// The buffers a step reads or writes.
    pub fn touched(step: &Step) -> Vec<u32> {
        match step {
            Step::Call(call) => call.buffers.clone(),
            Step::Copy { from, to } => vec![*from, *to],
        }
    }

    /// First and last step (of `steps`) that touches each temp; `None` for other buffers.
    pub fn live_ranges(&self) -> Vec<Option<(usize, usize)>> {
        let mut ranges = vec![None; self.buffers.len()];
        for (at, step) in self.steps.iter().enumerate() {
            for b in Plan::touched(step) {
                if self.buffers[b as usize].kind == BufferKind::Temp {
                    let range: &mut Option<(usize, usize)> = &mut ranges[b as usize];
                    *range = Some(range.map_or((at, at), |(first, _)| (first, at)));
                }
            }
        }
        ranges
    }
}
