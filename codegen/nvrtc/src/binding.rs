//! How is NVRTC called? The only file with `unsafe`: a table of its functions and a program that frees itself.
//!
//! The types come from `cudarc`; its loader does not, for three reasons that were tried out. It tries the bare name
//! `libnvrtc.so` before `libnvrtc.so.13`, so any other version on the loader's path wins over a library that was opened
//! by absolute path before (the soname trick helps only where nothing else is installed). It panics when it finds
//! nothing or a symbol is missing. Its `nvrtcResult` is a Rust enum, so a status that a newer 13.x adds (18 exists in
//! 13.3) would be undefined behaviour: here a status stays an integer.

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::{Path, PathBuf};
use std::ptr;

use cudarc::nvrtc::sys::{nvrtcProgram, nvrtcResult};
use libloading::Library;

use crate::elf::{self, ElfError};

/// A file that could not be opened as the library it should be.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is not a library for this machine.
    #[error("{} is no usable library", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ElfError,
    },
    /// The loader refused it.
    #[error("the loader refuses {}", path.display())]
    Loader {
        /// The file.
        path: PathBuf,
        /// What the loader said.
        #[source]
        source: libloading::Error,
    },
    /// It opened, but is not an NVRTC this crate knows.
    #[error("{} has no function {symbol}", path.display())]
    Symbol {
        /// The file.
        path: PathBuf,
        /// The missing function.
        symbol: &'static str,
    },
}

/// An NVRTC call that failed for another reason than the program given to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call} returned {code} ({text})")]
pub struct CallError {
    /// The function.
    pub call: &'static str,
    /// Its status.
    pub code: i32,
    /// The status in NVRTC's words.
    pub text: String,
}

pub(crate) const SUCCESS: c_int = nvrtcResult::NVRTC_SUCCESS as c_int;
pub(crate) const ERROR_COMPILATION: c_int = nvrtcResult::NVRTC_ERROR_COMPILATION as c_int;

type SizeFn = unsafe extern "C" fn(nvrtcProgram, *mut usize) -> c_int;
type FillFn = unsafe extern "C" fn(nvrtcProgram, *mut c_char) -> c_int;
type CreateFn = unsafe extern "C" fn(
    *mut nvrtcProgram,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;

/// The functions of one loaded NVRTC. The library stays loaded for the life of the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Api {
    version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int,
    error_string: unsafe extern "C" fn(c_int) -> *const c_char,
    n_archs: unsafe extern "C" fn(*mut c_int) -> c_int,
    archs: unsafe extern "C" fn(*mut c_int) -> c_int,
    create: CreateFn,
    destroy: unsafe extern "C" fn(*mut nvrtcProgram) -> c_int,
    compile: unsafe extern "C" fn(nvrtcProgram, c_int, *const *const c_char) -> c_int,
    ask_name: unsafe extern "C" fn(nvrtcProgram, *const c_char) -> c_int,
    name_of: unsafe extern "C" fn(nvrtcProgram, *const c_char, *mut *const c_char) -> c_int,
    log: Blob,
    ptx: Blob,
    cubin: Blob,
}

/// A pair of functions: how long, then the bytes.
#[derive(Clone, Copy, Debug)]
struct Blob {
    size: SizeFn,
    fill: FillFn,
    name: &'static str,
}

/// Opens a library that others will look up by its bare name, and leaves it open.
pub(crate) fn preload(path: &Path) -> Result<(), LoadError> {
    std::mem::forget(open(path)?);
    Ok(())
}

fn open(path: &Path) -> Result<Library, LoadError> {
    elf::check(path).map_err(|source| LoadError::File { path: path.to_owned(), source })?;
    // SAFETY: opening runs the initialisers of a whole ELF file that the user or the search chose as NVIDIA's compiler;
    // they have no preconditions. An absolute path keeps the loader from searching for another file of that name.
    unsafe { Library::new(path) }.map_err(|source| LoadError::Loader { path: path.to_owned(), source })
}

