//! How is a kernel launched? Arguments are packed, module variables placed, blocks run in seeded order.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::decode::func::function_address;
use crate::decode::{Module, shared_limit};
use crate::error::LaunchError;
use crate::machine::block::{Grid, Round, permutation};
use crate::machine::cluster::Cluster;
use crate::machine::count::Tally;
use crate::machine::race::Ledger;
use crate::memory::Memory;
use crate::stats::Stats;
use crate::syntax::ast::Init;

/// Blocks of the largest cluster.
const MAX_CLUSTER: u64 = 16;

/// One kernel argument.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    /// 32-bit unsigned integer.
    U32(u32),
    /// 32-bit signed integer.
    I32(i32),
    /// 64-bit unsigned integer or pointer.
    U64(u64),
    /// 64-bit signed integer.
    I64(i64),
    /// Single precision.
    F32(f32),
    /// Double precision.
    F64(f64),
    /// Anything passed by value, as it lies in memory.
    Bytes(Vec<u8>),
}

impl Arg {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Arg::U32(x) => x.to_le_bytes().to_vec(),
            Arg::I32(x) => x.to_le_bytes().to_vec(),
            Arg::U64(x) => x.to_le_bytes().to_vec(),
            Arg::I64(x) => x.to_le_bytes().to_vec(),
            Arg::F32(x) => x.to_le_bytes().to_vec(),
            Arg::F64(x) => x.to_le_bytes().to_vec(),
            Arg::Bytes(bytes) => bytes.clone(),
        }
    }
}

/// What to launch.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    /// Name of the kernel.
    pub entry: &'a str,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    /// Blocks of a cluster along x, y, z; `None` for what the kernel asks for, or single blocks.
    pub cluster: Option<[u32; 3]>,
    /// Shared memory behind the static variables, in bytes.
    pub dynamic_smem_bytes: u32,
    /// Arguments in order.
    pub args: &'a [Arg],
}

/// Which mistakes are looked for. Bounds are always checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// Addresses that are no multiple of the access size.
    pub alignment: bool,
    /// Reads of global and shared bytes nobody wrote, or that `cp.async` has not delivered; registers of `wgmma` touched
    /// before their wait or without a fence; bulk stores nobody waits for.
    pub uninitialised: bool,
    /// Barriers reached by part of a warp, or left incomplete; lanes that a mask or a tensor-core instruction needs and
    /// that end without coming, or whose values are asked for while they do not take part.
    pub barriers: bool,
    /// Data races in shared and global memory, copies used before they were waited for, and shared memory of a block that
    /// may have ended.
    pub races: bool,
}

impl Checks {
    /// Everything on.
    pub fn all() -> Self {
        Checks { alignment: true, uninitialised: true, barriers: true, races: true }
    }

    /// Bounds only.
    pub fn none() -> Self {
        Checks { alignment: false, uninitialised: false, barriers: false, races: false }
    }
}

/// How to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Draws the order of blocks, of warps and the length of their turns; 0 keeps the natural order.
    pub seed: u64,
    /// Mistakes to look for.
    pub checks: Checks,
    /// Whether memory traffic and bank conflicts are counted, which costs time.
    pub counters: bool,
    /// Warp instructions a launch may execute; `None` for no limit.
    pub max_instructions: Option<u64>,
    /// Host threads. With more than one, blocks that communicate may give different results from run to run.
    /// While races are looked for one is used, whatever is asked for, so that the first finding is always the same.
    pub threads: usize,
    /// Blocks that take turns on one host thread from the start; more join them where those only wait for others.
    pub resident_blocks: usize,
}

impl Default for Options {
    /// All checks, natural order, one thread, a limit of 2^36 warp instructions (some minutes).
    fn default() -> Self {
        Options {
            seed: 0,
            checks: Checks::all(),
            counters: false,
            max_instructions: Some(1 << 36),
            threads: 1,
            resident_blocks: 1,
        }
    }
}

