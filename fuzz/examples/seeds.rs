//! Writes what fuzzing starts from: `seeds FOLDER` makes a folder for each target, and a dictionary of its words beside.
//!
//! Seeds are the fixtures and builders of the rooms' own tests, so that each format is described in one place.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use enel_bundle::Bundle;
use enel_fuzz::points::{CLOUDS, MESHES};
use enel_fuzz::seal::unseal;
use enel_lower::{FrontConfig, compile};
use enel_passes::{Mode, Passes};

#[path = "../../bundle/tests/bundle/sample.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "tests use more of it")]
mod bundle_sample;
#[path = "../../model/io/tests/files/mod.rs"]
mod files;

/// Larger seeds cost more runs than they find.
const MAX_SEED_BYTES: usize = 48 << 10;
/// Words of one dictionary.
const MAX_WORDS: usize = 500;

fn main() -> std::io::Result<()> {
    let Some(out) = std::env::args().nth(1) else { panic!("usage: seeds FOLDER") };
    let out = PathBuf::from(out);
    for (target, seeds) in [
        ("bundle", bundles()),
        ("tir", graphs()),
        ("safetensors", safetensors()),
        ("gguf", with_endings("model/io/tests/fixtures", &["gguf"])),
        ("torch", torch()),
        ("cloud", clouds()),
        ("mesh", meshes()),
        ("tokenizer", tokenizers()),
        ("sentencepiece", with_endings("model/text/tests/fixtures", &["model"])),
        ("config", configs()),
        ("ptx", kernels()),
        ("settings", settings()),
    ] {
        assert!(!seeds.is_empty(), "no seeds for {target}");
        let folder = out.join(target);
        std::fs::create_dir_all(&folder)?;
        let mut words = BTreeSet::new();
        for (at, seed) in seeds.iter().filter(|seed| seed.len() <= MAX_SEED_BYTES).enumerate() {
            std::fs::write(folder.join(format!("{at:02}")), seed)?;
            words.extend(words_of(seed));
        }
        let lines: Vec<String> = words.iter().take(MAX_WORDS).map(|word| format!("\"{word}\"\n")).collect();
        std::fs::write(out.join(format!("{target}.dict")), lines.concat())?;
    }
    Ok(())
}

/// Runs of letters, digits, dots and low lines.
fn words_of(seed: &[u8]) -> Vec<String> {
    let runs = seed.split(|byte| !(byte.is_ascii_alphanumeric() || b"._".contains(byte)));
    let words = runs.filter(|run| (3..40).contains(&run.len()) && run[0].is_ascii_alphabetic());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of a folder of the repository that end so, in order.
fn with_endings(folder: &str, endings: &[&str]) -> Vec<Vec<u8>> {
    let listed = std::fs::read_dir(root().join(folder)).expect("the folder exists");
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.expect("the folder is read").path()).collect();
    paths.sort();
    let is_wanted = |path: &PathBuf| path.extension().is_some_and(|e| endings.iter().any(|ending| e == *ending));
    paths.iter().filter(|path| is_wanted(path)).map(|path| std::fs::read(path).expect("the file is read")).collect()
}

fn graphs() -> Vec<Vec<u8>> {
    with_endings("tests/graphs", &["tir"])
}

/// The sample of the bundle's tests, and every graph of the tests, compiled.
fn bundles() -> Vec<Vec<u8>> {
    let sample = bundle_sample::bundle().to_bytes().expect("the sample is sound");
    let mut seeds = vec![unseal(&sample), sample];
    for text in graphs() {
        let graph = enel_ir::parse(&String::from_utf8_lossy(&text)).expect("graphs of tests parse");
        let config = FrontConfig { mode: Mode::F32, passes: Passes::all(), memory: None };
        let compiled = compile(&[&graph], &config).expect("graphs of tests compile");
        let (plans, kernels) = (compiled.plans, compiled.kernels);
        let bundle = Bundle { mode: "f32".to_owned(), plans, kernels, ..Bundle::default() };
        seeds.push(unseal(&bundle.to_bytes().expect("what is compiled is sound")));
    }
    seeds
}

