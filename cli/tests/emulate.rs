//! Does `enel-compile emulate` run kernels on files, and say with its exit code what went wrong?
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use enel_io::npy::{NpyArray, NpyData};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const PTX: &str = ".version 8.0\n.target sm_80\n.address_size 64\n\
    .visible .entry add(.param .u64 x, .param .u64 y, .param .u64 z, .param .u32 n)\n{\n\
    .reg .pred %p<2>;\n.reg .f32 %f<4>;\n.reg .b32 %r<6>;\n.reg .b64 %rd<9>;\n\
    ld.param.u64 %rd0, [x];\nld.param.u64 %rd1, [y];\nld.param.u64 %rd2, [z];\nld.param.u32 %r0, [n];\n\
    mov.u32 %r1, %ctaid.x;\nmov.u32 %r2, %ntid.x;\nmov.u32 %r3, %tid.x;\nmad.lo.u32 %r4, %r1, %r2, %r3;\n\
    setp.ge.u32 %p0, %r4, %r0;\n@%p0 ret;\nmul.wide.u32 %rd3, %r4, 4;\nadd.u64 %rd4, %rd0, %rd3;\n\
    add.u64 %rd5, %rd1, %rd3;\nadd.u64 %rd6, %rd2, %rd3;\nld.global.f32 %f0, [%rd4];\nld.global.f32 %f1, [%rd5];\n\
    add.f32 %f2, %f0, %f1;\nst.global.f32 [%rd6], %f2;\nret;\n}\n";

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn emulate(folder: &Path, args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_enel-compile"));
    let output = command.arg("emulate").args(args).current_dir(folder).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("add.ptx"), PTX).unwrap();
    let save = |name: &str, from: f32| {
        let values = (0..6).map(|i| from + i as f32).collect();
        NpyArray::new(vec![2, 3], NpyData::F32(values)).unwrap().write(&dir.path().join(name)).unwrap();
    };
    save("x.npy", 1.0);
    save("y.npy", 10.0);
    dir
}

fn load(path: &Path) -> NpyArray {
    NpyArray::parse(&std::fs::read(path).unwrap()).unwrap()
}

const RUN: [&str; 7] = ["add.ptx", "--entry", "add", "--grid", "2", "--block", "4"];

#[test]
fn arrays_go_in_and_out() {
    let dir = folder();
    let args =
        ["--arg", "in:x.npy", "--arg", "inout:y.npy:y2.npy", "--arg", "out:f32:6:z.npy", "--arg", "i32:5", "--json"];
    let ran = emulate(dir.path(), &[&RUN[..], &args].concat());
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let z = load(&dir.path().join("z.npy"));
    let NpyData::F32(values) = z.data() else { panic!() };
    assert_eq!(values[..5], [11.0, 13.0, 15.0, 17.0, 19.0]);
    assert_eq!(load(&dir.path().join("y2.npy")), load(&dir.path().join("y.npy")));
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["findings"].as_array().unwrap().len(), 0);
    assert_eq!((&report["passed"], &report["printed"]), (&Value::Bool(true), &Value::from("")));
    assert_eq!(report["counters"]["stores"], 5);
    assert_eq!(report["outputs"][1]["unwritten_elements"], 1);
    assert_eq!(report["outputs"][0]["shape"], serde_json::json!([2, 3]));
}

#[test]
fn a_finding_names_its_line_and_exits_with_1() {
    let dir = folder();
    // More threads than elements, and a bound that lets them all through.
    let args = ["--arg", "in:x.npy", "--arg", "in:y.npy", "--arg", "out:f32:6:z.npy", "--arg", "u32:8"];
    let ran = emulate(dir.path(), &[&RUN[..], &args].concat());
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    let line = 1 + PTX.lines().position(|l| l.starts_with("ld.global.f32 %f0")).unwrap();
    assert!(ran.stdout.contains(&format!("PTX line {line}")) && ran.stdout.contains("out of bounds"), "{}", ran.stdout);
    assert!(!dir.path().join("z.npy").exists());
    let ran = emulate(dir.path(), &[&RUN[..], &args, &["--json"]].concat());
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let finding = &report["findings"][0];
    assert_eq!((ran.code, &report["passed"]), (Some(1), &Value::Bool(false)));
    assert_eq!((&finding["kind"], &finding["kernel"]), (&Value::from("out-of-bounds"), &Value::from("add")));
    assert_eq!((&finding["ptx_line"], &finding["access"]), (&Value::from(line), &Value::from("read")));
    assert_eq!((&finding["block"], &finding["thread"]), (&Value::from(vec![1, 0, 0]), &Value::from(vec![2, 0, 0])));
    assert_eq!((&finding["space"], &finding["bytes"]), (&Value::from("global"), &Value::from(4)));
    assert!(finding["text"].as_str().unwrap().contains("out of bounds"));
}

#[test]
fn errors_are_json_too_where_json_is_asked_for() {
    let dir = folder();
    std::fs::write(dir.path().join("bad.ptx"), PTX.replace("add.f32", "frobnicate.f32")).unwrap();
    for (args, code, part) in [
        (&["bad.ptx", "--entry", "add", "--json"][..], 1, "frobnicate"),
        (&["add.ptx", "--entry", "sub", "--json"], 2, "there is no kernel `sub`"),
        (&["add.ptx", "--entry", "add", "--json", "--arg", "in:none.npy"], 2, "none.npy"),
        (&["add.ptx", "--entry", "add", "--json", "--arg", "in"], 2, "expected KIND"),
        (&["add.ptx", "--json"], 2, "--entry"),
    ] {
        let ran = emulate(dir.path(), args);
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!((ran.code, &report["passed"]), (Some(code), &Value::Bool(false)), "{args:?}");
        assert!(report["error"].as_str().unwrap().contains(part), "{args:?}: {}", ran.stdout);
        assert!(!ran.stderr.is_empty());
    }
}