/// Runs a kernel to its end.
///
/// # Errors
/// [`LaunchError`]: a launch no device would accept, or the first mistake found. Memory keeps what was written so far.
pub fn launch(
    module: &Module,
    memory: &mut Memory,
    launch: &Launch<'_>,
    options: &Options,
) -> Result<Stats, LaunchError> {
    let kernel = launch.entry;
    let entry = module.entry(kernel).ok_or_else(|| LaunchError::NoKernel { kernel: kernel.to_owned() })?;
    if let Some((source, place)) = module.unknown_in(entry) {
        return Err(LaunchError::Instruction { kernel: kernel.to_owned(), place, source: Box::new(source) });
    }
    check_dimensions(entry, launch)?;
    let cluster = cluster_of(entry, launch)?;
    let static_smem = entry.static_smem_bytes;
    let dynamic_start = if launch.dynamic_smem_bytes > 0 || module.shared.iter().any(|v| v.is_dynamic) {
        let align = module.shared.iter().filter(|v| v.is_dynamic).map(|v| v.align).max().unwrap_or(16).max(16);
        u64::from(static_smem).next_multiple_of(align.into())
    } else {
        static_smem.into()
    };
    let need_bytes = dynamic_start + u64::from(launch.dynamic_smem_bytes);
    let limit_bytes = shared_limit(&module.target);
    if need_bytes > limit_bytes {
        let (kernel, target) = (kernel.to_owned(), module.target.clone());
        return Err(LaunchError::SharedMemory { kernel, need_bytes, limit_bytes, target });
    }
    let params = pack_args(entry, launch.args)?;
    let placed = if module.uses_heap() { memory.make_heap() } else { Ok(()) };
    placed
        .and_then(|()| place_globals(module, memory))
        .map_err(|source| LaunchError::ModuleVariables { kernel: kernel.to_owned(), source })?;
    let memory: &Memory = memory;
    let limit = options.max_instructions.unwrap_or(u64::MAX);
    let (ledger, tally) = (Mutex::new(Ledger::default()), Mutex::new(Tally::default()));
    let grid = Grid {
        module,
        memory,
        kernel,
        function: entry.function,
        params: &params,
        globals: memory.modules.get(&module.id).map_or(&[], Vec::as_slice),
        grid: launch.grid,
        block: launch.block,
        cluster,
        static_smem,
        dynamic_smem: launch.dynamic_smem_bytes,
        checks: options.checks,
        max_instructions: limit,
        ledger: options.checks.races.then_some(&ledger),
        tally: options.counters.then_some(&tally),
        own_shared: entry.own_shared,
    };
    let mut stats = run_blocks(grid, need_bytes as u32, options, limit)?;
    stats.touched = tally.into_inner().unwrap_or_else(|e| e.into_inner()).touched();
    Ok(stats)
}

fn check_dimensions(entry: &crate::Entry, launch: &Launch<'_>) -> Result<(), LaunchError> {
    let bad = |what, found, expected: &str| {
        Err(LaunchError::Dimensions { kernel: launch.entry.to_owned(), what, found, expected: expected.to_owned() })
    };
    // Limits of every device since compute capability 3.0 (CUDA programming guide, technical specifications).
    let threads: u64 = launch.block.iter().map(|&n| u64::from(n)).product();
    if threads == 0 || threads > 1024 || launch.block[2] > 64 {
        return bad("block", launch.block, "expected 1 to 1024 threads, at most 64 along z");
    }
    let [x, y, z] = launch.grid;
    if x == 0 || y == 0 || z == 0 || x > i32::MAX as u32 || y > 65535 || z > 65535 {
        return bad("grid", launch.grid, "expected 1 to 2147483647, 65535, 65535 blocks");
    }
    if let Some(required) = entry.reqntid.filter(|r| *r != launch.block) {
        return bad("block", launch.block, &format!("the kernel requires {required:?}"));
    }
    if let Some(max) = entry.maxntid {
        let most: u64 = max.iter().map(|&n| u64::from(n)).product();
        if threads > most {
            return bad("block", launch.block, &format!("the kernel was compiled for at most {most} threads"));
        }
    }
    Ok(())
}

/// The cluster's extents, checked.
fn cluster_of(entry: &crate::Entry, launch: &Launch<'_>) -> Result<[u32; 3], LaunchError> {
    let cluster = launch.cluster.or(entry.reqnctapercluster).unwrap_or([1; 3]);
    let bad = |expected: String| {
        let (kernel, found) = (launch.entry.to_owned(), cluster);
        Err(LaunchError::Dimensions { kernel, what: "cluster", found, expected })
    };
    if let Some(required) = entry.reqnctapercluster.filter(|r| *r != cluster) {
        return bad(format!("the kernel requires {required:?}"));
    }
    // 16 is the largest size a kernel may opt in to (CUDA programming guide, compute capability 9.0).
    let n: u64 = cluster.iter().map(|&n| u64::from(n)).product();
    if n == 0 || n > MAX_CLUSTER {
        return bad(format!("expected 1 to {MAX_CLUSTER} blocks"));
    }
    if launch.grid.iter().zip(&cluster).any(|(grid, cluster)| grid % cluster != 0) {
        let whose = if launch.cluster.is_none() { ", which the kernel requires" } else { "" };
        return bad(format!("the grid {:?} is not whole clusters{whose}", launch.grid));
    }
    Ok(cluster)
}

