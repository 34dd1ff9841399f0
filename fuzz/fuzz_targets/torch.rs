//! PyTorch files: whole archives, and pickled parts in an archive that is sound.

#![no_main]

use enel_fuzz::archive::archive;
use enel_fuzz::{bounded, file, read_weights};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    bounded(input, || {
        if input.starts_with(b"PK") {
            read_weights(&file("w.bin", input));
        } else {
            read_weights(&file("w.bin", &archive(&[("m/data.pkl", input), ("m/data/0", &[0; 256])])));
        }
    });
});
