//! Do the rooms depend on each other only in the allowed directions? Reads every crate's manifest.
//!
//! Dev-dependencies may point anywhere except out of the rooms that know nothing of us.

#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Crate, then the crates of ours it may depend on. `None`: any.
const ARROWS: &[(&str, Option<&[&str]>)] = &[
    ("enel-types", Some(&[])),
    ("enel-ir", Some(&["enel-types"])),
    ("enel-bundle", Some(&["enel-types"])),
    ("enel-interp", Some(&["enel-ir", "enel-types"])),
    ("enel-passes", Some(&["enel-ir", "enel-types", "enel-bundle"])),
    ("enel-autodiff", Some(&["enel-ir", "enel-types"])),
    ("enel-nvrtc", Some(&[])),
    ("enel-lower", Some(&["enel-ir", "enel-types", "enel-passes", "enel-bundle"])),
    ("enel-codegen", Some(&["enel-ir", "enel-types", "enel-passes", "enel-bundle", "enel-nvrtc"])),
    ("enel-verify", Some(&["enel-types", "enel-bundle"])),
    ("enel-emulator", Some(&[])),
    ("enel-emulate", Some(&["enel-emulator", "enel-nvrtc"])),
    ("enel-runtime", Some(&["enel-types", "enel-bundle", "enel-emulator"])),
    ("enel-io", Some(&[])),
    ("enel-text", Some(&[])),
    ("enel-model", Some(&["enel-ir", "enel-types", "enel-autodiff", "enel-passes"])),
    (
        "enel-train",
        Some(&[
            "enel-model",
            "enel-io",
            "enel-text",
            "enel-ir",
            "enel-types",
            "enel-passes",
            "enel-bundle",
            "enel-lower",
            "enel-runtime",
        ]),
    ),
    ("enel-cli", None),
    ("enel-tests", None),
    ("enel-benches", None),
];

/// Crates of others that only some rooms may use.
const FENCED: &[(&str, &[&str])] = &[
    ("tera", &["enel-codegen"]),
    ("cudarc", &["enel-nvrtc", "enel-runtime"]),
    ("clap", &["enel-cli", "enel-benches"]),
    ("anyhow", &["enel-cli", "enel-benches"]),
];

#[derive(Debug, Default)]
struct Manifest {
    folder: PathBuf,
    dependencies: BTreeSet<String>,
    dev_dependencies: BTreeSet<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Names on the left of `=` in each dependency table, and the crate's own name.
fn parse(text: &str, folder: PathBuf) -> (String, Manifest) {
    let mut name = String::new();
    let mut manifest = Manifest { folder, ..Manifest::default() };
    let mut section = String::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        if let Some(title) = line.strip_prefix('[') {
            section = title.trim_end_matches(']').to_owned();
            // `[dependencies.tera]` is a table of one dependency.
            if let Some((table, dependency)) = section.rsplit_once("dependencies.") {
                note(&mut manifest, &format!("{table}dependencies"), dependency);
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let key = key.trim().trim_matches('"');
        if section == "package" && key == "name" {
            name = value.trim().trim_matches('"').to_owned();
        }
        // A renamed dependency hides what it is.
        assert!(!value.contains("package =") && !value.contains("package="), "{name}: `{key}` is renamed");
        note(&mut manifest, &section, key.split('.').next().unwrap());
    }
    (name, manifest)
}

fn note(manifest: &mut Manifest, section: &str, dependency: &str) {
    if section.ends_with("dev-dependencies") {
        manifest.dev_dependencies.insert(dependency.to_owned());
    } else if section.ends_with("dependencies") {
        manifest.dependencies.insert(dependency.to_owned());
    }
}

fn manifests() -> BTreeMap<String, Manifest> {
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = workspace.split_once("members = [").unwrap().1.split_once(']').unwrap().0;
    let members = members.split(',').map(|m| m.trim().trim_matches('"')).filter(|m| !m.is_empty());
    let read = |member: &str| {
        let folder = root().join(member);
        parse(&std::fs::read_to_string(folder.join("Cargo.toml")).unwrap(), folder)
    };
    members.map(read).collect()
}

#[test]
fn every_crate_has_its_arrows() {
    let listed: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    let found = manifests();
    assert_eq!(found.keys().map(String::as_str).collect::<BTreeSet<_>>(), listed);
}

#[test]
fn rooms_depend_only_along_the_arrows() {
    for (name, manifest) in manifests() {
        let (_, allowed) = ARROWS.iter().find(|(n, _)| *n == name).unwrap();
        let Some(allowed) = allowed else { continue };
        let ours = |d: &&String| d.starts_with("enel-");
        for dependency in manifest.dependencies.iter().filter(ours) {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
        if ["enel-types", "enel-emulator", "enel-nvrtc"].contains(&name.as_str()) {
            assert_eq!(manifest.dev_dependencies.iter().find(ours), None, "{name} knows nothing of us, in tests too");
        }
    }
}

#[test]
fn fenced_crates_stay_in_their_rooms() {
    for (name, manifest) in manifests() {
        for (fenced, rooms) in FENCED {
            let used = manifest.dependencies.contains(*fenced);
            assert!(!used || rooms.contains(&name.as_str()), "{name} must not depend on {fenced}");
        }
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.map(|e| e.unwrap().path()) {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_driver_is_called_in_one_folder_and_nvrtc_in_one_crate() {
    for (name, manifest) in manifests() {
        let mut files = Vec::new();
        sources(&manifest.folder.join("src"), &mut files);
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let in_device = file.starts_with(manifest.folder.join("src/device"));
            let driver_allowed = name == "enel-runtime" && in_device;
            let shown = file.strip_prefix(root()).unwrap().display().to_string();
            assert!(driver_allowed || !text.contains("cudarc::driver"), "{shown} uses the driver");
            let calls_nvrtc = text.contains("nvrtc::sys") || text.contains("nvrtc::result");
            assert!(name == "enel-nvrtc" || !calls_nvrtc, "{shown} calls NVRTC");
        }
    }
}

#[test]
fn the_parser_sees_every_way_to_name_a_dependency() {
    let text = "[package]\nname = \"x\"\n[dependencies]\na.workspace = true\nb = \"1\"\n[dependencies.c]\nversion = \"1\"\n\
                [target.'cfg(unix)'.dependencies]\nd = \"1\"\n[build-dependencies]\ne = \"1\"\n[dev-dependencies]\nf = \"1\"\n";
    let (name, manifest) = parse(text, PathBuf::new());
    assert_eq!(name, "x");
    assert_eq!(manifest.dependencies.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "b", "c", "d", "e"]);
    assert_eq!(manifest.dev_dependencies.iter().map(String::as_str).collect::<Vec<_>>(), ["f"]);
}