#[test]
fn outputs_are_all_written_or_none_and_never_over_each_other() {
    let dir = folder();
    let run = |z: &str, more: &[&str]| {
        let z = format!("out:f32:6:{z}");
        let args = ["--arg", "in:x.npy", "--arg", "inout:y.npy:y2.npy", "--arg", &z, "--arg", "i32:5"];
        emulate(dir.path(), &[&RUN[..], &args, more].concat())
    };
    let ran = run("./y2.npy", &[]);
    assert_eq!(ran.code, Some(2), "{}", ran.stdout);
    assert!(ran.stderr.contains("two outputs go to"), "{}", ran.stderr);
    assert_eq!(run("y3.npy", &["--ptx", "y3.npy"]).code, Some(2));
    std::fs::create_dir(dir.path().join("z.npy")).unwrap();
    for bad in ["z.npy", "none/z.npy"] {
        let ran = run(bad, &[]);
        assert_eq!(ran.code, Some(1), "{}", ran.stdout);
        assert!(ran.stderr.contains(bad) && !dir.path().join("y2.npy").exists(), "{}", ran.stderr);
    }
    assert_eq!(run("z2.npy", &[]).code, Some(0));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        std::fs::write(dir.path().join("new"), "").unwrap();
        assert_eq!((mode("y2.npy"), mode("z2.npy")), (mode("new"), mode("new")));
    }
}

#[test]
fn arguments_are_held_against_the_types_of_parameters() {
    let dir = folder();
    let ptx = ".version 8.0\n.target sm_80\n.address_size 64\n\
        .visible .entry fill(.param .u64 x, .param .f32 a, .param .align 4 .b8 s[8])\n{\n.reg .f32 %f<3>;\n.reg .b64 %rd<2>;\n\
        ld.param.u64 %rd0, [x];\nld.param.f32 %f0, [a];\nld.param.f32 %f1, [s+4];\nadd.f32 %f2, %f0, %f1;\n\
        st.global.f32 [%rd0], %f2;\nret;\n}\n";
    std::fs::write(dir.path().join("fill.ptx"), ptx).unwrap();
    NpyArray::new(vec![2], NpyData::F32(vec![0.0, 0.5])).unwrap().write(&dir.path().join("s.npy")).unwrap();
    let run = |x: &str, a: &str, s: &str| {
        emulate(dir.path(), &["fill.ptx", "--entry", "fill", "--arg", x, "--arg", a, "--arg", s])
    };
    let ran = run("out:f32:1:o.npy", "f32:2", "bytes:s.npy");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(load(&dir.path().join("o.npy")).data(), &NpyData::F32(vec![2.5]));
    let ran = run("out:f32:1:o.npy", "i32:2", "bytes:s.npy");
    assert_eq!(ran.code, Some(2), "{}", ran.stdout);
    let want = "takes (u64, f32, 8 B by value), the arguments are (array, i32, 8 B by value): argument 1";
    assert!(ran.stderr.contains(want), "{}", ran.stderr);
    assert_eq!(run("out:f32:1:o.npy", "f32:2", "bytes:x.npy").code, Some(2));
    assert_eq!(run("f64:1", "f32:2", "bytes:s.npy").code, Some(2));
    // What is written to an array that only goes in is told.
    let ran = run("in:x.npy", "f32:2", "bytes:s.npy");
    assert_eq!(ran.code, Some(0));
    assert!(ran.stderr.contains("argument 0") && ran.stderr.contains("inout:"), "{}", ran.stderr);
    for (map, part) in [
        ("tmap:9:f32:dims=4:box=4", "argument 9, which is not there"),
        ("tmap:1:f32:dims=4:box=4", "argument 1, which is no array"),
        ("tmap:0:i32:dims=4:box=4:fill=nan", "NaN"),
    ] {
        let ran = run("in:x.npy", "f32:1", map);
        assert!(ran.code == Some(2) && ran.stderr.contains(part), "{}", ran.stderr);
    }
}

#[test]
fn a_command_line_that_makes_no_sense_exits_with_2() {
    let dir = folder();
    for args in [
        &["add.ptx", "--entry", "sub"][..],
        &["add.ptx", "--entry", "add", "--arg", "i32:1"],
        &["add.ptx", "--entry", "add", "--arg", "in"],
        &["add.ptx", "--entry", "add", "--grid", "1,2,3,4"],
        &["missing.ptx", "--entry", "add"],
        &["x.npy", "--entry", "add"],
        &["add.ptx"],
    ] {
        let ran = emulate(dir.path(), args);
        assert_eq!(ran.code, Some(2), "{args:?}: {}{}", ran.stdout, ran.stderr);
        assert!(!ran.stderr.is_empty());
    }
    std::fs::write(dir.path().join("bad.ptx"), PTX.replace("add.f32", "frobnicate.f32")).unwrap();
    let ran = emulate(dir.path(), &["bad.ptx", "--entry", "add", "--ptx", "shown.ptx"]);
    assert_eq!(ran.code, Some(1));
    assert!(std::fs::read_to_string(dir.path().join("shown.ptx")).unwrap().contains("frobnicate"));
    let line = 1 + PTX.lines().position(|l| l.starts_with("add.f32")).unwrap();
    assert!(ran.stderr.contains("bad.ptx") && ran.stderr.contains(&format!("line {line}")), "{}", ran.stderr);
    assert!(ran.stderr.contains("frobnicate"), "{}", ran.stderr);
}

#[test]
fn help_shows_examples() {
    let ran = emulate(Path::new("."), &["--help"]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.stdout.contains("Examples:") && ran.stdout.contains("tmap:2:bf16:dims="), "{}", ran.stdout);
}
