//! Where do kernels come from? A PTX text, or CUDA C++ that NVRTC translates without a toolkit.

use std::path::PathBuf;

use enel_emulator::{Module, ParseError};
use enel_nvrtc::{Arch, CompileError, Compiler, Diagnostic, Foreign};

use crate::headers;
use crate::includes;
use crate::names::signature;
use crate::refuse::Texts;
use crate::scan::{Item, code_only, items, mentions};

/// How a CUDA text is translated.
#[derive(Clone, Debug)]
pub struct CudaOptions {
    /// What to compile for; `sm_90a` unless said otherwise. No assembler runs.
    pub target: Arch,
    /// Folders with further headers; those included in quotes may hold host code too.
    pub folders: Vec<PathBuf>,
    /// Macros, as `NAME` or `NAME=VALUE`.
    pub defines: Vec<String>,
    /// Instances of templates to make, such as `axpy<float, 4>`; they may be launched under that name.
    pub instances: Vec<String>,
}

impl Default for CudaOptions {
    fn default() -> Self {
        CudaOptions { target: Arch::SM_90A, folders: Vec::new(), defines: Vec::new(), instances: Vec::new() }
    }
}

/// Kernels that can be run.
#[derive(Debug)]
pub struct Program {
    pub(crate) module: Module,
    /// What a user calls a kernel, and its name in the PTX.
    aliases: Vec<(String, String)>,
    /// Kernels that are templates.
    templates: Vec<String>,
    absent: Vec<String>,
    ptx: String,
}

/// Why there is no program, or no such kernel in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The PTX was refused.
    #[error("{file}{}", place.as_ref().map_or(String::new(), |(file, line)| format!(", from {file}:{line}")))]
    Parse {
        /// Where it came from.
        file: String,
        /// Line of the CUDA text the instruction is of, where the PTX says so.
        place: Option<(String, u32)>,
        /// The PTX.
        ptx: String,
        /// Why.
        #[source]
        source: Box<ParseError>,
    },
    /// NVRTC refused the CUDA text.
    #[error("cannot compile {file}")]
    Compile {
        /// Where it came from.
        file: String,
        /// Why, with the lines.
        #[source]
        source: Box<CompileError>,
    },
    /// No kernel of that name.
    #[error("there is no kernel `{name}`{}; there are: {}", instance(name, *is_template), listed(known, templates))]
    NoKernel {
        /// What was asked for.
        name: String,
        /// What there is, as C++ spells it.
        known: Vec<String>,
        /// Whether a template has that name, of which an instance must be named.
        is_template: bool,
        /// Kernels that are templates.
        templates: Vec<String>,
    },
    /// Several kernels that C++ calls alike.
    #[error("`{name}` may mean any of: {}", found.join(", "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// Their names in the PTX, and in C++.
        found: Vec<String>,
    },
}

impl Program {
    /// Kernels of a PTX text; `file` names it in messages.
    ///
    /// # Errors
    /// [`ProgramError::Parse`] with file, line and instruction.
    pub fn from_ptx(file: &str, ptx: &str) -> Result<Program, ProgramError> {
        let module = Module::parse(ptx).map_err(|source| ProgramError::Parse {
            file: file.to_owned(),
            place: line_of(&source).and_then(|line| place_of(ptx, line)),
            ptx: ptx.to_owned(),
            source: Box::new(source),
        })?;
        Ok(Program { module, aliases: Vec::new(), templates: Vec::new(), absent: Vec::new(), ptx: ptx.to_owned() })
    }

