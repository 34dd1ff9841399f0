//! How do kernels see memory? Typed slices to read, relaxed atomics to write, an aligned allocation.
//!
//! Law: a Desc promises that stores hit distinct elements, but a broken Desc may lie. Written buffers are therefore
//! arrays of relaxed atomics: on every target we know such a store is the plain instruction, and a lie gives a wrong
//! number instead of undefined behaviour.

use super::error::CpuError;
use enel_bundle::{Access, BufferRole};
use enel_types::DType;
use half::{bf16, f16};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

/// One buffer argument of a call.
#[derive(Debug)]
pub enum CpuArg<'a> {
    /// A buffer the kernel reads; may overlap other read buffers.
    Read(&'a [u8]),
    /// A buffer the kernel writes.
    Write(&'a mut [u8]),
}

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Block([u8; 64]);

// SAFETY: an array of bytes without padding (size equals alignment); all zeros is a value.
unsafe impl bytemuck::Zeroable for Block {}
// SAFETY: as above; every bit pattern is a value, and the type is Copy and 'static.
unsafe impl bytemuck::Pod for Block {}

/// Bytes aligned to a cache line, zero at first.
pub struct AlignedBytes {
    blocks: Vec<Block>,
    len: usize,
}

impl AlignedBytes {
    /// `len` zero bytes; the system hands out the pages when they are first touched.
    ///
    /// # Errors
    /// [`CpuError::OutOfMemory`].
    pub fn zeroed(len: usize) -> Result<AlignedBytes, CpuError> {
        let blocks = bytemuck::allocation::try_zeroed_vec(len.div_ceil(size_of::<Block>()));
        Ok(AlignedBytes { blocks: blocks.map_err(|()| CpuError::OutOfMemory { bytes: len })?, len })
    }

    /// A copy of `bytes`.
    ///
    /// # Errors
    /// [`CpuError::OutOfMemory`].
    pub fn copy_of(bytes: &[u8]) -> Result<AlignedBytes, CpuError> {
        let mut copy = AlignedBytes::zeroed(bytes.len())?;
        copy.copy_from_slice(bytes);
        Ok(copy)
    }
}

impl std::ops::Deref for AlignedBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.blocks)[..self.len]
    }
}

impl std::ops::DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.blocks)[..self.len]
    }
}

impl std::fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBytes({} B)", self.len)
    }
}

