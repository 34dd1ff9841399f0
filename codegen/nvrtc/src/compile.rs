//! One unit of CUDA C++ in, PTX, cubin and report out.
//!
//! Law: the result hangs on the unit, the headers and the compiler alone: no path, clock or environment enters it.
//! The options are fixed but for [`Options`]; what each of them is for stands beside it.

use std::ffi::CString;
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::arch::Arch;
use crate::binding::{Api, CallError, ERROR_COMPILATION, LoadError, SUCCESS, preload};
use crate::cache::CacheKey;
use crate::diagnose::{self, Diagnostic, Severity};
use crate::locate::{HEADERS, Toolchain};
use crate::report::{self, KernelReport, STATIC_SMEM_LIMIT_BYTES};

/// A header is a few hundred KB; more is something else under its name.
const MAX_HEADER_BYTES: u64 = 8 << 20;

/// A loaded compiler; any number of threads may compile with one at the same time.
#[derive(Clone, Debug)]
pub struct Compiler {
    api: Api,
    headers: Vec<(CString, CString)>,
    archs: Vec<u16>,
    build: String,
    identity: [u8; 32],
}

/// What to compile.
#[derive(Clone, Copy, Debug)]
pub struct Unit<'a> {
    /// Its name in messages and line tables; characters other than letters, digits, `_`, `-` and `.` become `_`.
    pub name: &'a str,
    /// CUDA C++17 that includes nothing but `cuda_fp16.h` and `cuda_bf16.h`.
    pub source: &'a str,
    /// What to compile for.
    pub arch: Arch,
    /// The few choices there are.
    pub options: Options,
}

/// The choices of a compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Contract multiply and add into one rounding.
    pub fmad: bool,
    /// Keep source lines in PTX and cubin, for profilers, the emulator and assembler errors.
    pub line_info: bool,
    /// Upper bound of registers per thread, where `__launch_bounds__` in the text does not do.
    pub max_registers: Option<u32>,
}

/// The result of a compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// The PTX.
    pub ptx: String,
    /// The cubin, for a real architecture.
    pub cubin: Option<Vec<u8>>,
    /// What compiler and assembler said, timings removed.
    pub log: String,
    /// A report for each kernel of the cubin, in the order of the PTX; empty without a cubin.
    pub report: Vec<KernelReport>,
}

