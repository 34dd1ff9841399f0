//! How does the host run kernels? Native faces over aligned host memory, safe slices all the way.

use super::{Arg, Backend, BufferId, KernelId, Slice, Slots};
use crate::cpu::{AlignedBytes, CpuArg, CpuError, CpuKernel, CpuThreads};
use crate::error::DeviceError;
use enel_bundle::{Access, Bundle};

/// The host as a device.
pub(super) struct CpuDevice {
    threads: CpuThreads,
    buffers: Slots<AlignedBytes>,
    kernels: Vec<Loaded>,
}

/// A kernel's parts, which run one after the other: each spreads over all threads by itself.
struct Loaded {
    name: String,
    parts: Vec<CpuKernel>,
}

impl CpuDevice {
    /// 0 threads means one per core.
    pub(super) fn open(threads: usize) -> Result<CpuDevice, DeviceError> {
        let failed = |source| DeviceError::Cpu { kernel: String::new(), source };
        let threads = CpuThreads::new(threads).map_err(failed)?;
        Ok(CpuDevice { threads, buffers: Slots::new(), kernels: Vec::new() })
    }

    fn bytes(&mut self, slice: Slice) -> Result<&mut [u8], DeviceError> {
        let id = slice.buffer.0;
        let unknown = DeviceError::Unknown { what: "buffer", id };
        let buffer = self.buffers.0.get_mut(id as usize).and_then(Option::as_mut);
        buffer.and_then(|b| part(b, slice)).ok_or(unknown)
    }
}

fn part(buffer: &mut [u8], slice: Slice) -> Option<&mut [u8]> {
    let end = slice.offset_bytes.checked_add(slice.size_bytes)?;
    buffer.get_mut(slice.offset_bytes..end)
}

impl Backend for CpuDevice {
    fn name(&self) -> String {
        format!("cpu ({} threads)", self.threads.count())
    }

    fn allocate(&mut self, size_bytes: usize) -> Result<BufferId, DeviceError> {
        let bytes = AlignedBytes::zeroed(size_bytes).map_err(|_| DeviceError::OutOfMemory { size_bytes })?;
        Ok(BufferId(self.buffers.insert(bytes)))
    }

    fn free(&mut self, buffer: BufferId) {
        drop(self.buffers.take(buffer.0));
    }

    fn upload(&mut self, to: Slice, bytes: &[u8]) -> Result<(), DeviceError> {
        let target = self.bytes(to)?;
        if target.len() != bytes.len() {
            return Err(DeviceError::Ranges { first: 0, second: 1 });
        }
        target.copy_from_slice(bytes);
        Ok(())
    }

    fn download(&mut self, from: Slice, bytes: &mut [u8]) -> Result<(), DeviceError> {
        let source = self.bytes(from)?;
        if source.len() != bytes.len() {
            return Err(DeviceError::Ranges { first: 0, second: 1 });
        }
        bytes.copy_from_slice(source);
        Ok(())
    }

    fn copy(&mut self, from: Slice, to: Slice) -> Result<(), DeviceError> {
        let args = [Arg { slice: from, access: Access::Read }, Arg { slice: to, access: Access::Write }];
        with_args(&mut self.buffers, &args, |args| match args {
            [CpuArg::Read(from), CpuArg::Write(to)] if from.len() == to.len() => {
                to.copy_from_slice(from);
                Ok(())
            }
            _ => Err(DeviceError::Ranges { first: 0, second: 1 }),
        })
    }

    fn fill(&mut self, slice: Slice, byte: u8) -> Result<(), DeviceError> {
        self.bytes(slice)?.fill(byte);
        Ok(())
    }

    fn load(&mut self, bundle: &Bundle, kernel: usize) -> Result<KernelId, DeviceError> {
        let id = kernel as u32;
        let kernel = bundle.kernels.get(kernel).ok_or(DeviceError::Unknown { what: "kernel", id })?;
        let failed = |source| DeviceError::Cpu { kernel: kernel.name.clone(), source };
        let parts = kernel.descs().map(CpuKernel::prepare).collect::<Result<_, _>>().map_err(failed)?;
        self.kernels.push(Loaded { name: kernel.name.clone(), parts });
        Ok(KernelId(self.kernels.len() as u32 - 1))
    }

