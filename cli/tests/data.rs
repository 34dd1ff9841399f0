//! Do `enel data info`, `preview` and `convert` take clouds and meshes, and say what is wrong with others?
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use std::path::Path;
use support::{enel, enel_with};

const CHAIR: &str = "samples/chair.ply";
/// A unit square with a colour at each corner.
const SQUARE: &str = "v 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 1 0 1 0 0 1\nv 0 0 1 1 1 1\nf 1 2 3 4\n";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn succeeded(args: &[&str]) -> support::Ran {
    let ran = enel(args);
    assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.stderr);
    ran
}

#[test]
fn previews_are_a_picture_and_a_page_that_stands_alone() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("my.chair");
    let ran = succeeded(&["data", "preview", CHAIR, "-o", text(&base), "--model", "tiny"]);
    let (png, html) = (dir.path().join("my.chair.png"), dir.path().join("my.chair.html"));
    assert_eq!(ran.stdout, format!("{}\n{}\n", png.display(), html.display()));
    let picture = image::open(&png).unwrap().into_rgb8();
    // Three views, three stages, in two rows.
    assert_eq!((picture.width(), picture.height()), (1692, 1126));
    let is_brown = |p: &image::Rgb<u8>| p.0[0] > p.0[2].saturating_add(60);
    assert!(picture.pixels().filter(|p| is_brown(p)).count() > 10_000, "the chair is seen in its colours");
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.contains("chair.ply") && page.contains("default-src 'none'"));
    for way_out in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(way_out), "{way_out}");
    }
    let again = dir.path().join("again");
    succeeded(&["data", "preview", CHAIR, "-o", text(&again), "--model", "tiny"]);
    assert_eq!(std::fs::read(&png).unwrap(), std::fs::read(dir.path().join("again.png")).unwrap());
}

#[test]
fn previews_take_meshes_and_one_point() {
    let dir = tempfile::tempdir().unwrap();
    let (mesh, point, base) = (dir.path().join("a.obj"), dir.path().join("b.xyz"), dir.path().join("out"));
    std::fs::write(&mesh, SQUARE).unwrap();
    std::fs::write(&point, "1 2 3\n").unwrap();
    let ran = succeeded(&["data", "preview", text(&mesh), "-o", text(&base), "--json", "--points", "2048"]);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["points"]["used"], 2048);
    assert_eq!(report["points"]["colour"], true);
    let centres: Vec<u64> =
        report["stages"].as_array().unwrap().iter().map(|s| s["centres"].as_u64().unwrap()).collect();
    assert_eq!(centres, [512, 256, 128]);
    assert_eq!(report["stages"][0]["group_size"], 81);
    succeeded(&["data", "preview", text(&point), "-o", text(&base), "--model", "tiny"]);
}

#[test]
fn info_says_what_a_file_holds() {
    let dir = tempfile::tempdir().unwrap();
    let mesh = dir.path().join("a.obj");
    std::fs::write(&mesh, SQUARE).unwrap();
    let ran = succeeded(&["data", "info", text(&mesh), "--json", "--up", "z"]);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&report["format"], &report["points"]), (&Value::from("obj"), &Value::from(4)));
    assert_eq!((&report["triangles"], &report["colour"]), (&Value::from(2), &Value::from(true)));
    // The square lies in y = 0; with z up it stands in z = 0.
    assert_eq!(report["size"][2], 0.0);
    let plain = succeeded(&["data", "info", CHAIR]);
    assert!(
        plain.stdout.contains("points     8192\n") && plain.stdout.contains("colour     yes\n"),
        "{}",
        plain.stdout
    );
}

#[test]
fn converted_clouds_are_clouds() {
    let dir = tempfile::tempdir().unwrap();
    let (mesh, npy, ply) = (dir.path().join("a.obj"), dir.path().join("a.npy"), dir.path().join("a.ply"));
    std::fs::write(&mesh, SQUARE).unwrap();
    succeeded(&["data", "convert", text(&mesh), "--points", "1000", "--scale", "2", "-o", text(&npy)]);
    let ran = succeeded(&["data", "convert", text(&npy), "--points", "100", "-o", text(&ply)]);
    assert_eq!(ran.stdout, format!("{}: 100 points\n", ply.display()));
    assert!(ran.stderr.contains("100 of 1000 points are kept"), "{}", ran.stderr);
    let report: Value = serde_json::from_str(&succeeded(&["data", "info", text(&ply), "--json"]).stdout).unwrap();
    let size = report["size"][0].as_f64().unwrap();
    assert!((1.8..=2.0).contains(&size), "{size}");
    let other = enel(&["data", "convert", CHAIR, "-o", "chair.xyz"]);
    assert_eq!(other.code, Some(1));
    assert!(other.stderr.contains("neither in .npy nor in .ply"), "{}", other.stderr);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let rows: [(&str, &[u8], &str); 4] = [
        ("a.obj", b"v 0 0 0\nf 1 2 3\n", "face 0 names vertex 2, there are 1"),
        ("a.xyz", b"1 2 3\n1 nan 3\n", "point 1 has y = NaN"),
        ("a.las", b"LASF", "the file is cut"),
        ("a.fbx", b"Kaydara FBX Binary", "export it as .glb"),
    ];
    for (name, bytes, part) in rows {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        for command in ["info", "preview"] {
            let ran = enel(&["data", command, text(&path)]);
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
            assert!(ran.stderr.contains(part) && ran.stderr.contains(name), "{}", ran.stderr);
        }
    }
    assert_eq!(enel(&["data", "preview", CHAIR, "--up", "w"]).code, Some(2));
    let few = enel(&["data", "preview", CHAIR, "--points", "100"]);
    assert!(few.stderr.contains("100 points do not do for `enel-7b`"), "{}", few.stderr);
}

#[test]
fn meshes_are_described_ranked_and_talked_about() {
    let dir = tempfile::tempdir().unwrap();
    let mesh = dir.path().join("a.obj");
    std::fs::write(&mesh, SQUARE).unwrap();
    let flags = ["--device", "cpu", "--up", "z", "--cloud-seed", "3"];
    let asked = [
        ["caption", text(&mesh), "--max-new-tokens", "2", "--json"],
        ["classify", text(&mesh), "--labels", "chair,lamp", "--json"],
    ];
    for args in asked {
        let ran = succeeded(&[&args[..], &flags].concat());
        assert!(ran.stderr.contains("256 points drawn from 2 triangles\n"), "{}", ran.stderr);
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(report["format"], "obj");
        assert_eq!(report["points"], json!({ "given": 256, "kept": 256, "used": 256, "colour": true }));
        assert_eq!(report["notes"], json!([]));
    }
    let talk = ["chat", "--cloud", text(&mesh), "--max-new-tokens", "2"];
    let ran = enel_with(&[&talk[..], &flags].concat(), "What is this?\n");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("drawn from 2 triangles"), "{}", ran.stderr);
    for flag in [["--up", "z"], ["--cloud-seed", "3"]] {
        assert_eq!(enel(&[&["chat"][..], &flag].concat()).code, Some(2), "without a cloud: {flag:?}");
    }
}