/// Why no compiler could be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A library could not be loaded.
    #[error("cannot load NVRTC")]
    Load(#[from] LoadError),
    /// A header could not be read.
    #[error("cannot read header {}", path.display())]
    Header {
        /// The header.
        path: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// NVRTC does not answer.
    #[error("NVRTC does not work")]
    Call(#[from] CallError),
    /// An empty kernel does not compile.
    #[error("NVRTC cannot compile an empty kernel")]
    Probe(#[source] Box<CompileError>),
}

/// Why a unit did not compile.
#[derive(Debug)]
pub enum CompileError {
    /// The text is wrong.
    Source {
        /// The unit's name.
        kernel: String,
        /// Errors first to last, with warnings and notes between them.
        diagnostics: Vec<Diagnostic>,
        /// The text.
        source: String,
    },
    /// The text is right and the assembler refuses what became of it.
    Assembly {
        /// The unit's name.
        kernel: String,
        /// What it says, with source lines where they are known.
        diagnostics: Vec<Diagnostic>,
        /// How far it came with each kernel.
        report: Vec<KernelReport>,
        /// The text.
        source: String,
    },
    /// This NVRTC does not know the architecture.
    Arch {
        /// The unit's name.
        kernel: String,
        /// What was asked for.
        arch: Arch,
        /// What it knows.
        supported: Vec<u16>,
    },
    /// The text has a NUL byte.
    Nul {
        /// The unit's name.
        kernel: String,
    },
    /// NVRTC failed for a reason outside the text.
    Call {
        /// The unit's name.
        kernel: String,
        /// The call.
        call: CallError,
        /// What the log says.
        log: String,
    },
}

impl Default for Options {
    /// Contraction on, line tables on, registers free.
    fn default() -> Options {
        Options { fmad: true, line_info: true, max_registers: None }
    }
}

impl Compiler {
    /// Loads the libraries, reads the headers and compiles an empty kernel to see that all parts work together.
    ///
    /// The libraries stay loaded. Two toolchains of the same minor version in one process share the builtins that were
    /// opened first, because NVRTC asks for them by name.
    ///
    /// # Errors
    /// [`OpenError`] when a file is missing or broken or the compiler does not answer.
    pub fn open(toolchain: &Toolchain) -> Result<Compiler, OpenError> {
        preload(toolchain.builtins())?;
        let api = Api::open(toolchain.nvrtc())?;
        let mut headers = Vec::new();
        for name in HEADERS {
            let path = toolchain.include().join(name);
            let text = header(&path, name).map_err(|source| OpenError::Header { path, source })?;
            headers.push((CString::new(name).expect("the names have no NUL"), text));
        }
        let archs = api.supported_archs()?;
        let mut compiler = Compiler { api, headers, archs, build: String::new(), identity: [0; 32] };
        let probe = Unit {
            name: "probe",
            source: "extern \"C\" __global__ void probe() {}\n",
            arch: Arch::COMPUTE_80,
            options: Options::default(),
        };
        let compiled = compiler.compile(&probe).map_err(|error| OpenError::Probe(Box::new(error)))?;
        // The head of the PTX names the exact build, which major and minor do not.
        let head = compiled.ptx.lines().take_while(|line| line.starts_with("//"));
        let words: Vec<&str> = head.map(|line| line.trim_start_matches('/').trim()).filter(|s| !s.is_empty()).collect();
        compiler.build = words.join("; ");
        let mut hash = Sha256::new();
        feed(&mut hash, compiler.build.as_bytes());
        for (name, text) in &compiler.headers {
            feed(&mut hash, name.as_bytes());
            feed(&mut hash, text.as_bytes());
        }
        compiler.identity = hash.finalize().into();
        Ok(compiler)
    }

    /// The compiler's own words about its build, as they stand on top of its PTX.
    pub fn build(&self) -> &str {
        &self.build
    }

    /// Numbers of the architectures it can compile for: 75, 80, ...
    pub fn supported_archs(&self) -> &[u16] {
        &self.archs
    }

    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    pub(crate) fn headers(&self) -> &[(CString, CString)] {
        &self.headers
    }

    /// The address of a unit's result: a hash of all that can change it.
    pub fn key(&self, unit: &Unit<'_>) -> CacheKey {
        let mut hash = Sha256::new();
        feed(&mut hash, concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).as_bytes());
        feed(&mut hash, &self.identity);
        feed(&mut hash, file_name(unit.name).as_bytes());
        for option in options(unit) {
            feed(&mut hash, option.as_bytes());
        }
        feed(&mut hash, unit.source.as_bytes());
        CacheKey::new(hash.finalize().into())
    }

    /// Compiles one unit.
    ///
    /// # Errors
    /// [`CompileError`], which shows the lines of the text it is about.
    pub fn compile(&self, unit: &Unit<'_>) -> Result<Compiled, CompileError> {
        let kernel = || unit.name.to_owned();
        let failed = |log: &str| {
            let log = log.to_owned();
            move |call| CompileError::Call { kernel: unit.name.to_owned(), call, log }
        };
        if !self.archs.contains(&unit.arch.number()) {
            return Err(CompileError::Arch { kernel: kernel(), arch: unit.arch, supported: self.archs.clone() });
        }
        let strangers = foreign_includes(unit.source);
        if !strangers.is_empty() {
            return Err(CompileError::Source {
                kernel: kernel(),
                diagnostics: strangers,
                source: unit.source.to_owned(),
            });
        }
        let file = file_name(unit.name);
        let source = CString::new(unit.source).map_err(|_| CompileError::Nul { kernel: kernel() })?;
        let name = CString::new(file.as_str()).expect("odd characters were replaced");
        let options: Vec<CString> =
            options(unit).into_iter().map(|option| CString::new(option).expect("made of no odd characters")).collect();

        let program = self.api.program(&source, &name, &self.headers).map_err(failed(""))?;
        let status = program.compile(&options);
        let log = without_timings(&program.log().map_err(failed(""))?);
        if status != SUCCESS && status != ERROR_COMPILATION {
            let call = self.api.check("nvrtcCompileProgram", status).expect_err("the status is no success");
            return Err(CompileError::Call { kernel: kernel(), call, log });
        }
        let ptx = program.ptx().map_err(failed(&log))?;
        if status == ERROR_COMPILATION {
            return Err(explain(unit, &file, &log, &ptx));
        }
        let cubin = match unit.arch.is_real() {
            true => Some(program.cubin().map_err(failed(&log))?),
            false => None,
        };
        Ok(Compiled::new(ptx, cubin, log))
    }
}

impl Compiled {
    /// Reads the report out of the log.
    pub(crate) fn new(ptx: String, cubin: Option<Vec<u8>>, log: String) -> Compiled {
        let report = if cubin.is_some() { report::read(&ptx, &log) } else { Vec::new() };
        Compiled { ptx, cubin, log, report }
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompileError::Source { kernel, diagnostics, source } => {
                let n_errors = diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
                let plural = if n_errors == 1 { "" } else { "s" };
                write!(f, "`{kernel}` does not compile, {n_errors} error{plural}")?;
                diagnose::write_all(f, diagnostics, source)
            }
            CompileError::Assembly { kernel, diagnostics, report: _, source } => {
                write!(f, "`{kernel}` does not assemble")?;
                diagnose::write_all(f, diagnostics, source)
            }
            CompileError::Arch { kernel, arch, supported } => {
                let supported: Vec<String> = supported.iter().map(u16::to_string).collect();
                write!(f, "`{kernel}`: this NVRTC does not know {arch}, only {}", supported.join(", "))
            }
            CompileError::Nul { kernel } => write!(f, "`{kernel}`: the source has a NUL byte"),
            CompileError::Call { kernel, call, log } => write!(f, "`{kernel}`: {call}: {}", log.trim()),
        }
    }
}

impl std::error::Error for CompileError {}

/// Tells a refused text from a refused assembly: the front end leaves no PTX when it fails.
pub(crate) fn explain(unit: &Unit<'_>, file: &str, log: &str, ptx: &str) -> CompileError {
    let (kernel, source) = (unit.name.to_owned(), unit.source.to_owned());
    if ptx.is_empty() {
        let mut diagnostics = diagnose::front_end(log, file);
        if !diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
            diagnostics.push(unplaced(log.trim().to_owned()));
        }
        return CompileError::Source { kernel, diagnostics, source };
    }
    let report = report::read(ptx, log);
    let mut diagnostics = diagnose::assembler(log, ptx, file);
    for report in report.iter().filter(|report| report.static_smem_bytes > STATIC_SMEM_LIMIT_BYTES) {
        diagnostics.push(unplaced(format!(
            "`{}` has {} B of static shared memory, the limit is {STATIC_SMEM_LIMIT_BYTES} B; make it dynamic",
            report.kernel, report.static_smem_bytes
        )));
    }
    if diagnostics.is_empty() {
        diagnostics.push(unplaced(format!("the assembler gives no reason: {}", log.trim())));
    }
    CompileError::Assembly { kernel, diagnostics, report, source }
}

