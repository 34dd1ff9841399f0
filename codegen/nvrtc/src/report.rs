//! What did the assembler make of each kernel, and is that good enough to ship?
//!
//! The figures are read from the log of `--ptxas-options=-v`; the gate turns them into faults.
//! Law: a kernel the log says nothing about is a fault, so a changed log format cannot open the gate.

use std::fmt;

/// Static shared memory a block may have; more has to be dynamic.
///
/// **Source** CUDA C++ Programming Guide 13.0, "Compute capabilities": 48 KB of static shared memory per block.
pub const STATIC_SMEM_LIMIT_BYTES: u32 = 48 * 1024;

/// One kernel of a cubin, as the assembler saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelReport {
    /// The name of the entry in the PTX.
    pub kernel: String,
    /// Registers per thread; 0 when the log says nothing about this kernel.
    pub registers: u32,
    /// Bytes of spill stores, those of called functions included.
    pub spill_store_bytes: u32,
    /// Bytes of spill loads, those of called functions included.
    pub spill_load_bytes: u32,
    /// Static shared memory per block.
    pub static_smem_bytes: u32,
    /// Stack per thread, spills and local arrays, that of called functions included.
    pub stack_bytes: u32,
    /// Lines that tell of lost performance or injected synchronisation.
    pub notes: Vec<String>,
}

/// What the gate lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Spill stores plus loads.
    pub spill_bytes: u32,
    /// Static shared memory per block.
    pub static_smem_bytes: u32,
    /// Stack per thread, where it is limited: arrays indexed at run time live there, without being spills.
    pub stack_bytes: Option<u32>,
}

/// One reason not to ship a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateFault {
    /// Registers did not suffice.
    Spill {
        /// The kernel.
        kernel: String,
        /// Bytes of spill stores.
        store_bytes: u32,
        /// Bytes of spill loads.
        load_bytes: u32,
    },
    /// Too much stack.
    Stack {
        /// The kernel.
        kernel: String,
        /// Bytes of stack per thread.
        got_bytes: u32,
        /// Bytes allowed.
        limit_bytes: u32,
    },
    /// Too much static shared memory.
    StaticSmem {
        /// The kernel.
        kernel: String,
        /// Bytes of static shared memory per block.
        got_bytes: u32,
        /// Bytes allowed.
        limit_bytes: u32,
    },
    /// The assembler noted a loss or put in synchronisation of its own.
    Note {
        /// The kernel.
        kernel: String,
        /// The line.
        note: String,
    },
    /// The log says nothing about the kernel.
    NotReported {
        /// The kernel.
        kernel: String,
    },
}

impl Default for Limits {
    /// No spill, no note, 48 KiB of static shared memory, any stack.
    fn default() -> Limits {
        Limits { spill_bytes: 0, static_smem_bytes: STATIC_SMEM_LIMIT_BYTES, stack_bytes: None }
    }
}

impl fmt::Display for GateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GateFault::Spill { kernel, store_bytes, load_bytes } => {
                write!(f, "kernel `{kernel}` spills: {store_bytes} B of stores, {load_bytes} B of loads")
            }
            GateFault::Stack { kernel, got_bytes, limit_bytes } => {
                write!(f, "kernel `{kernel}` has {got_bytes} B of stack per thread, the limit is {limit_bytes} B")
            }
            GateFault::StaticSmem { kernel, got_bytes, limit_bytes } => {
                write!(f, "kernel `{kernel}` has {got_bytes} B of static shared memory, the limit is {limit_bytes} B")
            }
            GateFault::Note { kernel, note } => write!(f, "kernel `{kernel}`: {note}"),
            GateFault::NotReported { kernel } => write!(f, "the assembler's log says nothing about kernel `{kernel}`"),
        }
    }
}

/// Every reason not to ship these kernels, in their order.
pub fn gate(reports: &[KernelReport], limits: &Limits) -> Vec<GateFault> {
    let mut faults = Vec::new();
    for report in reports {
        let kernel = || report.kernel.clone();
        if report.registers == 0 {
            faults.push(GateFault::NotReported { kernel: kernel() });
        }
        let (store_bytes, load_bytes) = (report.spill_store_bytes, report.spill_load_bytes);
        if store_bytes.saturating_add(load_bytes) > limits.spill_bytes {
            faults.push(GateFault::Spill { kernel: kernel(), store_bytes, load_bytes });
        }
        if let Some(limit_bytes) = limits.stack_bytes.filter(|limit| report.stack_bytes > *limit) {
            faults.push(GateFault::Stack { kernel: kernel(), got_bytes: report.stack_bytes, limit_bytes });
        }
        let (got_bytes, limit_bytes) = (report.static_smem_bytes, limits.static_smem_bytes);
        if got_bytes > limit_bytes {
            faults.push(GateFault::StaticSmem { kernel: kernel(), got_bytes, limit_bytes });
        }
        faults.extend(report.notes.iter().map(|note| GateFault::Note { kernel: kernel(), note: note.clone() }));
    }
    faults
}

