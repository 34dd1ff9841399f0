//! Are tensors found in files and folders, and are hostile ones refused?

use std::path::Path;

use enel_io::{Dtype, TensorView, Weights, WeightsError, write_safetensors};
use proptest::prelude::*;

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn write(path: &Path, tensors: &[(&str, &[usize], &[f32])]) {
    let tensors: Vec<_> = tensors.iter().map(|(name, shape, values)| (*name, *shape, f32_bytes(values))).collect();
    let views = tensors.iter().map(|(name, shape, bytes)| (*name, TensorView { dtype: Dtype::F32, shape, bytes }));
    write_safetensors(path, views).expect("the tensors are whole");
}

#[test]
fn written_tensors_are_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    write(&path, &[("b", &[2, 2], &[1.0, 2.0, 3.0, 4.0]), ("a", &[], &[5.0]), ("empty", &[0, 7], &[])]);
    for place in [&path, dir.path()] {
        let weights = Weights::open(place).unwrap();
        assert_eq!(weights.names().collect::<Vec<_>>(), ["a", "b", "empty"]);
        let view = weights.view("b").unwrap();
        assert_eq!((view.dtype, view.shape), (Dtype::F32, &[2usize, 2][..]));
        assert_eq!(weights.to_f32("b").unwrap(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(weights.to_f32("a").unwrap(), [5.0]);
        assert!(matches!(weights.view_shaped("b", &[4]), Err(WeightsError::Shape { .. })));
    }
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "no scratch file stays");
}

#[test]
fn narrow_floats_are_widened_and_integers_are_not_floats() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.safetensors");
    let half = half::f16::from_f32(1.5).to_le_bytes();
    let brain = half::bf16::from_f32(-2.0).to_le_bytes();
    let wide = 0.25f64.to_le_bytes();
    let tensors = [
        ("half", TensorView { dtype: Dtype::F16, shape: &[1], bytes: &half }),
        ("brain", TensorView { dtype: Dtype::BF16, shape: &[1], bytes: &brain }),
        ("wide", TensorView { dtype: Dtype::F64, shape: &[1], bytes: &wide }),
        ("int", TensorView { dtype: Dtype::I64, shape: &[1], bytes: &wide }),
    ];
    write_safetensors(&path, tensors).unwrap();
    let weights = Weights::open(&path).unwrap();
    let all = ["half", "brain", "wide"].map(|name| weights.to_f32(name).unwrap()[0]);
    assert_eq!(all, [1.5, -2.0, 0.25]);
    assert!(matches!(weights.to_f32("int"), Err(WeightsError::NotFloat { .. })));
}

#[test]
fn buffers_without_information_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.safetensors");
    write(&path, &[("model.layers.0.self_attn.rotary_emb.inv_freq", &[1], &[1.0]), ("kept", &[1], &[1.0])]);
    assert_eq!(Weights::open(&path).unwrap().names().collect::<Vec<_>>(), ["kept"]);
}

#[test]
fn a_folder_of_files_is_one_model() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("one.safetensors"), &[("a", &[1], &[1.0])]);
    write(&dir.path().join("two.safetensors"), &[("b", &[1], &[2.0])]);
    let index = dir.path().join("model.safetensors.index.json");
    let put = |text: &str| std::fs::write(&index, text).unwrap();

    put(
        r#"{"metadata": {}, "weight_map": {"a": "one.safetensors", "b": "two.safetensors", "x.rotary_emb.inv_freq": "one.safetensors"}}"#,
    );
    let weights = Weights::open(dir.path()).unwrap();
    assert_eq!([weights.to_f32("a").unwrap()[0], weights.to_f32("b").unwrap()[0]], [1.0, 2.0]);
    let missing = weights.require(["a", "c", "d"]).unwrap_err();
    assert!(matches!(&missing, WeightsError::Missing { names, .. } if names == &["c", "d"]), "{missing}");
    assert!(missing.to_string().contains("c, d"));

    put(r#"{"weight_map": {"a": "one.safetensors", "lost": "two.safetensors"}}"#);
    assert!(matches!(Weights::open(dir.path()), Err(WeightsError::Missing { .. })));
    put(r#"{"weight_map": {"a": "three.safetensors"}}"#);
    assert!(matches!(Weights::open(dir.path()), Err(WeightsError::Io { .. })));
    for bad in [r#"{"weight_map": {"a": "../one.safetensors"}}"#, r#"{"weight_map": {"a": ""}}"#, "[]", "{"] {
        put(bad);
        assert!(matches!(Weights::open(dir.path()), Err(WeightsError::Index { .. })), "{bad}");
    }
    write(&dir.path().join("two.safetensors"), &[("a", &[1], &[2.0])]);
    put(r#"{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}"#);
    assert!(matches!(Weights::open(dir.path()), Err(WeightsError::Twice { .. })));
}

#[test]
fn a_folder_without_weights_says_what_was_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let text = Weights::open(dir.path()).unwrap_err().to_string();
    assert!(text.contains("model.safetensors.index.json"), "{text}");
    std::fs::write(dir.path().join("model.safetensors"), b"").unwrap();
    assert!(matches!(Weights::open(dir.path()), Err(WeightsError::Format { .. } | WeightsError::Io { .. })));
}

#[test]
fn tensors_that_do_not_fit_their_shape_are_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.safetensors");
    for shape in [&[3usize][..], &[usize::MAX, 4][..]] {
        let view = TensorView { dtype: Dtype::F32, shape, bytes: &[0; 8] };
        assert!(matches!(write_safetensors(&path, [("a", view)]), Err(WeightsError::Format { .. })));
    }
    assert!(!path.exists());
}

/// A file with the given header and body.
fn hostile(header: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn lying_headers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.safetensors");
    let headers = [
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]}}"#,
        r#"{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        "[]",
    ];
    for header in headers {
        std::fs::write(&path, hostile(header, &[0; 4])).unwrap();
        assert!(matches!(Weights::open(&path), Err(WeightsError::Format { .. })), "{header}");
    }
    std::fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
    assert!(matches!(Weights::open(&path), Err(WeightsError::Format { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn altered_and_cut_files_never_panic(at in 0usize..300, bit in 0u8..8, cut in 0usize..300) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        write(&path, &[("a", &[2], &[1.0, 2.0]), ("bc", &[1, 3], &[1.0, 2.0, 3.0])]);
        let mut bytes = std::fs::read(&path).unwrap();
        let len = bytes.len();
        bytes[at % len] ^= 1 << bit;
        for bytes in [&bytes[..], &bytes[..cut % len]] {
            std::fs::write(&path, bytes).unwrap();
            let Ok(weights) = Weights::open(&path) else { continue };
            for name in weights.names() {
                let view = weights.view(name).unwrap();
                let n_elems: usize = view.shape.iter().product();
                prop_assert_eq!(view.bytes.len() * 8, n_elems * view.dtype.bitsize());
                let _ = weights.to_f32(name);
            }
        }
    }
}
