//! What does the emulated device remember? Global memory: allocations far apart, every byte tracked.
//!
//! An address is a slot number and an offset, so finding an allocation is one shift, and a pointer that leaves its
//! allocation never lands in another one. Words are atomics: blocks on several host threads may share them safely.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::MemoryError;
use crate::machine::print::Printed;

/// Generic addresses carry their space in the top byte; 0 is global.
pub(crate) const SHARED_TAG: u64 = 1 << 56;
pub(crate) const LOCAL_TAG: u64 = 2 << 56;
pub(crate) const PARAM_TAG: u64 = 3 << 56;
/// Not memory: pointers to functions.
pub(crate) const FUNCTION_TAG: u64 = 4 << 56;
pub(crate) const TAG_MASK: u64 = 0xff << 56;

/// Distance of two allocations, as a shift.
const SLOT_BITS: u32 = 34;
/// Largest allocation: the rest of a slot is guard.
const MAX_BYTES: u64 = (1 << SLOT_BITS) - (1 << 20);
/// Slots below the tag byte.
const MAX_SLOTS: usize = 1 << (56 - SLOT_BITS);
/// Heap of a device (CUDA programming guide, heap memory allocation: 8 MB unless set).
const HEAP_BYTES: u64 = 8 << 20;
/// What fresh memory holds: a NaN, so unwritten data shows even when nobody checks.
const POISON: u32 = 0xffff_ffff;

/// One live allocation.
#[derive(Debug)]
pub(crate) struct Allocation {
    pub(crate) bytes: u64,
    pub(crate) words: Box<[AtomicU32]>,
    /// One bit per byte of a word: written.
    pub(crate) written: Box<[AtomicU8]>,
}

#[derive(Debug)]
enum Slot {
    /// Never given out.
    Null,
    Live(Allocation),
    /// What the allocation had, in bytes.
    Freed(u64),
}

/// Where `malloc` of a kernel takes from. Nothing is ever given out twice.
#[derive(Debug)]
struct Heap {
    start: u64,
    objects: Mutex<Objects>,
}

#[derive(Debug, Default)]
struct Objects {
    /// Bytes taken.
    taken: u64,
    /// By where they begin: bytes, and whether they are still there.
    all: BTreeMap<u64, (u64, bool)>,
}

/// Global memory of an emulated device.
#[derive(Debug)]
pub struct Memory {
    slots: Vec<Slot>,
    /// Addresses of the variables of each module that was launched.
    pub(crate) modules: HashMap<u64, Vec<u64>>,
    /// Serialises 64-bit atomics with each other.
    pub(crate) wide_lock: Mutex<()>,
    heap: Option<Heap>,
    /// What kernels have printed.
    printed: Mutex<Printed>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

type Done<T = ()> = Result<T, MemoryError>;

impl Memory {
    /// An empty memory.
    pub fn new() -> Self {
        // Slot 0 stays empty, so null and small integers are never valid addresses.
        Memory {
            slots: vec![Slot::Null],
            modules: HashMap::new(),
            wide_lock: Mutex::new(()),
            heap: None,
            printed: Mutex::default(),
        }
    }

    /// Allocates `bytes` and returns the address, a multiple of 256. The content counts as never written.
    ///
    /// # Errors
    /// [`MemoryError::TooLarge`].
    pub fn alloc(&mut self, bytes: usize) -> Result<u64, MemoryError> {
        let (size, limit_bytes) = (bytes as u64, MAX_BYTES);
        let n_words = bytes.div_ceil(4);
        let mut words = Vec::new();
        let mut written = Vec::new();
        let fits = size <= MAX_BYTES
            && self.slots.len() < MAX_SLOTS
            && words.try_reserve_exact(n_words).is_ok()
            && written.try_reserve_exact(n_words).is_ok();
        if !fits {
            return Err(MemoryError::TooLarge { bytes: size, limit_bytes });
        }
        words.resize_with(n_words, || AtomicU32::new(POISON));
        written.resize_with(n_words, || AtomicU8::new(0));
        self.slots.push(Slot::Live(Allocation { bytes: size, words: words.into(), written: written.into() }));
        Ok((self.slots.len() as u64 - 1) << SLOT_BITS)
    }

