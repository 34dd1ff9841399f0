//! Are GGUF files decoded as the reference library decodes them, and hostile ones refused?

#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it")]

use std::path::{Path, PathBuf};

use enel_io::config::LlamaConfig;
use enel_io::gguf::{Gguf, GgufError, GgufModel, VocabularyKind};
use enel_io::{Dtype, TensorSource, Weights, WeightsError, WriteConfig, create_dir_atomic, write_model};
use proptest::prelude::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

#[test]
fn every_encoding_decodes_as_the_reference_does() {
    let gguf = Gguf::open(&fixture("gguf_blocks.gguf")).unwrap();
    let expected = Weights::open(&fixture("gguf_blocks.safetensors")).unwrap();
    let names: Vec<&str> = gguf.tensors().map(|(name, _)| name).collect();
    assert_eq!(names, expected.names().collect::<Vec<_>>());
    assert_eq!(names.len(), 11);
    for (name, tensor) in gguf.tensors() {
        assert_eq!(tensor.encoding.name(), name);
        assert_eq!(tensor.shape, expected.view(name).unwrap().shape);
        let (found, wanted) = (gguf.to_f32(name).unwrap(), expected.to_f32(name).unwrap());
        // The reference computes in f32 too; one rounding of a product may fall differently.
        let is_near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * b.abs().max(1e-3);
        assert!(found.iter().zip(&wanted).all(is_near), "{name}");
    }
}

#[test]
fn a_llama_has_its_released_names_and_row_order() {
    let model = GgufModel::open(&fixture("gguf_llama.gguf")).unwrap();
    let expected = Weights::open(&fixture("gguf_llama.safetensors")).unwrap();
    let listed = model.list();
    let names: Vec<&str> = listed.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, expected.names().collect::<Vec<_>>());
    for tensor in &listed {
        let wanted = expected.view(&tensor.name).unwrap();
        assert_eq!(tensor.shape, wanted.shape, "{}", tensor.name);
        assert_eq!(model.bytes(&tensor.name, Dtype::F32).unwrap(), wanted.bytes, "{}", tensor.name);
    }
    let config = LlamaConfig::from_bytes(model.config().to_string().as_bytes(), Path::new("config.json")).unwrap();
    assert_eq!((config.hidden_size, config.n_kv_heads(), config.head_size()), (32, 2, 8));
    assert_eq!((config.rms_norm_eps, config.rope_theta, config.tie_word_embeddings), (1e-5, 1e4, true));
    let vocabulary = model.vocabulary().unwrap();
    assert_eq!((vocabulary.bos, vocabulary.eos, vocabulary.tokens.len()), (Some(1), Some(2), 104));
    assert!(matches!(&vocabulary.kind, VocabularyKind::Bpe { pre, merges } if pre == "smollm" && merges[0] == "h e"));
    assert_eq!(model.bytes("lm_head.weight", Dtype::F32), None);
    assert_eq!(model.bytes("model.norm.weight", Dtype::I64), None);
}