impl Api {
    /// Loads the library at `path`, an absolute path.
    pub(crate) fn open(path: &Path) -> Result<Api, LoadError> {
        let lib = open(path)?;
        let missing = |symbol| LoadError::Symbol { path: path.to_owned(), symbol };
        macro_rules! symbol {
            ($name:literal) => {
                // SAFETY: the field that takes the result has the type `nvrtc.h` of CUDA 13.0 declares for this name,
                // with the status as the C `int` it is, and the library is never closed.
                *unsafe { lib.get($name.as_bytes()) }.map_err(|_| missing($name))?
            };
        }
        let api = Api {
            version: symbol!("nvrtcVersion"),
            error_string: symbol!("nvrtcGetErrorString"),
            n_archs: symbol!("nvrtcGetNumSupportedArchs"),
            archs: symbol!("nvrtcGetSupportedArchs"),
            create: symbol!("nvrtcCreateProgram"),
            destroy: symbol!("nvrtcDestroyProgram"),
            compile: symbol!("nvrtcCompileProgram"),
            ask_name: symbol!("nvrtcAddNameExpression"),
            name_of: symbol!("nvrtcGetLoweredName"),
            log: Blob {
                size: symbol!("nvrtcGetProgramLogSize"),
                fill: symbol!("nvrtcGetProgramLog"),
                name: "nvrtcGetProgramLog",
            },
            ptx: Blob { size: symbol!("nvrtcGetPTXSize"), fill: symbol!("nvrtcGetPTX"), name: "nvrtcGetPTX" },
            cubin: Blob { size: symbol!("nvrtcGetCUBINSize"), fill: symbol!("nvrtcGetCUBIN"), name: "nvrtcGetCUBIN" },
        };
        std::mem::forget(lib);
        Ok(api)
    }

    /// Major and minor version, (13, 0).
    pub(crate) fn version(&self) -> Result<(u32, u32), CallError> {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: both pointers are to integers that live through the call.
        let status = unsafe { (self.version)(&mut major, &mut minor) };
        self.check("nvrtcVersion", status)?;
        Ok((u32::try_from(major).unwrap_or(0), u32::try_from(minor).unwrap_or(0)))
    }

    /// The numbers of the architectures this NVRTC can compile for, ascending.
    pub(crate) fn supported_archs(&self) -> Result<Vec<u16>, CallError> {
        let mut n_archs: c_int = 0;
        // SAFETY: the pointer is to an integer that lives through the call.
        let status = unsafe { (self.n_archs)(&mut n_archs) };
        self.check("nvrtcGetNumSupportedArchs", status)?;
        let mut archs = vec![0 as c_int; usize::try_from(n_archs).unwrap_or(0)];
        // SAFETY: NVRTC writes as many integers as it just announced, and the vector holds that many.
        let status = unsafe { (self.archs)(archs.as_mut_ptr()) };
        self.check("nvrtcGetSupportedArchs", status)?;
        Ok(archs.into_iter().filter_map(|arch| u16::try_from(arch).ok()).collect())
    }

