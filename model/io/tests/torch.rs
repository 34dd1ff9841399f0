//! Are PyTorch files read without running them, and hostile ones refused?

#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it")]

use std::path::{Path, PathBuf};

use enel_io::{Dtype, TorchError, Weights, WeightsError};
use proptest::prelude::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn fault(path: &Path) -> TorchError {
    match Weights::open(path).unwrap_err() {
        WeightsError::Torch { source, .. } => source,
        other => panic!("{other}"),
    }
}

#[test]
fn every_kind_of_tensor_is_what_pytorch_says() {
    let expected = Weights::open(&fixture("torch_state.safetensors")).unwrap();
    for name in ["torch_state.bin", "torch_nested.bin"] {
        let weights = Weights::open(&fixture(name)).unwrap();
        assert_eq!(weights.names().collect::<Vec<_>>(), expected.names().collect::<Vec<_>>());
        for tensor in expected.names() {
            let (found, wanted) = (weights.view(tensor).unwrap(), expected.view(tensor).unwrap());
            assert_eq!(found.shape, wanted.shape, "{tensor}");
            if found.dtype == wanted.dtype {
                assert_eq!(found.bytes, wanted.bytes, "{tensor}");
            } else {
                assert_eq!((found.dtype, wanted.dtype), (Dtype::BF16, Dtype::F32), "{tensor}");
                assert_eq!(found.to_f32(), wanted.to_f32(), "{tensor}");
            }
        }
    }
}

#[test]
fn a_folder_of_bin_files_is_one_model() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("torch_state.bin"), dir.path().join("pytorch_model.bin")).unwrap();
    assert!(Weights::open(dir.path()).unwrap().contains("transposed"));
    std::fs::rename(dir.path().join("pytorch_model.bin"), dir.path().join("pytorch_model-00001-of-00001.bin")).unwrap();
    let index = dir.path().join("pytorch_model.bin.index.json");
    std::fs::write(&index, r#"{"weight_map": {"plain": "pytorch_model-00001-of-00001.bin"}}"#).unwrap();
    assert!(Weights::open(dir.path()).unwrap().contains("plain"));
    std::fs::write(&index, r#"{"weight_map": {"lost": "pytorch_model-00001-of-00001.bin"}}"#).unwrap();
    assert!(matches!(Weights::open(dir.path()), Err(WeightsError::Missing { .. })));
}

#[test]
fn what_is_not_plain_weights_is_refused_with_a_remedy() {
    let old = fault(&fixture("torch_legacy.bin"));
    assert!(matches!(old, TorchError::Old) && old.to_string().contains("torch.save"), "{old}");
    let module = fault(&fixture("torch_module.bin"));
    assert!(matches!(&module, TorchError::Global { name } if name == "torch.nn.modules.linear.Linear"), "{module}");
}

/// A zip archive of stored files, with a central directory, written by hand.
fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut body, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in members {
        let at = body.len() as u32;
        let size = (bytes.len() as u32).to_le_bytes();
        let common = [&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &crc32(bytes).to_le_bytes(), &size, &size].concat();
        let length = (name.len() as u16).to_le_bytes();
        body.extend([b"PK\x03\x04", &common[..], &length, &[0, 0], name.as_bytes(), bytes].concat());
        let tail = [&[0; 2][..], &[0; 2], &[0; 2], &[0; 2], &[0; 4], &at.to_le_bytes()].concat();
        directory.extend([b"PK\x01\x02\x14\x00", &common[..], &length, &tail, name.as_bytes()].concat());
    }
    let count = (members.len() as u16).to_le_bytes();
    let sizes = [(directory.len() as u32).to_le_bytes(), (body.len() as u32).to_le_bytes()].concat();
    [&body[..], &directory, b"PK\x05\x06", &[0; 4], &count, &count, &sizes, &[0; 2]].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |c, _| (c >> 1) ^ (0xedb8_8320 * (c & 1)));
    !bytes.iter().fold(!0, step)
}

/// A pickled dict with one f32 tensor `w` in storage `0`.
fn pickled(n_elems: u32, offset: u32, shape: &[u32], strides: &[u32]) -> Vec<u8> {
    let mut out = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    out.extend(b"X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu");
    let number = |out: &mut Vec<u8>, n: u32| out.extend([b"J", &n.to_le_bytes()[..]].concat());
    number(&mut out, n_elems);
    out.extend(b"tQ");
    number(&mut out, offset);
    for list in [shape, strides] {
        out.push(b'(');
        list.iter().for_each(|&n| number(&mut out, n));
        out.push(b't');
    }
    out.extend(b"\x89NtRs.");
    out
}