#[test]
fn a_model_is_written_whole_or_not_at_all() {
    let model = GgufModel::open(&fixture("gguf_llama.gguf")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("new/model");
    let config = WriteConfig { dtype: Some(Dtype::BF16), shard_bytes: 10_000 };
    let mut seen = Vec::new();
    let write = |config: WriteConfig, seen: &mut Vec<u64>| {
        create_dir_atomic(&target, |dir| {
            write_model(dir, &model, &config, &mut |at| seen.push(at.done_bytes)).map_err(std::io::Error::other)
        })
    };
    write(config, &mut seen).unwrap();
    assert_eq!(seen.len(), model.list().len());
    assert!(seen.is_sorted());
    let weights = Weights::open(&target).unwrap();
    assert!(std::fs::read_dir(&target).unwrap().count() > 3, "several files and an index");
    for tensor in model.list() {
        let view = weights.view(&tensor.name).unwrap();
        assert_eq!((view.dtype, view.shape), (Dtype::BF16, &tensor.shape[..]));
        assert_eq!(model.bytes(&tensor.name, Dtype::BF16).unwrap(), view.bytes);
    }
    assert!(write(config, &mut seen).is_err(), "a full folder is left alone");
    let failed = create_dir_atomic(&dir.path().join("half"), |dir| {
        std::fs::write(dir.join("part"), "x")?;
        Err(std::io::Error::other("no"))
    });
    assert!(failed.is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing of it stays");
}

#[test]
fn integers_are_kept_and_what_leaves_the_range_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.safetensors");
    let (big, long) = (1e6f32.to_le_bytes(), 7i64.to_le_bytes());
    let tensors = [
        ("big", enel_io::TensorView { dtype: Dtype::F32, shape: &[1], bytes: &big }),
        ("long", enel_io::TensorView { dtype: Dtype::I64, shape: &[1], bytes: &long }),
    ];
    enel_io::write_safetensors(&path, tensors).unwrap();
    let weights = Weights::open(&path).unwrap();
    let write = |dtype| {
        write_model(dir.path(), &weights, &WriteConfig { dtype: Some(dtype), ..WriteConfig::default() }, &mut |_| {})
    };
    write(Dtype::BF16).unwrap();
    let again = Weights::open(dir.path()).unwrap();
    assert_eq!((again.view("big").unwrap().dtype, again.view("long").unwrap().dtype), (Dtype::BF16, Dtype::I64));
    let error = write(Dtype::F16).unwrap_err();
    assert!(matches!(&error, WeightsError::Overflow { name, .. } if name == "big"), "{error}");
}

/// A file of this version with settings and tensor infos already in bytes.
fn hostile(version: u32, n_tensors: u64, n_settings: u64, rest: &[u8]) -> Vec<u8> {
    let head = [&version.to_le_bytes()[..], &n_tensors.to_le_bytes(), &n_settings.to_le_bytes()].concat();
    [b"GGUF", &head[..], rest].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn info(extents: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let extents_bytes: Vec<u8> = extents.iter().flat_map(|n| n.to_le_bytes()).collect();
    let rank = (extents.len() as u32).to_le_bytes();
    [&text("w")[..], &rank, &extents_bytes, &kind.to_le_bytes(), &offset.to_le_bytes(), &[0; 64]].concat()
}

#[test]
fn lying_heads_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let huge_list = [&text("k")[..], &9u32.to_le_bytes(), &8u32.to_le_bytes(), &u64::MAX.to_le_bytes()].concat();
    let huge_numbers = [&text("k")[..], &9u32.to_le_bytes(), &12u32.to_le_bytes(), &u64::MAX.to_le_bytes()].concat();
    let nested = [&text("k")[..], &9u32.to_le_bytes(), &9u32.to_le_bytes(), &1u64.to_le_bytes()].concat();
    let twice = [&text("k")[..], &7u32.to_le_bytes(), &[1], &text("k"), &7u32.to_le_bytes(), &[1]].concat();
    let rows: [(Vec<u8>, &str); 15] = [
        (b"GGML".to_vec(), "does not begin"),
        (Vec::new(), ""),
        (hostile(1, 0, 0, &[]), "version 1"),
        (hostile(4, 0, 0, &[]), "version 4"),
        (hostile(3u32.swap_bytes(), 0, 0, &[]), "big endian"),
        (hostile(3, u64::MAX, 0, &[]), "ends early"),
        (hostile(3, 0, u64::MAX, &[]), "ends early"),
        (hostile(3, 0, 1, &huge_list), "ends early"),
        (hostile(3, 0, 1, &huge_numbers), "ends early"),
        (hostile(3, 0, 1, &nested), "a list itself"),
        (hostile(3, 0, 2, &twice), "twice"),
        (hostile(3, 1, 0, &info(&[u64::MAX, u64::MAX], 0, 0)), "extent"),
        (hostile(3, 1, 0, &info(&[31], 2, 0)), "extent"),
        (hostile(3, 1, 0, &info(&[4], 0, u64::MAX - 31)), "outside"),
        (hostile(3, 1, 0, &info(&[4], 11, 0)), "type 11"),
    ];
    for (bytes, told) in rows {
        std::fs::write(&path, &bytes).unwrap();
        let error = Gguf::open(&path).unwrap_err().to_string();
        assert!(error.contains(told), "{told}: {error}");
    }
}

#[test]
fn tensors_do_not_share_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let tensor = |name: &str| {
        [&text(name)[..], &1u32.to_le_bytes(), &64u64.to_le_bytes(), &0u32.to_le_bytes(), &0u64.to_le_bytes()].concat()
    };
    let file = |names: &[&str]| {
        let infos: Vec<u8> = names.iter().flat_map(|name| tensor(name)).collect();
        let mut bytes = hostile(3, names.len() as u64, 0, &infos);
        bytes.resize(bytes.len().next_multiple_of(32) + 256, 0);
        bytes
    };
    std::fs::write(&path, file(&["v"])).unwrap();
    assert_eq!(Gguf::open(&path).unwrap().to_f32("v"), Some(vec![0.0; 64]));
    std::fs::write(&path, file(&["u", "v", "w"])).unwrap();
    let error = Gguf::open(&path).unwrap_err().to_string();
    assert!(error.contains("overlaps"), "{error}");
}

#[test]
fn what_is_no_plain_llama_is_listed() {
    let error = GgufModel::open(&fixture("gguf_blocks.gguf")).unwrap_err();
    assert!(matches!(&error, GgufError::Setting { key, .. } if key == "general.architecture"), "{error}");
    let bytes = std::fs::read(fixture("gguf_llama.gguf")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let at = bytes.windows(10).position(|window| window == b"blk.1.attn").unwrap();
    let mut renamed = bytes.clone();
    renamed[at + 4] = b'7';
    std::fs::write(&path, renamed).unwrap();
    let Err(GgufError::Tensors { faults, .. }) = GgufModel::open(&path) else { panic!("a layer is missing") };
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].contains("blk.1.attn") && faults[1].contains("blk.7.attn"), "{faults:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn altered_and_cut_files_never_panic(at in 0usize..5000, byte in any::<u8>(), cut in 0usize..30_000) {
        let mut bytes = std::fs::read(fixture("gguf_llama.gguf")).unwrap();
        let len = bytes.len();
        bytes[at % len] = byte;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        for bytes in [&bytes[..], &bytes[..cut % len]] {
            std::fs::write(&path, bytes).unwrap();
            let Ok(model) = GgufModel::open(&path) else { continue };
            for tensor in model.list() {
                let n_elems: usize = tensor.shape.iter().product();
                prop_assert_eq!(model.bytes(&tensor.name, Dtype::F32).unwrap().len(), 4 * n_elems);
            }
            let _ = model.vocabulary();
        }
    }
}
