//! How do tests run the command, and where are the golden values? The one place that starts processes.
#![allow(dead_code, unreachable_pub, reason = "each suite uses its part")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `enel` with these arguments in the repository's root.
pub fn enel(args: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_enel")).args(args).current_dir(root()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs `enel` with these arguments and this stdin in the repository's root.
pub fn enel_with(args: &[&str], stdin: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_enel"));
    command.args(args).current_dir(root()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that ends early closes its stdin, which is for its exit code to tell.
    drop(child.stdin.take().unwrap().write_all(stdin.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A folder that holds the model folder `llama`, imported from a GGUF file of two layers.
pub fn llama() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (root().join("model/io/tests/fixtures/gguf_llama.gguf"), dir.path().join("llama"));
    let ran = enel(&["model", "import", from.to_str().unwrap(), "-o", to.to_str().unwrap(), "--dtype", "f32"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    dir
}

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The folder of golden values, if it exists beside the checkout.
pub fn fixtures() -> Option<PathBuf> {
    let folder = std::env::var_os("ENEL_FIXTURES").map_or_else(|| root().join("../shared/fixtures"), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: no golden values");
    None
}

/// A writable copy of the golden values of these stems.
pub fn copied(from: &Path, stems: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for stem in stems {
        for end in ["json", "safetensors", "model"] {
            let path = from.join(format!("{stem}.{end}"));
            if path.is_file() {
                std::fs::write(dir.path().join(format!("{stem}.{end}")), std::fs::read(path).unwrap()).unwrap();
            }
        }
    }
    dir
}
