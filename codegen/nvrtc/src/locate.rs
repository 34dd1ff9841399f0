//! Where is NVRTC? Places are tried in a fixed order, each with a reason when it does not serve.
//!
//! Order: the explicit path; CUDA toolkits; wheels in the site-packages of `python3`; what [`crate::install`] placed.
//! An explicit path that does not serve is an error at once: the user chose it, so no other is taken in its stead.
//! Law: nothing here reads the environment; a binary fills a [`Search`], with [`Search::from_env`] if it likes.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::binding::{Api, CallError, LoadError};

/// The CUDA major version this project compiles with; another one is refused.
pub const MAJOR: u32 = 13;

/// The headers a kernel may include, and all that these include in turn.
pub const HEADERS: [&str; 4] = ["cuda_bf16.h", "cuda_bf16.hpp", "cuda_fp16.h", "cuda_fp16.hpp"];

/// How long a `python3` may take to name its folders.
const PYTHON_TIMEOUT: Duration = Duration::from_secs(20);

/// Where to look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// A library file or a folder the user named; nothing else is tried when it is set.
    pub explicit: Option<PathBuf>,
    /// A folder with the [`HEADERS`], where they do not lie beside the library.
    pub include: Option<PathBuf>,
    /// Roots of CUDA toolkits, best first.
    pub toolkits: Vec<PathBuf>,
    /// The interpreter whose site-packages may hold NVIDIA's wheels.
    pub python: Option<PathBuf>,
    /// This project's data folder, the one given to [`crate::install`].
    pub data_dir: Option<PathBuf>,
}

/// How a toolchain was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The path the user named.
    Explicit,
    /// A CUDA toolkit.
    Toolkit,
    /// A wheel in a Python installation.
    Wheel,
    /// Placed by [`crate::install`].
    Installed,
}

/// An NVRTC that was loaded once, with its builtins and headers: version 13, all files present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    nvrtc: PathBuf,
    builtins: PathBuf,
    include: PathBuf,
    version: (u32, u32),
    source: Source,
}

/// One place that was looked at in vain.
#[derive(Debug)]
pub struct Looked {
    /// The folder, file or command.
    pub place: PathBuf,
    /// What kind of place.
    pub source: Source,
    /// Why it does not serve.
    pub why: Why,
}

/// Why a place does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// The path does not exist.
    #[error("does not exist")]
    Missing,
    /// It exists and holds no `libnvrtc.so`.
    #[error("holds no libnvrtc.so")]
    NoLibrary,
    /// A library is there and cannot be loaded.
    #[error("{}", chain(.0))]
    Load(#[from] LoadError),
    /// It was loaded and does not answer.
    #[error("{0}")]
    Call(#[from] CallError),
    /// Another CUDA version.
    #[error("{} is CUDA {major}.{minor}, CUDA {MAJOR} is needed", library.display())]
    OtherMajor {
        /// The library.
        library: PathBuf,
        /// Its major version.
        major: u32,
        /// Its minor version.
        minor: u32,
    },
    /// The second library is not beside the first.
    #[error("has no {name} beside libnvrtc")]
    NoBuiltins {
        /// The file name that was expected.
        name: String,
    },
    /// The headers are not there.
    #[error("has no {header} beside it")]
    NoHeaders {
        /// The first header that is missing.
        header: &'static str,
    },
    /// The interpreter could not be asked.
    #[error("cannot say where its packages lie: {reason}")]
    Python {
        /// What happened.
        reason: String,
    },
}

/// No usable NVRTC.
#[derive(Debug)]
pub struct LocateError {
    /// Every place, in the order of looking.
    pub looked: Vec<Looked>,
}

impl Search {
    /// The usual places, from variables that `get` looks up: `ENEL_NVRTC` (explicit path), `CUDA_HOME`, `CUDA_PATH`,
    /// `XDG_DATA_HOME`, `HOME`; then `/usr/local/cuda*`, `/opt/cuda` and `python3`.
    pub fn from_env(get: impl Fn(&str) -> Option<OsString>) -> Search {
        let path = |name: &str| get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let mut toolkits: Vec<PathBuf> = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(path).collect();
        toolkits.extend(system_toolkits());
        let mut unique: Vec<PathBuf> = Vec::new();
        for root in toolkits {
            if !unique.contains(&root) {
                unique.push(root);
            }
        }
        // The base directory specification has relative paths ignored.
        let data_home = path("XDG_DATA_HOME")
            .filter(|dir| dir.is_absolute())
            .or_else(|| path("HOME").map(|home| home.join(".local").join("share")));
        Search {
            explicit: path("ENEL_NVRTC"),
            include: None,
            toolkits: unique,
            python: Some(PathBuf::from("python3")),
            data_dir: data_home.map(|dir| dir.join("enel")),
        }
    }
}

impl Toolchain {
    /// `libnvrtc`, an absolute path.
    pub fn nvrtc(&self) -> &Path {
        &self.nvrtc
    }

    /// `libnvrtc-builtins` of the same version, an absolute path.
    pub fn builtins(&self) -> &Path {
        &self.builtins
    }

    /// The folder with the [`HEADERS`].
    pub fn include(&self) -> &Path {
        &self.include
    }

    /// Major and minor version as the library states them.
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// How it was found.
    pub fn source(&self) -> Source {
        self.source
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Explicit => "given path",
            Source::Toolkit => "CUDA toolkit",
            Source::Wheel => "Python packages",
            Source::Installed => "installed toolchain",
        })
    }
}

