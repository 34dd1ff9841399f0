//! Meshes of every format, with materials beside; the first byte chooses the name, NUL bytes divide a text's files.

#![no_main]

use enel_fuzz::points::{MESHES, load};
use enel_fuzz::{bounded, file, parts};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else { return };
    let ending = MESHES[usize::from(*choice) % MESHES.len()];
    bounded(input, || {
        if ending == "obj" {
            let [mesh, materials, texture] = parts(bytes);
            file("m.mtl", materials);
            file("t.png", texture);
            load(mesh, ending);
        } else {
            load(bytes, ending);
        }
    });
});