    /// Makes a program of `source`, called `name`, that may include `headers` (name, text) and no file.
    pub(crate) fn program<'a>(
        &'a self,
        source: &'a CStr,
        name: &'a CStr,
        headers: &'a [(CString, CString)],
    ) -> Result<Program<'a>, CallError> {
        let texts: Vec<*const c_char> = headers.iter().map(|(_, text)| text.as_ptr()).collect();
        let names: Vec<*const c_char> = headers.iter().map(|(name, _)| name.as_ptr()).collect();
        let n_headers = c_int::try_from(headers.len()).expect("headers are a handful");
        let mut raw: nvrtcProgram = ptr::null_mut();
        // SAFETY: every pointer is to a NUL-terminated string or an array of `n_headers` of them. Whether NVRTC copies
        // them is not relied on: the program borrows the strings and owns the arrays until it is destroyed.
        let status = unsafe {
            (self.create)(&mut raw, source.as_ptr(), name.as_ptr(), n_headers, texts.as_ptr(), names.as_ptr())
        };
        self.check("nvrtcCreateProgram", status)?;
        Ok(Program { api: self, raw, _arrays: [texts, names] })
    }

    pub(crate) fn check(&self, call: &'static str, code: c_int) -> Result<(), CallError> {
        if code == SUCCESS {
            return Ok(());
        }
        // SAFETY: the function accepts any status and returns a static string.
        let text = unsafe { (self.error_string)(code) };
        let text = if text.is_null() {
            "unknown status".to_owned()
        } else {
            // SAFETY: not null, and NVRTC's error strings are static and NUL-terminated.
            unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
        };
        Err(CallError { call, code, text })
    }
}

/// One program, destroyed when dropped.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    api: &'a Api,
    raw: nvrtcProgram,
    _arrays: [Vec<*const c_char>; 2],
}

impl Program<'_> {
    /// Compiles; the raw status is the answer, because a failed compile still has a log.
    pub(crate) fn compile(&self, options: &[CString]) -> c_int {
        let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let n_options = c_int::try_from(options.len()).expect("options are a handful");
        // SAFETY: the program is alive, and `options` points to `n_options` NUL-terminated strings that outlive the call.
        unsafe { (self.api.compile)(self.raw, n_options, options.as_ptr()) }
    }

    /// Asks for the kernel that `expression` names; before the compile.
    pub(crate) fn ask_name(&self, expression: &CStr) -> Result<(), CallError> {
        // SAFETY: the program is alive and NVRTC copies the NUL-terminated string.
        let status = unsafe { (self.api.ask_name)(self.raw, expression.as_ptr()) };
        self.api.check("nvrtcAddNameExpression", status)
    }

    /// The name in the PTX of an expression that was asked for; after the compile.
    pub(crate) fn name_of(&self, expression: &CStr) -> Result<String, CallError> {
        let mut name: *const c_char = ptr::null();
        // SAFETY: the program is alive and both pointers are valid for the call.
        let status = unsafe { (self.api.name_of)(self.raw, expression.as_ptr(), &mut name) };
        self.api.check("nvrtcGetLoweredName", status)?;
        if name.is_null() {
            return Ok(String::new());
        }
        // SAFETY: not null after success, NUL-terminated, and owned by the program, which is alive.
        Ok(unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
    }

    /// What the compiler and the assembler said.
    pub(crate) fn log(&self) -> Result<String, CallError> {
        self.read(self.api.log).map(text)
    }

    /// The PTX, empty when the front end failed.
    pub(crate) fn ptx(&self) -> Result<String, CallError> {
        self.read(self.api.ptx).map(text)
    }

    /// The cubin, empty for a virtual architecture or when the assembler failed.
    pub(crate) fn cubin(&self) -> Result<Vec<u8>, CallError> {
        self.read(self.api.cubin)
    }

    fn read(&self, blob: Blob) -> Result<Vec<u8>, CallError> {
        let mut size = 0usize;
        // SAFETY: the program is alive and the pointer is to a size that lives through the call.
        let status = unsafe { (blob.size)(self.raw, &mut size) };
        self.api.check(blob.name, status)?;
        let mut bytes = vec![0u8; size];
        if size == 0 {
            return Ok(bytes);
        }
        // SAFETY: NVRTC writes the number of bytes it just announced, and the vector holds that many.
        let status = unsafe { (blob.fill)(self.raw, bytes.as_mut_ptr().cast()) };
        self.api.check(blob.name, status)?;
        Ok(bytes)
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // SAFETY: the program came from `create`, is destroyed once, and nothing uses it afterwards.
        let _freed = unsafe { (self.api.destroy)(&mut self.raw) };
    }
}

fn text(mut bytes: Vec<u8>) -> String {
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