impl fmt::Display for LocateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no usable NVRTC of CUDA {MAJOR}; looked at")?;
        for Looked { place, source, why } in &self.looked {
            write!(f, "\n  {source} {}: {why}", place.display())?;
        }
        if self.looked.is_empty() {
            write!(f, " no place at all")?;
        }
        write!(f, "\nrun `enel-compile toolchain install` to fetch one, or name one with ENEL_NVRTC")
    }
}

impl std::error::Error for LocateError {}

/// Finds the first NVRTC that loads, is version 13 and has its builtins and headers.
///
/// # Errors
/// [`LocateError`] with every place and its reason.
pub fn locate(search: &Search) -> Result<Toolchain, LocateError> {
    let mut looked = Vec::new();
    let include = search.include.as_deref();
    if let Some(place) = &search.explicit {
        return examine(place, Source::Explicit, include).map_err(|why| LocateError {
            looked: vec![Looked { place: place.clone(), source: Source::Explicit, why }],
        });
    }
    for place in &search.toolkits {
        match examine(place, Source::Toolkit, include) {
            Ok(found) => return Ok(found),
            Err(why) => looked.push(Looked { place: place.clone(), source: Source::Toolkit, why }),
        }
    }
    // Asking an interpreter takes tens of milliseconds, so its answer is sought only when the rest is in vain; our own
    // folder is looked at after it all the same, because a wheel the user installed is a choice and ours is a fallback.
    if let Some(python) = &search.python {
        match site_packages(python) {
            Ok(folders) => {
                for place in folders {
                    match examine(&place, Source::Wheel, include) {
                        Ok(found) => return Ok(found),
                        Err(why) => looked.push(Looked { place, source: Source::Wheel, why }),
                    }
                }
            }
            Err(reason) => {
                looked.push(Looked { place: python.clone(), source: Source::Wheel, why: Why::Python { reason } });
            }
        }
    }
    if let Some(data_dir) = &search.data_dir {
        let place = crate::install::place(data_dir);
        match examine(&place, Source::Installed, include) {
            Ok(found) => return Ok(found),
            Err(why) => looked.push(Looked { place, source: Source::Installed, why }),
        }
    }
    Err(LocateError { looked })
}

/// Looks at one library file, or at one folder and the sub-folders in which the known layouts keep the library.
pub(crate) fn examine(place: &Path, source: Source, include: Option<&Path>) -> Result<Toolchain, Why> {
    // The loader takes a path without a slash for a name to search for.
    let place = std::path::absolute(place).map_err(|_| Why::Missing)?;
    if !place.exists() {
        return Err(Why::Missing);
    }
    let libraries = if place.is_dir() { libraries_under(&place) } else { vec![place.clone()] };
    let mut first = None;
    for library in libraries {
        match examine_library(&library, source, include) {
            Ok(found) => return Ok(found),
            Err(why) => first = first.or(Some(why)),
        }
    }
    Err(first.unwrap_or(Why::NoLibrary))
}