    /// Frees the allocation that starts at `address`. Its addresses are never used again.
    ///
    /// # Errors
    /// [`MemoryError::NotAllocated`].
    pub fn free(&mut self, address: u64) -> Result<(), MemoryError> {
        let slot = (address >> SLOT_BITS) as usize;
        let offset = address & ((1 << SLOT_BITS) - 1);
        match self.slots.get_mut(slot) {
            Some(found @ Slot::Live(_)) if offset == 0 => {
                if let Slot::Live(Allocation { bytes, .. }) = *found {
                    *found = Slot::Freed(bytes);
                }
                Ok(())
            }
            _ => Err(MemoryError::NotAllocated { address }),
        }
    }

    /// Copies `data` to `address`.
    ///
    /// # Errors
    /// [`MemoryError::OutOfBounds`].
    pub fn write(&mut self, address: u64, data: &[u8]) -> Result<(), MemoryError> {
        let (allocation, offset) = self.range(address, data.len() as u64)?;
        allocation.write(offset as usize, data);
        Ok(())
    }

    /// Copies from `address` to `data`; unwritten bytes read as `0xff`.
    ///
    /// # Errors
    /// [`MemoryError::OutOfBounds`].
    pub fn read(&self, address: u64, data: &mut [u8]) -> Result<(), MemoryError> {
        let (allocation, offset) = self.range(address, data.len() as u64)?;
        allocation.read(offset as usize, data);
        Ok(())
    }

    /// Sets `bytes` bytes at `address` to `value`.
    ///
    /// # Errors
    /// [`MemoryError::OutOfBounds`].
    pub fn fill(&mut self, address: u64, bytes: usize, value: u8) -> Result<(), MemoryError> {
        let (allocation, offset) = self.range(address, bytes as u64)?;
        let chunk = [value; 256];
        for start in (0..bytes).step_by(chunk.len()) {
            let n = chunk.len().min(bytes - start);
            allocation.write(offset as usize + start, &chunk[..n]);
        }
        Ok(())
    }

    /// Copies `bytes` bytes inside the device; unwritten bytes stay unwritten. Ranges may overlap.
    ///
    /// # Errors
    /// [`MemoryError::OutOfBounds`].
    pub fn copy(&mut self, to: u64, from: u64, bytes: usize) -> Result<(), MemoryError> {
        let (source, from_offset) = self.range(from, bytes as u64)?;
        let mut data = vec![0; bytes];
        source.read(from_offset as usize, &mut data);
        let known: Vec<bool> = (0..bytes).map(|i| source.is_written(from_offset as usize + i, 1)).collect();
        let (target, to_offset) = self.range(to, bytes as u64)?;
        target.write(to_offset as usize, &data);
        for (i, _) in known.iter().enumerate().filter(|(_, known)| !**known) {
            target.forget(to_offset as usize + i);
        }
        Ok(())
    }

    /// Makes `bytes` bytes at `address` what they are in a new allocation: unwritten.
    ///
    /// # Errors
    /// [`MemoryError::OutOfBounds`].
    pub fn forget(&mut self, address: u64, bytes: usize) -> Result<(), MemoryError> {
        self.fill(address, bytes, POISON as u8)?;
        let (allocation, offset) = self.range(address, bytes as u64)?;
        (0..bytes).for_each(|i| allocation.forget(offset as usize + i));
        Ok(())
    }

    /// Whether every one of `bytes` bytes at `address` has been written.
    ///
    /// # Errors
    /// [`MemoryError::OutOfBounds`].
    pub fn is_written(&self, address: u64, bytes: usize) -> Result<bool, MemoryError> {
        let (allocation, offset) = self.range(address, bytes as u64)?;
        Ok((0..bytes).all(|i| allocation.is_written(offset as usize + i, 1)))
    }

    /// Makes room for `malloc`, once.
    pub(crate) fn make_heap(&mut self) -> Result<(), MemoryError> {
        if self.heap.is_none() {
            let start = self.alloc(HEAP_BYTES as usize)?;
            if let Some(Slot::Live(allocation)) = self.slots.last_mut() {
                // Whoever finds nothing there looks among the objects.
                allocation.bytes = 0;
            }
            self.heap = Some(Heap { start, objects: Mutex::default() });
        }
        Ok(())
    }

    /// `malloc` of a kernel: 0 when the heap is full.
    pub(crate) fn take_from_heap(&self, bytes: u64) -> u64 {
        let Some(heap) = &self.heap else { return 0 };
        let mut objects = heap.lock();
        let at = objects.taken;
        match at.checked_add(bytes.max(1)).map(|end| end.next_multiple_of(16)) {
            Some(end) if end <= HEAP_BYTES => {
                objects.taken = end;
                objects.all.insert(heap.start + at, (bytes, true));
                heap.start + at
            }
            _ => 0,
        }
    }

