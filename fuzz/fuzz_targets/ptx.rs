//! PTX text, as bundles hold it and the emulated device reads it.

#![no_main]

use enel_emulator::Module;
use enel_fuzz::bounded;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    bounded(input, || drop(Module::parse(text)));
});