    fn launch(&mut self, kernel: KernelId, args: &[Arg], dynamics: &[i64]) -> Result<(), DeviceError> {
        let id = kernel.0;
        let Loaded { name, parts } =
            self.kernels.get(id as usize).ok_or(DeviceError::Unknown { what: "kernel", id })?;
        let failed = |source: CpuError| DeviceError::Cpu { kernel: name.clone(), source };
        let threads = &self.threads;
        with_args(&mut self.buffers, args, |args| {
            let (mut args, mut dynamics) = (args, dynamics);
            for (at, part) in parts.iter().enumerate() {
                // The last part is given all that is left, so that it notices arguments too many.
                let is_last = at + 1 == parts.len();
                let n_args = if is_last { args.len() } else { part.n_buffers().min(args.len()) };
                let n_dynamics = if is_last { dynamics.len() } else { part.n_dynamics().min(dynamics.len()) };
                let (own, rest) = args.split_at_mut(n_args);
                let (sizes, after) = dynamics.split_at(n_dynamics);
                part.run(own, sizes, threads).map_err(failed)?;
                (args, dynamics) = (rest, after);
            }
            Ok(())
        })
    }

    fn together(&mut self, work: &mut (dyn FnMut(&mut dyn Backend) + Send)) {
        self.threads.clone().inside(|| work(self));
    }