fn open(pickle: &[u8], storage: &[u8]) -> Result<Weights, WeightsError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.bin");
    std::fs::write(&path, archive(&[("m/data.pkl", pickle), ("m/data/0", storage)])).unwrap();
    Weights::open(&path)
}

#[test]
fn tensors_stay_inside_their_storage() {
    let eight = [0u8; 32];
    assert_eq!(open(&pickled(8, 2, &[2, 3], &[3, 1]), &eight).unwrap().view("w").unwrap().shape, [2, 3]);
    assert_eq!(open(&pickled(8, 0, &[4, 2], &[1, 4]), &eight).unwrap().view("w").unwrap().bytes.len(), 32);
    assert_eq!(open(&pickled(8, 9, &[0, 5], &[5, 1]), &eight).unwrap().view("w").unwrap().bytes.len(), 0);
    let max = i32::MAX as u32;
    let outside: [(u32, u32, &[u32], &[u32]); 5] = [
        (9, 0, &[9], &[1]),
        (8, 3, &[2, 3], &[3, 1]),
        (8, 0, &[2], &[8]),
        (8, max, &[max, max, max], &[max, max, max]),
        (8, 0, &[max, max, max], &[0, 0, 0]),
    ];
    for (n_elems, offset, shape, strides) in outside {
        let error = open(&pickled(n_elems, offset, shape, strides), &eight).unwrap_err();
        assert!(matches!(&error, WeightsError::Torch { source: TorchError::Outside { .. }, .. }), "{error:?}");
    }
    let repeated = open(&pickled(8, 0, &[3, 8], &[0, 1]), &eight).unwrap_err();
    assert!(matches!(&repeated, WeightsError::Torch { source: TorchError::Repeats { .. }, .. }), "{repeated:?}");
    let negative = open(&pickled(8, 0, &[u32::MAX], &[1]), &eight).unwrap_err();
    assert!(matches!(&negative, WeightsError::Torch { source: TorchError::Pickle { .. }, .. }), "{negative:?}");
}

#[test]
fn few_tensors_may_share_a_storage() {
    // One tensor after another of the same storage, under names that differ.
    let entry = |i: usize| {
        let one = pickled(1000, 0, &[1000], &[1]);
        let body = one[3..one.len() - 2].to_vec();
        let name = format!("w{i:05}");
        [b"X\x06\x00\x00\x00", name.as_bytes(), &body[6..], b"s"].concat()
    };
    let dict = |n: usize| [b"\x80\x02}", &(0..n).flat_map(entry).collect::<Vec<u8>>()[..], b"."].concat();
    assert_eq!(open(&dict(3), &[0; 4000]).unwrap().names().count(), 3);
    let error = open(&dict(1000), &[0; 4000]).unwrap_err();
    assert!(matches!(&error, WeightsError::Torch { source: TorchError::Repeats { .. }, .. }), "{error:?}");
}

#[test]
fn calls_of_anything_else_are_never_made() {
    for pickle in [
        &b"cos\nsystem\n(X\x02\x00\x00\x00lstR."[..],
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
        b"cbuiltins\neval\n.",
        b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"(((((((((.",
        b"}q\x00h\x00h\x00s.",
        b"\x80\x02i",
        b"",
        b".",
    ] {
        let error = open(pickle, &[0; 4]).unwrap_err();
        assert!(matches!(error, WeightsError::Torch { .. }), "{error:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn altered_and_cut_files_never_panic(at in 0usize..4000, byte in any::<u8>(), cut in 0usize..4000) {
        let mut bytes = std::fs::read(fixture("torch_state.bin")).unwrap();
        let len = bytes.len();
        bytes[at % len] = byte;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.bin");
        for bytes in [&bytes[..], &bytes[..cut % len]] {
            std::fs::write(&path, bytes).unwrap();
            let Ok(weights) = Weights::open(&path) else { continue };
            for name in weights.names() {
                let view = weights.view(name).unwrap();
                let n_elems: usize = view.shape.iter().product();
                prop_assert_eq!(view.bytes.len() * 8, n_elems * view.dtype.bitsize());
            }
        }
    }

    #[test]
    fn random_opcodes_never_panic(opcodes in prop::collection::vec(prop::sample::select(
        b"\x80\x95.(0N\x88GKMJ\x8aX\x8c)\x85\x86\x87t]ae}sucq\x93r\x94hjQRb\x00\x01\n".to_vec()), 0..60))
    {
        prop_assert!(open(&opcodes, &[0; 4]).is_err());
    }
}