fn safetensors() -> Vec<Vec<u8>> {
    let mut seeds = with_endings("model/io/tests/fixtures", &["safetensors"]);
    let header = br#"{"w":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]},"v":{"dtype":"F64","shape":[],"data_offsets":[4,12]}}"#;
    let file = [&(header.len() as u64).to_le_bytes()[..], header, &[1; 12]].concat();
    let index = br#"{"metadata":{"total_size":12},"weight_map":{"w":"a.safetensors","v":"a.safetensors"}}"#;
    seeds.push([&index[..], &[0], &file].concat());
    seeds.push(file);
    seeds
}

/// Whole archives, and the pickled part of each.
fn torch() -> Vec<Vec<u8>> {
    let archives = with_endings("model/io/tests/fixtures", &["bin"]);
    let mut seeds = archives.clone();
    for bytes in archives {
        let Ok(mut archive) = zip::ZipArchive::new(std::io::Cursor::new(bytes)) else { continue };
        for at in 0..archive.len() {
            let mut member = archive.by_index(at).expect("its parts are read");
            if member.name().is_ok_and(|name| name.ends_with("data.pkl")) {
                let mut pickled = Vec::new();
                std::io::copy(&mut member, &mut pickled).expect("its parts are read");
                seeds.push(pickled);
            }
        }
    }
    seeds
}

/// `bytes` behind the number of their ending among `endings`.
fn named(endings: &[&str], ending: &str, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let at = endings.iter().position(|e| *e == ending).expect("the ending is listed");
    [&[at as u8], bytes.as_ref()].concat()
}

