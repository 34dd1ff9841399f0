//! How is a text compiled that was not written for this project? With headers of the caller's and templates by name.
//!
//! Unlike [`Compiler::compile`] this reads what the text includes, from memory or from folders the caller names, so
//! the result is not cached. Host functions must be gone from the text.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::PathBuf;

use crate::arch::Arch;
use crate::binding::{ERROR_COMPILATION, SUCCESS};
use crate::compile::{CompileError, Compiler, explain, file_name, without_timings};
use crate::compile::{Options, Unit};

/// A text, and all it may ask for.
#[derive(Clone, Debug)]
pub struct Foreign<'a> {
    /// Its name in messages and line tables.
    pub name: &'a str,
    /// CUDA C++17.
    pub source: &'a str,
    /// What to compile for; a virtual architecture suffices, and no assembler runs then.
    pub arch: Arch,
    /// Headers by the name they are included under; the compiler's own half-precision headers come on top.
    pub headers: &'a [(&'a str, &'a str)],
    /// Folders searched for what `headers` lacks.
    pub folders: &'a [PathBuf],
    /// Macros, as `NAME` or `NAME=VALUE`.
    pub defines: &'a [String],
    /// The header of `headers` that is read before the text, if any.
    pub before: Option<&'a str>,
    /// Kernels to instantiate, such as `axpy<float, 4>`.
    pub expressions: &'a [&'a str],
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translated {
    /// The PTX.
    pub ptx: String,
    /// The name in the PTX of each expression.
    pub names: BTreeMap<String, String>,
    /// Warnings and notes.
    pub log: String,
}

impl Compiler {
    /// Compiles a text to PTX.
    ///
    /// # Errors
    /// [`CompileError`], which shows the lines of the text it is about.
    pub fn translate(&self, foreign: &Foreign<'_>) -> Result<Translated, CompileError> {
        let Foreign { name, source, arch, headers, folders, defines, before, expressions } = foreign;
        let unit = Unit { name, source, arch: *arch, options: Options::default() };
        let kernel = || (*name).to_owned();
        if !self.supported_archs().contains(&arch.number()) {
            let supported = self.supported_archs().to_vec();
            return Err(CompileError::Arch { kernel: kernel(), arch: *arch, supported });
        }
        let text = |text: &str| CString::new(text).map_err(|_| CompileError::Nul { kernel: kernel() });
        let mut all = self.headers().to_vec();
        for (header, body) in *headers {
            all.push((text(header)?, text(&format!("#line 1 \"/enel/{header}\"\n{body}"))?));
        }
        let mut options = vec![
            text(&format!("--gpu-architecture={arch}"))?,
            text("--std=c++17")?,
            text("-lineinfo")?,
            // NVRTC takes no host functions; what is unmarked counts as device code.
            text("-default-device")?,
            text("--no-source-include")?,
            // As the toolkit's own compiler has it.
            text("--device-int128")?,
        ];
        for folder in *folders {
            options.push(text(&format!("--include-path={}", folder.display()))?);
        }
        if let Some(header) = before {
            options.push(text(&format!("--pre-include={header}"))?);
        }
        for define in *defines {
            options.push(text(&format!("--define-macro={define}"))?);
        }
        let file = file_name(name.strip_suffix(".cu").unwrap_or(name));
        let (source, program_name) = (text(source)?, text(&file)?);
        let failed = |log: &str| {
            let log = log.to_owned();
            move |call| CompileError::Call { kernel: (*name).to_owned(), call, log }
        };
        let program = self.api().program(&source, &program_name, &all).map_err(failed(""))?;
        let asked = expressions.iter().map(|e| text(e)).collect::<Result<Vec<CString>, _>>()?;
        for expression in &asked {
            program.ask_name(expression).map_err(failed(""))?;
        }
        let status = program.compile(&options);
        let log = without_timings(&program.log().map_err(failed(""))?);
        let ptx = program.ptx().map_err(failed(&log))?;
        match status {
            SUCCESS => {}
            ERROR_COMPILATION => return Err(explain(&unit, &file, &log, &ptx)),
            // An expression that names nothing is reported with a status of its own, and a log that says so.
            _ => {
                let call = self.api().check("nvrtcCompileProgram", status).expect_err("the status is no success");
                return Err(CompileError::Call { kernel: kernel(), call, log });
            }
        }
        let mut names = BTreeMap::new();
        for (expression, asked) in expressions.iter().zip(&asked) {
            names.insert((*expression).to_owned(), program.name_of(asked).map_err(failed(&log))?);
        }
        Ok(Translated { ptx, names, log })
    }
}