/// The includes of other files than [`HEADERS`].
///
/// NVRTC opens absolute paths whatever its options are, and a file it reads is not part of the key. This guards against
/// an oversight; a text that builds an include out of macros gets past it.
fn foreign_includes(source: &str) -> Vec<Diagnostic> {
    let mut all = Vec::new();
    for (at, line) in source.lines().enumerate() {
        let directive = line.trim_start().strip_prefix('#').map(str::trim_start);
        let Some(target) = directive.and_then(|directive| directive.strip_prefix("include")) else {
            continue;
        };
        let name = target.trim_start().trim_start_matches(['<', '"']).split(['>', '"']).next().unwrap_or_default();
        if !HEADERS.contains(&name) {
            let message = format!("`{name}` cannot be included, only cuda_fp16.h and cuda_bf16.h can");
            let line = u32::try_from(at + 1).ok();
            all.push(Diagnostic { severity: Severity::Error, file: None, line, column: None, message });
        }
    }
    all
}

fn unplaced(message: String) -> Diagnostic {
    Diagnostic { severity: Severity::Error, file: None, line: None, column: None, message }
}

fn options(unit: &Unit<'_>) -> Vec<String> {
    let Options { fmad, line_info, max_registers } = unit.options;
    let mut options = vec![
        format!("--gpu-architecture={}", unit.arch),
        "--std=c++17".to_owned(),
        // A helper without `__device__` is a device function: templates carry no host code.
        "-default-device".to_owned(),
        // A file that happens to lie in the working directory must not be included.
        "--no-source-include".to_owned(),
        // `--restrict` is left out on purpose: in-place updates hand the same buffer to two parameters.
        format!("--fmad={fmad}"),
    ];
    if line_info {
        options.push("-lineinfo".to_owned());
    }
    if let Some(max_registers) = max_registers {
        options.push(format!("--maxrregcount={max_registers}"));
    }
    if unit.arch.is_real() {
        options.push("--ptxas-options=-v".to_owned());
    }
    options
}

/// The name a unit is compiled under: absolute, so that the working directory is not put in front of it.
pub(crate) fn file_name(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' };
    format!("/enel/{}.cu", name.chars().map(keep).collect::<String>())
}

/// A header under a name that is the same on every machine.
fn header(path: &std::path::Path, name: &str) -> io::Result<CString> {
    let n_bytes = fs::metadata(path)?.len();
    if n_bytes > MAX_HEADER_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{n_bytes} bytes are no header of CUDA")));
    }
    let mut text = format!("#line 1 \"/enel/{name}\"\n").into_bytes();
    text.extend(fs::read(path)?);
    CString::new(text).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it has a NUL byte"))
}

pub(crate) fn without_timings(log: &str) -> String {
    let mut kept = String::with_capacity(log.len());
    for line in log.lines().filter(|line| !line.contains(" : Compile time = ")) {
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

/// Feeds a part with its length in front, so that no two lists of parts feed the same bytes.
fn feed(hash: &mut Sha256, part: &[u8]) {
    hash.update((part.len() as u64).to_le_bytes());
    hash.update(part);
}