    /// Kernels of a CUDA text. Headers of a toolkit are replaced by stand-ins; host code is dropped.
    ///
    /// # Errors
    /// [`ProgramError::Compile`], or [`ProgramError::Parse`] if the PTX has an instruction the emulator lacks.
    pub fn from_cuda(
        compiler: &Compiler,
        file: &str,
        source: &str,
        options: &CudaOptions,
    ) -> Result<Program, ProgramError> {
        let name = file.rsplit('/').next().unwrap_or(file);
        let instances: Vec<&str> = options.instances.iter().map(String::as_str).collect();
        let own = includes::own(source, &options.folders);
        // A stand-in gives way to a header of that name.
        let is_theirs = |name: &str| own.iter().any(|(known, _)| known == name);
        let libraries = includes::libraries(source, &own);
        let stand_ins = headers::all().into_iter().chain(libraries.iter().map(|name| (name.as_str(), "")));
        let headers: Vec<_> = stand_ins.filter(|(name, _)| !is_theirs(name)).collect();
        let plain = Foreign {
            name,
            source,
            arch: options.target.to_virtual(),
            headers: &headers,
            folders: &options.folders,
            defines: &options.defines,
            before: None,
            expressions: &instances,
        };
        let usual = Foreign { before: Some(headers::BEFORE), ..plain.clone() };
        let compile = |foreign: &Foreign<'_>| Texts::new(source, &own).compile(compiler, foreign);
        // A text that defines for itself what is usually there before it is compiled alone.
        let translated = compile(&usual).or_else(|error| match error {
            CompileError::Source { ref diagnostics, .. } if diagnostics.iter().any(is_conflict) => {
                compile(&plain).map_err(|_| error)
            }
            _ => Err(error),
        });
        let refused = |source| ProgramError::Compile { file: file.to_owned(), source: Box::new(source) };
        let (translated, absent) = translated.map_err(refused)?;
        let mut program = Program::from_ptx(&format!("PTX of {file}"), &translated.ptx)?;
        program.absent = absent;
        program.aliases = translated.names.into_iter().collect();
        program.templates = own.iter().flat_map(|(_, text)| templates(text)).chain(templates(source)).collect();
        Ok(program)
    }

    /// Headers the text includes that were found nowhere: it was compiled without them.
    pub fn absent_headers(&self) -> &[String] {
        &self.absent
    }

    /// The PTX that runs.
    pub fn ptx(&self) -> &str {
        &self.ptx
    }

    /// Whether blocks may wait for all others, as a cooperative launch lets them.
    pub(crate) fn syncs_grid(&self) -> bool {
        self.ptx.contains("enel_grid_barrier")
    }

    /// Names of the kernels, as PTX spells them.
    pub fn kernels(&self) -> impl Iterator<Item = &str> {
        self.module.entries()
    }

    /// The PTX name of the kernel a user calls `name`: that name itself, an instance, or a C++ function of that name,
    /// with its parameters where it is overloaded.
    ///
    /// # Errors
    /// [`ProgramError::NoKernel`], [`ProgramError::Ambiguous`].
    pub fn kernel(&self, name: &str) -> Result<&str, ProgramError> {
        if let Some(exact) = self.kernels().find(|k| *k == name) {
            return Ok(exact);
        }
        if let Some((_, ptx)) = self.aliases.iter().find(|(alias, _)| alias == name) {
            return self.kernel_exact(name, ptx);
        }
        if name.contains('(') {
            let spelled = |text: &str| text.replace(' ', "");
            let found = self.kernels().find(|k| spelled(&signature(k)) == spelled(name));
            return self.kernel_exact(name, found.unwrap_or(name));
        }
        // Itanium mangling spells a name with its length in front.
        let plain = name.split('<').next().unwrap_or(name);
        let pattern: String = plain.split("::").map(|part| format!("{}{part}", part.len())).collect();
        let found: Vec<&str> = self.kernels().filter(|k| k.starts_with("_Z") && k.contains(&pattern)).collect();
        match found.as_slice() {
            [one] => Ok(one),
            [] => self.kernel_exact(name, name),
            many => Err(ProgramError::Ambiguous {
                name: name.to_owned(),
                found: many.iter().map(|&k| format!("{k} = {}", signature(k))).collect(),
            }),
        }
    }

