//! Weights: a safetensors file, and a folder of one with an index before it.

#![no_main]

use enel_fuzz::{bounded, file, folder, parts, read_weights};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    bounded(input, || {
        if input.first() == Some(&b'{') {
            let [index, tensors] = parts(input);
            file("model.safetensors.index.json", index);
            file("a.safetensors", tensors);
            read_weights(folder());
        }
        read_weights(&file("w.safetensors", input));
    });
});