fn clouds() -> Vec<Vec<u8>> {
    let points = files::npy("<f4", "(2, 3)", &files::f32_bytes(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let wide = files::npy("<f8", "(1, 6)", &[0; 48]);
    let colours = files::npy("|u1", "(2, 3)", &[255, 0, 51, 1, 0, 0]);
    let members = [("xyz", points.clone()), ("rgb", colours.clone())];
    let pcd = "VERSION .7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\nWIDTH 1\nHEIGHT 1\n\
               VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 1\nDATA ";
    let packed = [&6u32.to_le_bytes()[..], &16u32.to_le_bytes(), &[1, 1, 1, 7 << 5, 5, 1]].concat();
    let vertices = "element vertex 2\nproperty float x\nproperty double y\nproperty short z\nproperty uchar red\n\
                    property uchar green\nproperty uchar blue\nend_header\n";
    let body = [0; 34];
    let name = |ending: &str, bytes: &[u8]| named(&CLOUDS, ending, bytes);
    let mut seeds = vec![
        name("npy", &points),
        name("npy", &wide),
        name("npz", &files::npz(&members, false)),
        name("npz", &files::npz(&members, true)),
        name("pcd", format!("{pcd}ascii\n1 2 3 255\n").as_bytes()),
        name("pcd", &[format!("{pcd}binary\n").as_bytes(), &[1; 16]].concat()),
        name("pcd", &[format!("{pcd}binary_compressed\n").as_bytes(), &packed].concat()),
        name("ply", format!("ply\nformat ascii 1.0\n{vertices}1 2 3 4 5 6\n-1 2e3 3 4 5 6\n").as_bytes()),
        name("ply", &[format!("ply\nformat binary_big_endian 1.0\n{vertices}").as_bytes(), &body].concat()),
        name("xyz", b"# x y z r g b\n1 2 3 4 5 6\n-1 2e3 3 4 5 6\n"),
        name("csv", b"x,y,z,nx,ny,nz\n1,2,3,0,0,1\n4,5,6,0,0,1\n"),
    ];
    seeds
        .extend([(2, 3), (4, 7), (3, 0), (4, 10)].map(|(minor, format)| name("las", &files::las(minor, format, true))));
    seeds
}

fn meshes() -> Vec<Vec<u8>> {
    let material = r#"{"pbrMetallicRoughness":{"baseColorTexture":{"index":0},"baseColorFactor":[1,1,1,1]}}"#;
    let name = |ending: &str, bytes: &[u8]| named(&MESHES, ending, bytes);
    let obj = format!("mtllib m.mtl\n{}vt 0 1\nusemtl a\n{}", files::obj_vertices(" 1 0 0"), files::obj_faces("/1"));
    let materials = "newmtl a\nKd 1 0.5 0\nmap_Kd t.png\n";
    let buffer = r#"{"byteLength":4,"uri":"data:application/octet-stream;base64,AAAAAA=="}"#;
    let image = r#"{"uri":"data:image/png;base64,iVBORw0KGgo="}"#;
    let ply = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n\
               element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n";
    vec![
        name("obj", &[obj.as_bytes(), &[0], materials.as_bytes(), &[0], &files::png()].concat()),
        name("stl", &files::stl(b"COLOR=abcd", 7)),
        name("stl", files::stl_text().as_bytes()),
        name("off", files::off("COFF\n", " 1 2 3 4", " 5 6 7").as_bytes()),
        name("glb", &files::glb(material)),
        name("gltf", files::gltf_text(material, image, buffer, "").as_bytes()),
        name("ply", ply.as_bytes()),
    ]
}

fn tokenizers() -> Vec<Vec<u8>> {
    let levels = r#"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}"#;
    let marks = r#"[{"id":4,"content":"<|end|>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}]"#;
    let digits = r#"{"type":"Digits","individual_digits":true}"#;
    let split =
        r#"{"type":"Split","pattern":{"Regex":"\\p{N}{1,3}|\\s+(?!\\S)"},"behavior":"Isolated","invert":false}"#;
    let normal = r#"{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"_"},{"type":"Replace","pattern":{"String":" "},"content":"_"},{"type":"NFKC"},{"type":"Lowercase"},{"type":"Strip","strip_left":true,"strip_right":true}]}"#;
    let template = r#"{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],"special_tokens":{"<s>":{"id":"<s>","ids":[0],"tokens":["<s>"]}}}"#;
    let decoders = r#"{"type":"Sequence","decoders":[{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0},{"type":"WordPiece","prefix":"ab","cleanup":true},{"type":"Metaspace","replacement":"_","prepend_scheme":"always"}]}"#;
    let bpe = r#"{"type":"BPE","dropout":null,"unk_token":"a","continuing_subword_prefix":"","end_of_word_suffix":"","fuse_unk":true,"byte_fallback":true,"ignore_merges":true,"vocab":{"<s>":0,"h":1,"e":2,"he":3},"merges":["h e"]}"#;
    let unigram = r#"{"type":"Unigram","unk_id":0,"vocab":[["<s>",0.0],["he",-1.5],["l",-2]],"byte_fallback":false}"#;
    let words = r#"{"type":"WordPiece","unk_token":"<s>","continuing_subword_prefix":"ab","max_input_chars_per_word":100,"vocab":{"<s>":0,"h":1,"abe":2,"x":3}}"#;
    let config = r#"{"eos_token":"<|end|>","bos_token":{"content":"<s>"},"pad_token":null,"legacy":false,"chat_template":[{"name":"default","template":"{{'<|im_start|>system\nkind<|im_end|>'}}"}]}"#;
    let file = |[normal, cut, after, decoder, model]: [&str; 5]| {
        let text = format!(
            r#"{{"version":"1.0","truncation":{{"direction":"Right","max_length":8,"strategy":"LongestFirst","stride":1}},"padding":{{"strategy":{{"Fixed":4}},"direction":"Left","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"<s>"}},"added_tokens":{marks},"normalizer":{normal},"pre_tokenizer":{cut},"post_processor":{after},"decoder":{decoder},"model":{model}}}"#
        );
        [text.as_bytes(), &[0], config.as_bytes(), &[0], br#"{"pad_token":"he"}"#].concat()
    };
    let both = format!(r#"{{"type":"Sequence","pretokenizers":[{digits},{split}]}}"#);
    vec![
        file(["null", levels, levels, levels, bpe]),
        file([normal, &both, template, decoders, bpe]),
        file([
            normal,
            r#"{"type":"Metaspace","replacement":"_","prepend_scheme":"first","split":true}"#,
            template,
            "null",
            unigram,
        ]),
        file([
            "null",
            r#"{"type":"BertPreTokenizer"}"#,
            r#"{"type":"BertProcessing","sep":["<s>",0],"cls":["<s>",0]}"#,
            decoders,
            words,
        ]),
    ]
}

fn configs() -> Vec<Vec<u8>> {
    let llama = r#""hidden_size":64,"intermediate_size":128,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":16,"rms_norm_eps":1e-5,"rope_theta":10000.0,"rope_scaling":null,"vocab_size":512,"tie_word_embeddings":true,"max_position_embeddings":2048,"hidden_act":"silu""#;
    let point = r#""point_backbone_config":{"point_dims":6,"embed_dim":12,"group_size":8,"input_points":64,"num_stages":3,"projection_hidden_dim":[32,48],"mm_use_point_start_end":true,"default_point_patch_token":"<p>","point_token_ids":{"patch":509,"start":510,"end":511}}"#;
    let released = r#""point_backbone":"PointNN","mm_use_point_start_end":true,"DEFAULT_POINT_PATCH_TOKEN":"<p>","DEFAULT_POINT_START_TOKEN":"<s>","DEFAULT_POINT_END_TOKEN":"<e>""#;
    let text = |more: &str| format!("{{{llama}{more}}}").into_bytes();
    vec![text(""), text(&format!(",{point}")), text(&format!(",{released}"))]
}

/// The settings that are shipped, and a file with all the rest.
fn settings() -> Vec<Vec<u8>> {
    let mut seeds = with_endings("samples/train", &["toml"]);
    seeds.push(
        b"[model]\nstart = \"tiny\"\npoint = \"small\"\npoints = 256\n[data]\nannotations = \"a.json\"\nclouds = \".\"\n\
          types = [\"brief\"]\nmissing = \"skip\"\ncorrupt = \"stop\"\n[objective]\ncross_entropy = 0.5\n\
          position_code = \"every_layer\"\nmasked = { ratio = 0.3, target = \"patch\", target_gradient = \"stops\" }\n\
          reconstruction = { target = \"feature\", weight = 2, tap = { layer = 1 } }\ncontrast = { temperature = 0.1, shift = 1e-1 }\n\
          distillation = { tokens = \"t.safetensors\", width = 64, tap = \"last\" }\n[trainable]\npatterns = [\"model.*\"]\n\
          embedding_rows = \"marks\"\nbatch_norms = \"running\"\n[lora]\npatterns = [\"*.q_proj.weight\"]\nrank = 2\nalpha = 8.0\n\
          [optimizer]\nrate = 1e-3\nschedule = \"constant\"\nbetas = [0.9, 0.95]\neps = 1e-6\nmoments = \"8bit\"\n\
          [batch]\nsize = 2\naccumulation = 3\nmean = \"calls\"\ntemporaries_gb = 1.5\n[run]\nsteps = 7\nepochs = 0.5\n\
          mode = \"bf16\"\ndevice = \"cpu:2\"\nkeep = 2\n[held_out]\nfraction = 0.1\nannotations = \"h.json\"\nevery = 3\n"
            .to_vec(),
    );
    seeds
}

/// Each kernel of the emulator's fixtures, as a module of its own.
fn kernels() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for file in with_endings("emulator/tests/fixtures", &["ptx"]) {
        let text = String::from_utf8_lossy(&file).into_owned();
        seeds.push(file);
        let head = ".version 9.0\n.target sm_80\n.address_size 64\n";
        let kernels = text.split(".visible .entry").skip(1);
        seeds.extend(kernels.map(|kernel| format!("{head}.visible .entry{kernel}").into_bytes()));
    }
    seeds
}
