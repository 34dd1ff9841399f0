//! Clouds of every format; the first byte chooses the name, which decides where the content does not.

#![no_main]

use enel_fuzz::bounded;
use enel_fuzz::points::{CLOUDS, load};
use enel_io::npy::NpyArray;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else { return };
    let ending = CLOUDS[usize::from(*choice) % CLOUDS.len()];
    bounded(input, || {
        load(bytes, ending);
        if ending == "npy" {
            let shape = NpyArray::parse_shape(bytes);
            if let Ok(array) = NpyArray::parse(bytes) {
                assert_eq!(shape.ok().as_deref(), Some(array.shape()));
                assert_eq!(array.to_f32().len(), array.shape().iter().product::<usize>());
            }
        }
    });
});