    /// `free` of a kernel; false where nothing that is there begins at `address`.
    pub(crate) fn give_to_heap(&self, address: u64) -> bool {
        let Some(heap) = &self.heap else { return false };
        match heap.lock().all.get_mut(&address) {
            Some((_, is_there)) => std::mem::replace(is_there, false),
            None => false,
        }
    }

    /// The object of the heap that an address lies in: where it begins, its bytes, and whether it is there.
    fn object(&self, address: u64) -> Option<(u64, u64, bool)> {
        let heap = self.heap.as_ref().filter(|heap| Memory::split(heap.start).0 == Memory::split(address).0)?;
        let objects = heap.lock();
        let (&start, &(bytes, is_there)) = objects.all.range(..=address).next_back()?;
        Some((start, bytes, is_there))
    }

    /// Adds what a kernel prints.
    pub(crate) fn print(&self, text: &[u8]) {
        self.printed.lock().unwrap_or_else(|e| e.into_inner()).push(text);
    }

    /// What kernels have printed since the last call, in order; cut after 1 MiB, with a line that says so.
    pub fn take_printed(&mut self) -> String {
        self.printed.get_mut().unwrap_or_else(|e| e.into_inner()).take()
    }

    /// Address and size of variable `name` of `module`, once a kernel of that module has been launched.
    pub fn symbol(&self, module: &crate::Module, name: &str) -> Option<(u64, u64)> {
        let index = module.globals.iter().position(|g| g.name == name)?;
        let address = *self.modules.get(&module.id)?.get(index)?;
        Some((address, module.globals[index].bytes))
    }

    /// Number of the allocation an address points into, and the offset in it.
    #[inline(always)]
    pub(crate) fn split(address: u64) -> (usize, u64) {
        ((address >> SLOT_BITS) as usize, address & ((1 << SLOT_BITS) - 1))
    }

    /// Start of allocation number `slot`.
    pub(crate) fn join(slot: usize) -> u64 {
        (slot as u64) << SLOT_BITS
    }

    /// The allocation holding a whole range, and the offset in it.
    pub(crate) fn find(&self, address: u64, bytes: u64) -> Option<(&Allocation, u64)> {
        let Slot::Live(allocation) = self.slots.get((address >> SLOT_BITS) as usize)? else { return None };
        let offset = address & ((1 << SLOT_BITS) - 1);
        if offset + bytes <= allocation.bytes {
            return Some((allocation, offset));
        }
        let (start, size, is_there) = self.object(address)?;
        (is_there && address + bytes <= start + size).then_some((allocation, offset))
    }

    fn range(&self, address: u64, bytes: u64) -> Done<(&Allocation, u64)> {
        self.find(address, bytes).ok_or_else(|| MemoryError::OutOfBounds {
            address,
            bytes,
            nearest: self.nearest(address),
        })
    }

    /// Whether `address` points into an allocation that is gone.
    pub(crate) fn is_freed(&self, address: u64) -> bool {
        let (slot, offset) = Memory::split(address);
        let is_object = || self.object(address).is_some_and(|(start, bytes, there)| !there && address < start + bytes);
        matches!(self.slots.get(slot), Some(&Slot::Freed(bytes)) if offset < bytes) || is_object()
    }