/// A buffer as programs read it.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
    F16(&'a [f16]),
    I64(&'a [i64]),
    I32(&'a [i32]),
    U32(&'a [u32]),
    U8(&'a [u8]),
    Bool(&'a [u8]),
    /// Written buffers, which programs read through their targets, if at all.
    None,
}

/// A buffer as families write it.
#[derive(Clone, Copy)]
pub(crate) enum Target<'a> {
    W8(&'a [AtomicU8]),
    W16(&'a [AtomicU16]),
    W32(&'a [AtomicU32]),
    W64(&'a [AtomicU64]),
    /// A buffer that is only read.
    None,
}

/// One argument, checked and typed.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) dtype: DType,
    pub(crate) source: Source<'a>,
    pub(crate) target: Target<'a>,
    pub(crate) len: usize,
}

macro_rules! as_atomics {
    ($name:ident, $plain:ty, $atomic:ty) => {
        fn $name(bytes: &mut [u8]) -> Option<&[$atomic]> {
            let words: &mut [$plain] = bytemuck::try_cast_slice_mut(bytes).ok()?;
            let words: *mut [$plain] = words;
            // SAFETY: the atomic has the size, alignment (checked by the cast above) and bit validity of the plain
            // integer, and the exclusive borrow the pointer comes from lasts as long as the result.
            Some(unsafe { &*(words as *const [$atomic]) })
        }
    };
}
as_atomics!(atomics8, u8, AtomicU8);
as_atomics!(atomics16, u16, AtomicU16);
as_atomics!(atomics32, u32, AtomicU32);
as_atomics!(atomics64, u64, AtomicU64);

/// Types the arguments of a call.
pub(crate) fn views<'a>(roles: &[BufferRole], args: &'a mut [CpuArg<'_>]) -> Result<Vec<View<'a>>, CpuError> {
    if roles.len() != args.len() {
        return Err(CpuError::BufferCount { expected: roles.len(), got: args.len() });
    }
    roles.iter().zip(args).enumerate().map(|(at, (role, arg))| view(at, role, arg)).collect()
}

fn view<'a>(buffer: usize, role: &BufferRole, arg: &'a mut CpuArg<'_>) -> Result<View<'a>, CpuError> {
    let dtype = role.dtype;
    let bytes = match arg {
        CpuArg::Read(bytes) => bytes.len(),
        CpuArg::Write(bytes) => bytes.len(),
    };
    let len = bytes / dtype.size_bytes();
    let view = match (role.access, arg) {
        (Access::Read, CpuArg::Read(bytes)) => source(dtype, bytes).map(|source| (source, Target::None)),
        (Access::Read, CpuArg::Write(bytes)) => source(dtype, bytes).map(|source| (source, Target::None)),
        (Access::Write | Access::Update, CpuArg::Write(bytes)) => target(dtype, bytes).map(|t| (Source::None, t)),
        (Access::Write | Access::Update, CpuArg::Read(_)) => return Err(CpuError::ReadOnly { buffer }),
    };
    let (source, target) = view.ok_or(CpuError::Layout { buffer, bytes, dtype })?;
    Ok(View { dtype, source, target, len })
}

fn source(dtype: DType, bytes: &[u8]) -> Option<Source<'_>> {
    use bytemuck::try_cast_slice as cast;
    match dtype {
        DType::F32 => cast(bytes).ok().map(Source::F32),
        DType::BF16 => cast(bytes).ok().map(Source::Bf16),
        DType::F16 => cast(bytes).ok().map(Source::F16),
        DType::I64 => cast(bytes).ok().map(Source::I64),
        DType::I32 => cast(bytes).ok().map(Source::I32),
        DType::U32 => cast(bytes).ok().map(Source::U32),
        DType::U8 => Some(Source::U8(bytes)),
        DType::Bool => Some(Source::Bool(bytes)),
    }
}

fn target(dtype: DType, bytes: &mut [u8]) -> Option<Target<'_>> {
    match dtype.size_bytes() {
        1 => atomics8(bytes).map(Target::W8),
        2 => atomics16(bytes).map(Target::W16),
        4 => atomics32(bytes).map(Target::W32),
        _ => atomics64(bytes).map(Target::W64),
    }
}

/// Bits of an f32 stored as bf16, ties to even.
#[inline(always)]
pub(crate) fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet = (bits >> 16) | 0x40;
    (if x.is_nan() { quiet } else { rounded }) as u16
}

impl View<'_> {
    /// The element at `index` of a written float buffer.
    #[inline(always)]
    pub(crate) fn get_float(&self, index: usize) -> f32 {
        match (self.dtype, self.target) {
            (DType::F32, Target::W32(cells)) => f32::from_bits(cells[index].load(Relaxed)),
            (DType::BF16, Target::W16(cells)) => bf16::from_bits(cells[index].load(Relaxed)).to_f32(),
            (DType::F16, Target::W16(cells)) => f16::from_bits(cells[index].load(Relaxed)).to_f32(),
            _ => 0.0,
        }
    }

    /// Replaces an element of a written float buffer.
    #[inline(always)]
    pub(crate) fn set_float(&self, index: usize, value: f32) {
        match (self.dtype, self.target) {
            (DType::F32, Target::W32(cells)) => cells[index].store(value.to_bits(), Relaxed),
            (DType::BF16, Target::W16(cells)) => cells[index].store(bf16_bits(value), Relaxed),
            (DType::F16, Target::W16(cells)) => cells[index].store(f16::from_f32(value).to_bits(), Relaxed),
            _ => {}
        }
    }

    /// The element at `index` of a written integer or bool buffer.
    #[inline(always)]
    pub(crate) fn get_int(&self, index: usize) -> i64 {
        match (self.dtype, self.target) {
            (_, Target::W64(cells)) => cells[index].load(Relaxed) as i64,
            (DType::I32, Target::W32(cells)) => i64::from(cells[index].load(Relaxed) as i32),
            (_, Target::W32(cells)) => i64::from(cells[index].load(Relaxed)),
            (_, Target::W8(cells)) => i64::from(cells[index].load(Relaxed)),
            _ => 0,
        }
    }

    /// Replaces an element of a written integer or bool buffer, wrapping to its width.
    #[inline(always)]
    pub(crate) fn set_int(&self, index: usize, value: i64) {
        match self.target {
            Target::W64(cells) => cells[index].store(value as u64, Relaxed),
            Target::W32(cells) => cells[index].store(value as u32, Relaxed),
            Target::W8(cells) => cells[index].store(value as u8, Relaxed),
            Target::W16(_) | Target::None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounding_is_that_of_the_half_crate() {
        for step in 0..200_003u64 {
            let x = f32::from_bits((step * 21_475) as u32);
            assert_eq!(bf16_bits(x), bf16::from_f32(x).to_bits(), "{x:e}");
        }
    }

    #[test]
    fn aligned_bytes_are_aligned_and_zero() {
        let b = AlignedBytes::zeroed(130).unwrap();
        assert_eq!((b.len(), b.as_ptr() as usize % 64), (130, 0));
        assert!(b.iter().all(|x| *x == 0));
    }
}