fn examine_library(library: &Path, source: Source, include: Option<&Path>) -> Result<Toolchain, Why> {
    let version = Api::open(library)?.version()?;
    let (major, minor) = version;
    if major != MAJOR {
        return Err(Why::OtherMajor { library: library.to_owned(), major, minor });
    }
    // A toolkit links the library from a folder that may hold neither the builtins nor a way to the headers.
    let folders: Vec<PathBuf> = [Some(library.to_owned()), fs::canonicalize(library).ok()]
        .into_iter()
        .flatten()
        .filter_map(|path| path.parent().map(Path::to_owned))
        .collect();
    let name = format!("libnvrtc-builtins.so.{major}.{minor}");
    let builtins = folders.iter().map(|folder| folder.join(&name)).find(|path| path.is_file());
    let Some(builtins) = builtins else {
        return Err(Why::NoBuiltins { name });
    };
    let beside = ["../include", "../../include", "../../cuda_runtime/include"];
    let include = match include {
        Some(include) => vec![include.to_owned()],
        None => folders.iter().flat_map(|folder| beside.map(|way| folder.join(way))).collect(),
    };
    let found = include.iter().find(|folder| missing_header(folder).is_none());
    let Some(include) = found else {
        // Where a folder has some of the headers, the one it lacks says more than the first of all.
        let lacking = include.iter().filter_map(|folder| missing_header(folder));
        return Err(Why::NoHeaders { header: lacking.max().unwrap_or(HEADERS[0]) });
    };
    let include = fs::canonicalize(include).unwrap_or_else(|_| include.clone());
    Ok(Toolchain { nvrtc: library.to_owned(), builtins, include, version, source })
}

fn missing_header(folder: &Path) -> Option<&'static str> {
    HEADERS.into_iter().find(|header| !folder.join(header).is_file())
}

/// Files called `libnvrtc.so*` in the folder itself and in the layouts of the toolkit and of the wheels, new and old.
fn libraries_under(root: &Path) -> Vec<PathBuf> {
    let layouts = [
        "",
        "lib64",
        "lib",
        "targets/x86_64-linux/lib",
        "targets/sbsa-linux/lib",
        "nvidia/cu13/lib",
        "nvidia/cuda_nvrtc/lib",
    ];
    let mut all = Vec::new();
    for layout in layouts {
        let Ok(entries) = fs::read_dir(root.join(layout)) else {
            continue;
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name == "libnvrtc.so" || name.starts_with("libnvrtc.so."))
            .collect();
        // The wanted version first; then names in order, so that the result does not hang on the file system.
        let wanted = format!("libnvrtc.so.{MAJOR}");
        names.sort_by_key(|name| (*name != wanted && !name.starts_with(&format!("{wanted}.")), name.clone()));
        all.extend(names.into_iter().map(|name| root.join(layout).join(name)));
    }
    all
}

/// `/usr/local/cuda`, then `/usr/local/cuda-*` from high to low, then `/opt/cuda`.
fn system_toolkits() -> Vec<PathBuf> {
    let local = Path::new("/usr/local");
    let mut versioned: Vec<PathBuf> = fs::read_dir(local)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("cuda-")))
        .collect();
    versioned.sort();
    versioned.reverse();
    let mut all = vec![local.join("cuda")];
    all.extend(versioned);
    all.push(PathBuf::from("/opt/cuda"));
    all
}

/// The folders in which `python` keeps packages.
fn site_packages(python: &Path) -> Result<Vec<PathBuf>, String> {
    const ASK: &str = "import site, sysconfig\n\
        seen = [sysconfig.get_path('purelib'), sysconfig.get_path('platlib'), site.getusersitepackages()]\n\
        seen += site.getsitepackages()\n\
        print('\\n'.join(dict.fromkeys(p for p in seen if p)))";
    let mut child = Command::new(python)
        .args(["-c", ASK])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let status = wait(&mut child, PYTHON_TIMEOUT).map_err(|error| error.to_string())?;
    let Some(status) = status else {
        return Err(format!("it did not answer within {} s", PYTHON_TIMEOUT.as_secs()));
    };
    if !status.success() {
        return Err(format!("it ended with {status}"));
    }
    let mut answer = String::new();
    if let Some(stdout) = child.stdout.take() {
        // A few paths; the bound keeps a strange program from filling memory.
        stdout.take(1 << 16).read_to_string(&mut answer).map_err(|error| error.to_string())?;
    }
    Ok(answer.lines().map(PathBuf::from).filter(|path| path.is_absolute()).collect())
}

/// Waits for a child at most `limit`; kills it and returns `None` when it takes longer.
fn wait(child: &mut std::process::Child, limit: Duration) -> io::Result<Option<std::process::ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