    /// Describes what `address` points at, for errors.
    pub(crate) fn nearest(&self, address: u64) -> String {
        let slot = (address >> SLOT_BITS) as usize;
        let offset = address & ((1 << SLOT_BITS) - 1);
        if let Some((start, bytes, is_there)) = self.object(address) {
            let end = if is_there { "" } else { ", now freed" };
            return format!("byte {} of the {bytes} B that `malloc` gave at {start:#x}{end}", address - start);
        }
        match self.slots.get(slot) {
            Some(Slot::Live(Allocation { bytes, .. })) => {
                format!("byte {offset} of the allocation of {bytes} B at {:#x}", (slot as u64) << SLOT_BITS)
            }
            Some(Slot::Freed(bytes)) => {
                format!("byte {offset} of the allocation of {bytes} B at {:#x}, now freed", (slot as u64) << SLOT_BITS)
            }
            // A negative offset borrows from the slot number.
            _ if address == 0 => "null".into(),
            _ => "no allocation".into(),
        }
    }
}

impl Heap {
    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Allocation {
    fn write(&self, mut offset: usize, mut data: &[u8]) {
        while !data.is_empty() {
            let lane = offset % 4;
            let n = data.len().min(4 - lane);
            let mut bytes = self.words[offset / 4].load(Relaxed).to_le_bytes();
            bytes[lane..lane + n].copy_from_slice(&data[..n]);
            self.words[offset / 4].store(u32::from_le_bytes(bytes), Relaxed);
            self.written[offset / 4].fetch_or((((1u32 << n) - 1) << lane) as u8, Relaxed);
            offset += n;
            data = &data[n..];
        }
    }

    fn read(&self, mut offset: usize, mut data: &mut [u8]) {
        while !data.is_empty() {
            let lane = offset % 4;
            let n = data.len().min(4 - lane);
            let bytes = self.words[offset / 4].load(Relaxed).to_le_bytes();
            data[..n].copy_from_slice(&bytes[lane..lane + n]);
            offset += n;
            data = &mut data[n..];
        }
    }

    /// Loads 1, 2, 4 or 8 bytes; the caller has checked the range.
    #[inline(always)]
    pub(crate) fn load(&self, offset: usize, bytes: u32) -> u64 {
        if bytes == 4 && offset.is_multiple_of(4) {
            return u64::from(self.words[offset / 4].load(Relaxed));
        }
        if bytes == 8 && offset.is_multiple_of(4) {
            let lo = self.words[offset / 4].load(Relaxed);
            return u64::from(lo) | u64::from(self.words[offset / 4 + 1].load(Relaxed)) << 32;
        }
        let mut data = [0; 8];
        self.read(offset, &mut data[..bytes as usize]);
        u64::from_le_bytes(data)
    }

    /// Stores 1, 2, 4 or 8 bytes; the caller has checked the range.
    #[inline(always)]
    pub(crate) fn store(&self, offset: usize, bytes: u32, bits: u64) {
        if bytes >= 4 && offset.is_multiple_of(4) {
            for i in 0..(bytes / 4) as usize {
                self.words[offset / 4 + i].store((bits >> (32 * i)) as u32, Relaxed);
                self.written[offset / 4 + i].store(0xf, Relaxed);
            }
            return;
        }
        self.store_bytes(offset, bytes, bits);
    }

    /// Part of a word: other threads may write its neighbours at the same time.
    fn store_bytes(&self, offset: usize, bytes: u32, bits: u64) {
        for i in 0..bytes as usize {
            let (word, shift) = ((offset + i) / 4, (offset + i) % 4 * 8);
            let value = u32::from((bits >> (8 * i)) as u8) << shift;
            // The update never fails: the closure always returns a value.
            let _ = self.words[word].fetch_update(Relaxed, Relaxed, |old| Some(old & !(0xff << shift) | value));
            self.written[word].fetch_or(1 << (shift / 8), Relaxed);
        }
    }

    /// Loads words side by side from an aligned offset; false if `known` and some byte was never written.
    pub(crate) fn load_run(&self, offset: usize, row: &mut [u32], known: bool) -> bool {
        let first = offset / 4;
        for (slot, word) in row.iter_mut().zip(&self.words[first..]) {
            *slot = word.load(Relaxed);
        }
        let all = |marks: &[AtomicU8]| marks.iter().fold(0xf, |acc, w| acc & w.load(Relaxed)) == 0xf;
        !known || all(&self.written[first..first + row.len()])
    }

    /// Stores words side by side at an aligned offset.
    pub(crate) fn store_run(&self, offset: usize, row: &[u32]) {
        let first = offset / 4;
        for (word, value) in self.words[first..].iter().zip(row) {
            word.store(*value, Relaxed);
        }
        for mark in &self.written[first..first + row.len()] {
            mark.store(0xf, Relaxed);
        }
    }

    /// Whether all of up to 16 bytes have been written.
    #[inline(always)]
    pub(crate) fn is_written(&self, offset: usize, bytes: u32) -> bool {
        if bytes >= 4 && offset.is_multiple_of(4) && bytes.is_multiple_of(4) {
            return (0..(bytes / 4) as usize).all(|i| self.written[offset / 4 + i].load(Relaxed) == 0xf);
        }
        (offset..offset + bytes as usize).all(|at| self.written[at / 4].load(Relaxed) >> (at % 4) & 1 == 1)
    }

    fn forget(&self, offset: usize) {
        self.written[offset / 4].fetch_and(!(1 << (offset % 4)), Relaxed);
    }
}
