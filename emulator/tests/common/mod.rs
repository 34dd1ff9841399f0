//! One place where tests touch the API: typed buffers, launches, fixtures.
#![allow(dead_code, clippy::unwrap_used, reason = "each suite uses a part; a failed test may panic")]

use enel_emulator::{Arg, Launch, LaunchError, Memory, Module, Options, Stats, launch};

pub(crate) struct Gpu {
    pub(crate) memory: Memory,
    pub(crate) module: Module,
    pub(crate) options: Options,
}

/// Plain values that can lie in device memory.
pub(crate) trait Plain: Copy {
    const BYTES: usize;
    fn put(self, out: &mut Vec<u8>);
    fn take(bytes: &[u8]) -> Self;
}

macro_rules! plain {
    ($($ty:ty),*) => {$(
        impl Plain for $ty {
            const BYTES: usize = size_of::<$ty>();
            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(bytes: &[u8]) -> Self {
                <$ty>::from_le_bytes(bytes.try_into().unwrap())
            }
        }
    )*};
}
plain!(u8, u16, u32, u64, i32, i64, f32, f64);

pub(crate) fn fixture(name: &str) -> String {
    let path = format!("{}/tests/fixtures/{name}.nvrtc-13.0.88.ptx", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

impl Gpu {
    pub(crate) fn new(ptx: &str) -> Self {
        let module = Module::parse(ptx).unwrap_or_else(|e| panic!("{e}"));
        Gpu { memory: Memory::new(), module, options: Options::default() }
    }

    pub(crate) fn upload<T: Plain>(&mut self, values: &[T]) -> u64 {
        let mut bytes = Vec::new();
        values.iter().for_each(|v| v.put(&mut bytes));
        let address = self.memory.alloc(bytes.len()).unwrap();
        self.memory.write(address, &bytes).unwrap();
        address
    }

    pub(crate) fn empty<T: Plain>(&mut self, n: usize) -> u64 {
        self.memory.alloc(n * T::BYTES).unwrap()
    }

    pub(crate) fn download<T: Plain>(&self, address: u64, n: usize) -> Vec<T> {
        let mut bytes = vec![0; n * T::BYTES];
        self.memory.read(address, &mut bytes).unwrap();
        bytes.chunks(T::BYTES).map(T::take).collect()
    }

    pub(crate) fn try_run(
        &mut self,
        entry: &str,
        grid: [u32; 3],
        block: [u32; 3],
        smem: u32,
        args: &[Arg],
    ) -> Result<Stats, LaunchError> {
        launch(
            &self.module,
            &mut self.memory,
            &Launch { entry, grid, block, cluster: None, dynamic_smem_bytes: smem, args },
            &self.options,
        )
    }

    pub(crate) fn run(&mut self, entry: &str, grid: u32, block: u32, args: &[Arg]) -> Stats {
        self.try_run(entry, [grid, 1, 1], [block, 1, 1], 0, args).unwrap_or_else(|e| panic!("{e}"))
    }
}

/// A small deterministic stream of numbers (xorshift64*, Vigna 2016).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in `-1..1`.
    pub(crate) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub(crate) fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }
}

pub(crate) const SEEDS: [u64; 3] = [0, 1, 0xfeed];