    fn kernel_exact(&self, name: &str, ptx: &str) -> Result<&str, ProgramError> {
        let found = self.kernels().find(|k| *k == ptx);
        found.ok_or_else(|| {
            let last = name.rsplit("::").next().unwrap_or(name);
            let is_template = self.templates.iter().any(|known| known == last);
            ProgramError::NoKernel {
                name: name.to_owned(),
                known: self.kernels().map(signature).collect(),
                is_template,
                templates: self.templates.clone(),
            }
        })
    }
}

/// Whether an error may come of two declarations of one name.
fn is_conflict(error: &Diagnostic) -> bool {
    const WORDS: [&str; 6] = ["already", "redecl", "redefin", "incompatible", "ambiguous", "more than one"];
    WORDS.iter().any(|word| error.message.contains(word))
}

/// The PTX line an error is about.
fn line_of(error: &ParseError) -> Option<u32> {
    match error {
        ParseError::Token { line, .. }
        | ParseError::Syntax { line, .. }
        | ParseError::UnknownInstruction { line, .. }
        | ParseError::Unsupported { line, .. }
        | ParseError::Operand { line, .. }
        | ParseError::Undeclared { line, .. }
        | ParseError::Duplicate { line, .. }
        | ParseError::TooLarge { line, .. } => Some(*line),
        _ => None,
    }
}

/// File and line of the text, by the last `.loc` before a PTX line; the compiler's own headers do not count.
fn place_of(ptx: &str, line: u32) -> Option<(String, u32)> {
    let name_of = |number: &str| {
        ptx.lines().find_map(|l| {
            let (found, name) = l.trim().strip_prefix(".file")?.trim().split_once([' ', '\t'])?;
            (found == number)
                .then(|| name.trim().split('"').nth(1).map(|name| name.rsplit('/').next().unwrap_or(name)))?
        })
    };
    let before: Vec<&str> = ptx.lines().take(line as usize).collect();
    // What was inlined is told by where it was called.
    let places = before.iter().rev().filter_map(|l| l.trim().strip_prefix(".loc")).flat_map(|l| l.rsplit("inlined_at"));
    let mut own = places.filter_map(|place| {
        let mut words = place.split_whitespace();
        let name = name_of(words.next()?).filter(|name| !name.starts_with("__nv_"))?;
        Some((name.to_owned(), words.next()?.trim_end_matches(',').parse().ok()?))
    });
    own.next()
}

fn instance(name: &str, is_template: bool) -> String {
    if is_template {
        format!(", which is a template: name an instance, such as `{name}<float, 4>`")
    } else {
        String::new()
    }
}

/// All that could be meant.
fn listed(known: &[String], templates: &[String]) -> String {
    let instances = templates.iter().map(|name| format!("instances of {name}"));
    let all: Vec<String> = known.iter().cloned().chain(instances).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// Names of the kernels of a text that are templates.
fn templates(text: &str) -> Vec<String> {
    let code = code_only(text);
    let is_kernel = |item: &Item| {
        let body = std::str::from_utf8(&code[item.start..item.end]).unwrap_or("");
        body.trim_start().starts_with("template") && mentions(body, "__global__", true)
    };
    items(&code).into_iter().filter(is_kernel).filter_map(|item| item.name).collect()
}

#[cfg(test)]
mod tests {
    use super::place_of;

    #[test]
    fn lines_of_ptx_are_lines_of_the_text() {
        let ptx = ".loc 1 4 2\na\n.loc 2 70 1, function_name $f, inlined_at 1 6 9\nb\n.file 1 \"/enel/k.cu\"\n.file 2 \"x.h\"\n";
        assert_eq!(place_of(ptx, 2), Some(("k.cu".to_owned(), 4)));
        assert_eq!(place_of(ptx, 4), Some(("k.cu".to_owned(), 6)));
        assert_eq!(place_of(ptx, 0), None);
        for odd in ["", ".loc", ".loc 1", ".loc 1 x", ".file", ".loc 1 1 1\n.file 1", ".loc 1 1 1, inlined_at"] {
            assert_eq!(place_of(odd, 9), None, "{odd}");
        }
    }
}