/// The reports of all kernels in `ptx`, in its order, filled from the assembler's `log`.
pub(crate) fn read(ptx: &str, log: &str) -> Vec<KernelReport> {
    let mut reports: Vec<KernelReport> =
        entries(ptx).map(|kernel| KernelReport { kernel: kernel.to_owned(), ..KernelReport::default() }).collect();
    let mut current = None;
    for line in log.lines() {
        if let Some(name) = quoted_after(line, "Compiling entry function '") {
            current = reports.iter().position(|report| report.kernel == name);
        } else if let Some(text) = note(line) {
            let function = quoted_after(line, "function '");
            let is_entry = reports.iter().any(|report| Some(report.kernel.as_str()) == function);
            // A note about a function that is no kernel concerns whoever calls it, and the log does not say who.
            for report in reports.iter_mut().filter(|report| !is_entry || Some(report.kernel.as_str()) == function) {
                report.notes.push(text.to_owned());
            }
        } else if let Some(report) = current.and_then(|at| reports.get_mut(at)) {
            figures(line, report);
        }
    }
    reports
}

/// Adds the figures of one line: those of a called function follow the kernel's own.
fn figures(line: &str, report: &mut KernelReport) {
    let before = |unit: &str| number_before(line, unit);
    report.spill_store_bytes = report.spill_store_bytes.saturating_add(before(" bytes spill stores").unwrap_or(0));
    report.spill_load_bytes = report.spill_load_bytes.saturating_add(before(" bytes spill loads").unwrap_or(0));
    let stack = before(" bytes stack frame").max(before(" bytes cumulative stack size")).unwrap_or(0);
    report.stack_bytes = report.stack_bytes.max(stack);
    report.registers = report.registers.max(before(" registers").unwrap_or(0));
    report.static_smem_bytes = report.static_smem_bytes.max(before(" bytes smem").unwrap_or(0));
}

fn note(line: &str) -> Option<&str> {
    let is_note = line.contains("Potential Performance Loss") || line.contains("is injected");
    let text = line.split_once(" : ").map_or(line, |(_, text)| text);
    is_note.then(|| text.trim())
}

fn entries(ptx: &str) -> impl Iterator<Item = &str> {
    ptx.lines().filter_map(|line| {
        let words = line.trim().strip_prefix(".visible ").or_else(|| line.trim().strip_prefix(".weak "));
        let rest = words.unwrap_or(line.trim()).strip_prefix(".entry ")?;
        rest.split(['(', ' ']).next().filter(|name| !name.is_empty())
    })
}

fn quoted_after<'a>(line: &'a str, marker: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(marker)?;
    rest.split_once('\'').map(|(name, _)| name)
}

fn number_before(line: &str, unit: &str) -> Option<u32> {
    let (head, _) = line.split_once(unit)?;
    head.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTX: &str = ".visible .entry a(\n)\n{\n}\n.weak .entry b()\n{}\n.entry c()\n{}\n.func d()\n";
    const LOG: &str = "\
ptxas info    : (C7519) warpgroup.arrive is injected in around line 43 by compiler to allow use of registers in GMMA in function 'b'
ptxas info    : (C7511) Potential Performance Loss: wgmma.mma_async instructions are serialized in the function 'd'
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'a' for 'sm_80'
ptxas info    : Function properties for a
ptxas         .     520 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 32 registers, used 0 barriers, 528 bytes cumulative stack size, 50000 bytes smem, 372 bytes cmem[0]
ptxas info    : Function properties for d
ptxas         .     0 bytes stack frame, 772 bytes spill stores, 816 bytes spill loads
ptxas info    : Compiling entry function 'b' for 'sm_80'
ptxas info    : Function properties for b
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers
";

    #[test]
    fn figures_and_notes_reach_their_kernels() {
        let reports = read(PTX, LOG);
        assert_eq!(reports.iter().map(|report| report.kernel.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        let a = &reports[0];
        assert_eq!((a.registers, a.spill_store_bytes, a.spill_load_bytes), (32, 776, 824));
        assert_eq!((a.stack_bytes, a.static_smem_bytes, a.notes.len()), (528, 50000, 1));
        assert_eq!(reports[1].notes.len(), 2);
        assert_eq!((reports[1].registers, reports[1].spill_load_bytes), (8, 0));
    }

    #[test]
    fn the_gate_names_every_fault_and_unreported_kernels() {
        let faults = gate(&read(PTX, LOG), &Limits { stack_bytes: Some(0), ..Limits::default() });
        let of = |name: &str| faults.iter().filter(|fault| fault.to_string().contains(&format!("`{name}`"))).count();
        assert_eq!((of("a"), of("b")), (4, 2));
        assert!(faults.contains(&GateFault::NotReported { kernel: "c".to_owned() }));
        assert!(gate(&[KernelReport { registers: 8, ..KernelReport::default() }], &Limits::default()).is_empty());
    }
}