fn pack_args(entry: &crate::Entry, args: &[Arg]) -> Result<Vec<u8>, LaunchError> {
    let bad = |index, expected: String, found: String| {
        Err(LaunchError::Argument { kernel: entry.name.clone(), index, expected, found })
    };
    if args.len() != entry.params.len() {
        let index = args.len().min(entry.params.len());
        return bad(index, format!("{} arguments", entry.params.len()), format!("{}", args.len()));
    }
    let size = entry.params.last().map_or(0, |p| p.offset + p.bytes) as usize;
    let mut packed = vec![0; size];
    for (index, (param, arg)) in entry.params.iter().zip(args).enumerate() {
        let bytes = arg.bytes();
        if bytes.len() != param.bytes as usize {
            return bad(index, format!("{} B", param.bytes), format!("{} B ({arg:?})", bytes.len()));
        }
        packed[param.offset as usize..][..bytes.len()].copy_from_slice(&bytes);
    }
    Ok(packed)
}

/// Allocates and fills the variables of `module` the first time one of its kernels is launched.
fn place_globals(module: &Module, memory: &mut Memory) -> Result<(), crate::MemoryError> {
    if memory.modules.contains_key(&module.id) {
        return Ok(());
    }
    let mut addresses = Vec::with_capacity(module.globals.len());
    for var in &module.globals {
        addresses.push(memory.alloc(if var.is_external { 0 } else { var.bytes as usize })?);
    }
    for (var, &address) in module.globals.iter().zip(&addresses) {
        if !var.is_external {
            memory.fill(address, var.bytes as usize, 0)?;
        }
        for (i, init) in var.init.iter().enumerate() {
            let bits = match init {
                Init::Bits(bits) => *bits,
                Init::Symbol { name, offset } => {
                    let target = module.globals.iter().position(|g| g.name == *name);
                    let function = || module.names.iter().position(|n| n == name).map_or(0, function_address);
                    target.map_or_else(function, |t| addresses[t].wrapping_add_signed(*offset))
                }
            };
            let at = i as u64 * u64::from(var.elem_bytes);
            if at + u64::from(var.elem_bytes) <= var.bytes {
                memory.write(address + at, &bits.to_le_bytes()[..var.elem_bytes as usize])?;
            }
        }
    }
    memory.modules.insert(module.id, addresses);
    Ok(())
}

/// Warp instructions in which nothing changes before blocks that wait are joined by others: once, and for each of them.
const QUIET: u64 = 1 << 18;
const QUIET_EACH: u64 = 1 << 14;
/// As many again, and nothing can change any more if all that run did nothing but look.
const SPUN: u64 = 1 << 23;
/// Multiprocessors of a large card, and what each can hold (CUDA programming guide, compute capability 9.0).
const MULTIPROCESSORS: usize = 132;
const MOST_THREADS: usize = 2048;
const MOST_BLOCKS: usize = 32;
/// Warps a deadlock names.
const NAMED: usize = 8;

/// How long do blocks run in which nothing changes? Blocks may wait for others that have not started, as many as a card
/// would have started; beyond that they wait in vain.
struct Patience {
    /// Clusters that take turns.
    resident: usize,
    most: usize,
    /// Warp instructions since something last changed.
    quiet: u64,
    /// Whether they did nothing but look when that was last asked.
    has_spun: bool,
}

impl Patience {
    fn new(grid: &Grid<'_>, blocks: usize) -> Patience {
        let size = |extents: [u32; 3]| extents.iter().product::<u32>() as usize;
        let (cluster, threads) = (size(grid.cluster), size(grid.block));
        let most = MULTIPROCESSORS * (MOST_THREADS / threads.max(1)).clamp(1, MOST_BLOCKS) / cluster;
        let resident = blocks.div_ceil(cluster).max(1);
        Patience { resident, most: most.max(resident), quiet: 0, has_spun: false }
    }

    /// `spent` instructions in which nothing changed, `None` where something did, while `running` clusters take turns;
    /// true where it is time to see whether anything still can.
    fn spend(&mut self, spent: Option<u64>, running: usize) -> bool {
        let Some(spent) = spent else {
            (self.quiet, self.has_spun) = (0, false);
            return false;
        };
        self.quiet += spent;
        if running >= self.resident && self.resident < self.most && self.quiet > QUIET + QUIET_EACH * running as u64 {
            self.resident = (2 * self.resident).min(self.most);
            self.quiet = 0;
        }
        self.quiet > SPUN
    }

