//! What does the compiler refuse, and may it go? Host code that a scan does not recognise is known by its errors.
//!
//! Each round drops the functions, classes and declarations errors lie in, unless they hold device code, and compiles
//! again. If that ends with errors in device code, these are told; the rest was never anybody's concern.

use std::ops::Range;

use enel_nvrtc::{CompileError, Compiler, Diagnostic, Foreign, Severity, Translated};

use crate::headers;
use crate::host;
use crate::scan::{Item, code_only, is_device, is_word, items};

/// Compiles before the compiler has the last word. Each drops at least one item.
const MAX_ROUNDS: usize = 24;
/// Headers that may be nowhere.
const MAX_ABSENT: usize = 32;

/// A text that may lose its host code.
struct Text {
    /// Its name in messages, where it is not the main text.
    file: Option<String>,
    left: String,
    code: Vec<u8>,
    items: Vec<Item>,
}

/// What was dropped, by the name it declared.
struct Dropped {
    name: Option<String>,
    /// Position of the text, and what of it went.
    text: usize,
    range: Range<usize>,
}

/// A text and the headers of its own, which may hold host code as well.
pub(crate) struct Texts<'a> {
    main: &'a str,
    texts: Vec<Text>,
    names: Vec<&'a str>,
    dropped: Vec<Dropped>,
    /// Headers that are nowhere: what is compiled is compiled without.
    absent: Vec<String>,
}

impl Text {
    fn new(file: Option<String>, source: &str) -> Text {
        let left = host::strip(source);
        let code = code_only(&left);
        let items = items(&code);
        Text { file, left, code, items }
    }

    fn code(&self, range: Range<usize>) -> &str {
        std::str::from_utf8(self.code.get(range).unwrap_or(&[])).unwrap_or("")
    }

    /// Bytes of a line, from 1.
    fn line(&self, line: u32) -> Option<Range<usize>> {
        let text = self.left.split_inclusive('\n').nth(line.checked_sub(1)? as usize)?;
        let start = text.as_ptr() as usize - self.left.as_ptr() as usize;
        Some(start..start + text.len())
    }

    /// The item that may go so that an error at this place goes too.
    fn culprit(&self, line: u32, column: Option<u32>) -> Option<&Item> {
        let line = self.line(line)?;
        if let Some(column) = column {
            let at = line.start.saturating_add(column.saturating_sub(1) as usize).min(line.end.saturating_sub(1));
            return self.innermost(&self.items, at);
        }
        let first = line.clone().find(|&at| !self.code[at].is_ascii_whitespace())?;
        self.innermost(&self.items, first)
    }

    fn innermost<'t>(&'t self, items: &'t [Item], at: usize) -> Option<&'t Item> {
        let item = items.iter().find(|item| (item.start..item.end).contains(&at))?;
        let is_device = is_device(self.code(item.start..item.end));
        // Without one of its variables a class has another size: that is only for what no host could hand over.
        let member = self.innermost(&item.members, at);
        let member = member.filter(|member| is_device || member.is_function || !member.members.is_empty());
        member.or_else(|| (!is_device).then_some(item))
    }
}

/// Places an error names: its own, then those that led to it.
fn places(error: &Diagnostic) -> impl Iterator<Item = (Option<&str>, u32, Option<u32>)> {
    let own = error.line.map(|line| (error.file.as_deref(), line, error.column));
    let led = error.message.split(" at line ").skip(1).filter_map(move |rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let file = rest[end..].strip_prefix(" of ").map_or(error.file.as_deref(), |rest| {
            let name = rest.trim_start_matches('"');
            Some(&name[..name.find(['"', ';', ' ']).unwrap_or(name.len())])
        });
        Some((file, rest[..end].parse().ok()?, None))
    });
    own.into_iter().chain(led)
}

/// Names a message quotes.
fn quoted(message: &str) -> impl Iterator<Item = &str> {
    message.split('"').skip(1).step_by(2).flat_map(|part| part.split(|c: char| !c.is_ascii() || !is_word(c as u8)))
}