    fn synchronize(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

/// Lends the arguments' bytes to `f`: written ranges alone, read ranges as often as they are named.
fn with_args(
    buffers: &mut Slots<AlignedBytes>,
    args: &[Arg],
    f: impl FnOnce(&mut [CpuArg<'_>]) -> Result<(), DeviceError>,
) -> Result<(), DeviceError> {
    // Taking the allocations out of their slots is what lets them be split independently.
    let mut taken: Vec<(u32, AlignedBytes)> = Vec::with_capacity(args.len());
    for arg in args {
        let id = arg.slice.buffer.0;
        if let Some(bytes) = buffers.take(id) {
            taken.push((id, bytes));
        }
    }
    let mut lent: Vec<Option<CpuArg<'_>>> = args.iter().map(|_| None).collect();
    let mut order: Vec<usize> = (0..args.len()).collect();
    order.sort_by_key(|at| (args[*at].slice, *at));
    let split = taken.iter_mut().try_for_each(|(id, bytes)| {
        let mine: Vec<usize> = order.iter().copied().filter(|at| args[*at].slice.buffer.0 == *id).collect();
        split_one(bytes, args, &mine, &mut lent)
    });
    let result = split.and_then(|()| {
        let missing = lent.iter().position(Option::is_none);
        if let Some(at) = missing {
            return Err(DeviceError::Unknown { what: "buffer", id: args[at].slice.buffer.0 });
        }
        let mut lent: Vec<CpuArg<'_>> = lent.into_iter().flatten().collect();
        f(&mut lent)
    });
    for (id, bytes) in taken {
        buffers.put_back(id, bytes);
    }
    result
}

/// Splits one allocation into the ranges of the arguments `mine`, which are sorted by range.
fn split_one<'a>(
    bytes: &'a mut [u8],
    args: &[Arg],
    mine: &[usize],
    lent: &mut [Option<CpuArg<'a>>],
) -> Result<(), DeviceError> {
    let written = mine.iter().any(|at| args[*at].access != Access::Read);
    if !written {
        // Nothing is written here, so ranges may overlap freely.
        let bytes: &'a [u8] = bytes;
        for &at in mine {
            let Slice { buffer, offset_bytes, size_bytes } = args[at].slice;
            let range = offset_bytes.checked_add(size_bytes).and_then(|end| bytes.get(offset_bytes..end));
            let range = range.ok_or(DeviceError::Unknown { what: "buffer", id: buffer.0 })?;
            lent[at] = Some(CpuArg::Read(range));
        }
        return Ok(());
    }
    let mut rest = bytes;
    let mut rest_at = 0;
    // The last range read, which the next argument may name again.
    let mut last: Option<(usize, &'a [u8])> = None;
    for &at in mine {
        let Arg { slice, access } = args[at];
        if let Some((first, range)) = last
            && access == Access::Read
            && args[first].slice == slice
        {
            lent[at] = Some(CpuArg::Read(range));
            continue;
        }
        if slice.size_bytes == 0 {
            lent[at] = Some(if access == Access::Read { CpuArg::Read(&[]) } else { CpuArg::Write(&mut []) });
            continue;
        }
        let overlap = DeviceError::Ranges { first: last.map_or(at, |(first, _)| first), second: at };
        let skip = slice.offset_bytes.checked_sub(rest_at).ok_or(overlap)?;
        let tail = rest.split_at_mut_checked(skip).and_then(|(_, tail)| tail.split_at_mut_checked(slice.size_bytes));
        let (range, tail) = tail.ok_or(DeviceError::Unknown { what: "buffer", id: slice.buffer.0 })?;
        rest = tail;
        rest_at = slice.offset_bytes + slice.size_bytes;
        if access == Access::Read {
            let range: &'a [u8] = range;
            last = Some((at, range));
            lent[at] = Some(CpuArg::Read(range));
        } else {
            last = None;
            lent[at] = Some(CpuArg::Write(range));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(buffer: u32, offset_bytes: usize, size_bytes: usize) -> Slice {
        Slice { buffer: BufferId(buffer), offset_bytes, size_bytes }
    }

    fn args(parts: &[(Slice, Access)]) -> Vec<Arg> {
        parts.iter().map(|(slice, access)| Arg { slice: *slice, access: *access }).collect()
    }

    /// Runs `with_args` on two buffers of 100 bytes, each byte its own position; gives the lent lengths.
    fn lend(parts: &[(Slice, Access)]) -> Result<Vec<(bool, usize, u8)>, DeviceError> {
        let mut buffers = Slots::new();
        for _ in 0..2 {
            let numbers: Vec<u8> = (0..100).collect();
            buffers.insert(AlignedBytes::copy_of(&numbers).unwrap());
        }
        let mut seen = Vec::new();
        let result = with_args(&mut buffers, &args(parts), |args| {
            for arg in args {
                seen.push(match arg {
                    CpuArg::Read(b) => (false, b.len(), b.first().copied().unwrap_or(0)),
                    CpuArg::Write(b) => (true, b.len(), b.first().copied().unwrap_or(0)),
                });
            }
            Ok(())
        });
        assert!(buffers.get(0).is_some() && buffers.get(1).is_some(), "what was taken is put back");
        result.map(|()| seen)
    }

    #[test]
    fn arguments_are_lent_in_their_order() {
        use Access::{Read, Update, Write};
        let got = lend(&[
            (slice(0, 50, 10), Write),
            (slice(1, 0, 100), Read),
            (slice(0, 0, 20), Read),
            (slice(0, 0, 20), Read),
            (slice(0, 20, 30), Update),
            (slice(1, 10, 20), Read),
            (slice(0, 60, 0), Read),
        ]);
        let expected = [
            (true, 10, 50),
            (false, 100, 0),
            (false, 20, 0),
            (false, 20, 0),
            (true, 30, 20),
            (false, 20, 10),
            (false, 0, 0),
        ];
        assert_eq!(got.unwrap(), expected);
    }

    #[test]
    fn overlapping_writes_and_wild_ranges_are_refused() {
        use Access::{Read, Write};
        assert!(matches!(
            lend(&[(slice(0, 0, 20), Read), (slice(0, 10, 20), Write)]),
            Err(DeviceError::Ranges { first: 0, second: 1 })
        ));
        assert!(matches!(lend(&[(slice(0, 0, 9), Write), (slice(0, 0, 9), Write)]), Err(DeviceError::Ranges { .. })));
        assert!(matches!(lend(&[(slice(0, 0, 9), Write), (slice(0, 0, 9), Read)]), Err(DeviceError::Ranges { .. })));
        assert!(matches!(lend(&[(slice(0, 90, 11), Write)]), Err(DeviceError::Unknown { .. })));
        assert!(matches!(lend(&[(slice(0, usize::MAX, 2), Read)]), Err(DeviceError::Unknown { .. })));
        assert!(matches!(lend(&[(slice(7, 0, 1), Read)]), Err(DeviceError::Unknown { id: 7, .. })));
    }
}