    /// Nothing has changed for long: a deadlock where nobody did anything but look, twice in a row.
    fn spin<'c, 'g: 'c>(
        &mut self,
        clusters: impl Iterator<Item = &'c mut Cluster<'g>>,
        (kernel, not_started): (&str, usize),
    ) -> Result<(), LaunchError> {
        self.quiet = 0;
        let (mut waiting, mut is_all, mut block) = (Vec::new(), true, None);
        for cluster in clusters {
            block = block.or(Some(cluster.place()));
            match cluster.polling() {
                Some(lines) => waiting.extend(lines),
                None => is_all = false,
            }
        }
        if !is_all || !std::mem::replace(&mut self.has_spun, is_all) {
            self.has_spun = is_all;
            return Ok(());
        }
        let more = waiting.len().saturating_sub(NAMED);
        waiting.truncate(NAMED);
        waiting.insert(0, "all that run read memory again and again, and nobody changes it".to_owned());
        if more > 0 {
            waiting.push(format!("{more} more warps"));
        }
        if not_started > 0 {
            waiting.push(format!("{not_started} blocks have not started: no more would run at once"));
        }
        Err(LaunchError::Deadlock { kernel: kernel.to_owned(), block: block.unwrap_or_default(), waiting })
    }
}

fn run_blocks(grid: Grid<'_>, smem_bytes: u32, options: &Options, limit: u64) -> Result<Stats, LaunchError> {
    let [nx, ny, nz] = [0, 1, 2].map(|i| (grid.grid[i] / grid.cluster[i]) as usize);
    let n_clusters = nx * ny * nz;
    let cluster_size = grid.cluster.iter().product::<u32>() as usize;
    let order = if options.seed == 0 { Vec::new() } else { permutation(n_clusters, options.seed) };
    let (next, left) = (AtomicUsize::new(0), AtomicU64::new(limit));
    let total = Mutex::new(Stats::default());
    let first_error: Mutex<Option<(usize, LaunchError)>> = Mutex::new(None);
    let take = || {
        let at = next.fetch_add(1, Relaxed);
        (at < n_clusters).then(|| (at, order.get(at).copied().unwrap_or(at)))
    };
    let threads = if grid.checks.races { 1 } else { options.threads.clamp(1, n_clusters.max(1)) };
    let work = || {
        let mut stats = Stats::default();
        let mut resident: VecDeque<(usize, Cluster<'_>)> = VecDeque::new();
        let mut patience = Patience::new(&grid, options.resident_blocks);
        loop {
            while resident.len() < patience.resident
                && let Some((at, linear)) = take()
            {
                let place = [linear % nx, linear / nx % ny, linear / (nx * ny)];
                let first = [0, 1, 2].map(|i| place[i] as u32 * grid.cluster[i]);
                let seed = if options.seed == 0 { 0 } else { options.seed ^ (linear as u64 + 1) << 20 };
                resident.push_back((at, Cluster::new(grid, first, smem_bytes, seed)));
            }
            let Some((at, mut cluster)) = resident.pop_front() else { break };
            let (before, achieved) = (left.load(Relaxed), cluster.achieved());
            let mut budget = before;
            let mut result = cluster.round(&mut budget);
            let spent = before - budget;
            // Never fails: the closure always returns a value.
            let _ = left.fetch_update(Relaxed, Relaxed, |n| Some(n.saturating_sub(spent)));
            let is_quiet = matches!(result, Ok(Round::Running | Round::Stuck)) && cluster.achieved() == achieved;
            let is_spinning = patience.spend(if is_quiet { Some(spent) } else { None }, resident.len() + 1);
            if is_spinning && threads == 1 && result.is_ok() {
                let waiting = (n_clusters - next.load(Relaxed).min(n_clusters)) * cluster_size;
                let all = std::iter::once(&mut cluster).chain(resident.iter_mut().map(|(_, cluster)| cluster));
                result = patience.spin(all, (grid.kernel, waiting)).map(|()| Round::Running);
            }
            match result {
                Ok(Round::Running | Round::Stuck) => resident.push_back((at, cluster)),
                Ok(Round::Finished) => cluster.stats().for_each(|s| stats.add(s)),
                Err(error) => {
                    // Nobody starts another block; the error of the earliest block wins.
                    next.store(n_clusters, Relaxed);
                    let mut slot = first_error.lock().unwrap_or_else(|e| e.into_inner());
                    if slot.as_ref().is_none_or(|(earlier, _)| at < *earlier) {
                        *slot = Some((at, error));
                    }
                    break;
                }
            }
        }
        total.lock().unwrap_or_else(|e| e.into_inner()).add(&stats);
    };
    if threads == 1 {
        work();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
    }
    match first_error.into_inner().unwrap_or_else(|e| e.into_inner()) {
        Some((_, error)) => Err(error),
        None => Ok(total.into_inner().unwrap_or_else(|e| e.into_inner())),
    }
}