fn is_error(diagnostic: &Diagnostic) -> bool {
    diagnostic.severity == Severity::Error
}

/// The header that a message says is nowhere.
fn absent(error: &Diagnostic) -> Option<&str> {
    error.message.strip_prefix("cannot open source file \"")?.split('"').next()
}

impl<'a> Texts<'a> {
    /// `own` are headers by the name they are included under.
    pub(crate) fn new(main: &'a str, own: &'a [(String, String)]) -> Texts<'a> {
        let mut texts = vec![Text::new(None, main)];
        texts.extend(own.iter().map(|(name, body)| Text::new(Some(name.clone()), body)));
        let names = own.iter().map(|(name, _)| name.as_str()).collect();
        Texts { main, texts, names, dropped: Vec::new(), absent: Vec::new() }
    }

    /// Compiles what is left, with less each time; the headers that were found nowhere.
    ///
    /// # Errors
    /// [`CompileError`] about device code, or about all of it if none of that is to blame.
    pub(crate) fn compile(
        mut self,
        compiler: &Compiler,
        foreign: &Foreign<'_>,
    ) -> Result<(Translated, Vec<String>), CompileError> {
        let mut rounds: Vec<Vec<Diagnostic>> = Vec::new();
        loop {
            let mut headers = foreign.headers.to_vec();
            headers.extend(self.names.iter().zip(&self.texts[1..]).map(|(&name, text)| (name, text.left.as_str())));
            headers.extend(self.absent.iter().map(|name| (name.as_str(), headers::NOTHING)));
            let now = Foreign { source: &self.texts[0].left, headers: &headers, ..foreign.clone() };
            let (kernel, diagnostics) = match compiler.translate(&now) {
                Err(CompileError::Source { kernel, diagnostics, .. }) => (kernel, diagnostics),
                Ok(done) => return Ok((done, self.absent)),
                Err(error) => return Err(error),
            };
            let absent: Vec<String> = diagnostics.iter().filter_map(absent).map(str::to_owned).collect();
            rounds.push(diagnostics.into_iter().filter(is_error).collect());
            let is_new = absent.iter().any(|name| !self.absent.contains(name));
            if is_new && self.absent.len() < MAX_ABSENT {
                self.absent.extend(absent.into_iter().filter(|name| !self.absent.contains(name)).collect::<Vec<_>>());
                continue;
            }
            let is_stuck = !self.drop_culprits(rounds.last().map_or(&[], Vec::as_slice));
            if is_stuck || rounds.len() >= MAX_ROUNDS + self.absent.len() {
                let diagnostics = self.blame(&rounds);
                return Err(CompileError::Source { kernel, diagnostics, source: self.main.to_owned() });
            }
        }
    }

    /// Blanks out what is host code and in error; false if there is no such thing.
    fn drop_culprits(&mut self, diagnostics: &[Diagnostic]) -> bool {
        let mut gone: Vec<Dropped> = Vec::new();
        for error in diagnostics {
            let found = places(error).find_map(|(file, line, column)| {
                let index = self.index(file)?;
                let item = self.texts[index].culprit(line, column)?;
                Some(Dropped { name: item.name.clone(), text: index, range: item.start..item.end })
            });
            gone.extend(found.filter(|f| !gone.iter().any(|g| (g.text, &g.range) == (f.text, &f.range))));
        }
        for (index, text) in self.texts.iter_mut().enumerate() {
            let ranges: Vec<Range<usize>> = gone.iter().filter(|d| d.text == index).map(|d| d.range.clone()).collect();
            if !ranges.is_empty() {
                text.left = host::blank(&text.left, &text.code, &ranges);
                text.code = code_only(&text.left);
                text.items = items(&text.code);
            }
        }
        let any = !gone.is_empty();
        self.dropped.extend(gone);
        any
    }

    /// The text a message calls `file`.
    fn index(&self, file: Option<&str>) -> Option<usize> {
        // The main text has no name of its own in a diagnostic, but one where a message spells it.
        let file = file.map(|file| file.strip_prefix("/enel/").unwrap_or(file));
        let known = self.texts.iter().position(|text| text.file.as_deref() == file);
        known.or_else(|| file.is_some_and(|file| file.ends_with(".cu")).then_some(0))
    }

    /// Errors worth telling: the last ones, but instead of what device code misses now, why that was dropped.
    fn blame(&self, rounds: &[Vec<Diagnostic>]) -> Vec<Diagnostic> {
        let (Some(first), Some(last)) = (rounds.first(), rounds.last()) else { return Vec::new() };
        let misses = |error: &Diagnostic, dropped: &Dropped| {
            dropped.name.as_deref().is_some_and(|name| quoted(&error.message).any(|word| word == name))
        };
        let is_missing = |error: &&Diagnostic| !first.contains(error) && self.dropped.iter().any(|d| misses(error, d));
        let (missing, mut told): (Vec<&Diagnostic>, Vec<&Diagnostic>) = last.iter().partition(is_missing);
        let causes: Vec<&Dropped> = self.dropped.iter().filter(|d| missing.iter().any(|e| misses(e, d))).collect();
        let lies_in = |error: &&Diagnostic| {
            places(error).any(|(file, line, _)| {
                let index = self.index(file);
                let line = index.and_then(|index| self.texts[index].line(line));
                line.is_some_and(|line| {
                    causes.iter().any(|c| Some(c.text) == index && c.range.start < line.end && line.start < c.range.end)
                })
            })
        };
        told.extend(rounds.iter().flatten().filter(lies_in));
        // Whatever is not known may be of a header that is nowhere.
        told.splice(0..0, rounds.iter().flatten().filter(|error| absent(error).is_some()));
        if told.is_empty() { first.clone() } else { told.into_iter().cloned().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Dropped, Text, Texts, host};

    const PIECES: [&str; 40] = [
        "{",
        "}",
        "(",
        ")",
        ";",
        ":",
        "::",
        "<",
        ">",
        "=",
        ",",
        "\n",
        " ",
        "\"",
        "'",
        "R\"(",
        ")\"",
        "//",
        "/*",
        "*/",
        "#define a \\\n",
        "#if x\n",
        "template <class T>",
        "template<",
        "class A",
        "struct B : A",
        "union",
        "enum class E",
        "namespace n",
        "extern",
        "operator==",
        "operator()",
        "public:",
        "__device__ ",
        "__global__ void k",
        "int f",
        "std::vector",
        "alignas(",
        "\u{e9}",
        "\\",
    ];

    #[test]
    fn any_text_is_taken_apart_and_put_together_again() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut draw = |n: usize| {
            // xorshift64* (Vigna 2016).
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
        };
        for _ in 0..20_000 {
            let source: String = (0..draw(60)).map(|_| PIECES[draw(PIECES.len())]).collect();
            let mut text = Text::new(None, &source);
            for _ in 0..4 {
                let found = text.culprit(draw(8) as u32, Some(draw(30) as u32).filter(|c| *c < 25));
                let Some(range) = found.map(|item| item.start..item.end) else { continue };
                text = Text::new(None, &host::blank(&text.left, &text.code, &[range]));
            }
            assert_eq!(
                (text.left.len(), text.left.lines().count()),
                (source.len(), source.lines().count()),
                "{source:?}"
            );
        }
    }

    #[test]
    fn deep_texts_end() {
        for piece in ["namespace a{", "struct a{", "template<class a>", "a(", "f(){", "a:b{", "#\\\n"] {
            let source = piece.repeat(20_000);
            let texts = Texts::new(&source, &[]);
            let none: &[Dropped] = &texts.dropped;
            assert!(none.is_empty() && texts.texts[0].left.len() == source.len());
        }
    }
}
