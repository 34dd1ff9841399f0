//! What did the compiler complain about, and on which line of the rendered source?
//!
//! Two voices: the C++ front end (`/enel/k.cu(3): error: ..`, a copy of the line, a caret) and the assembler, which
//! speaks of PTX lines; those are led back to the source through the `.loc` directives that `-lineinfo` leaves.

use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The compile failed because of it.
    Error,
    /// The compile went on.
    Warning,
    /// An addition to the one before.
    Note,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The file, when it is not the unit's own source: a header.
    pub file: Option<String>,
    /// Line, from 1; `None` when the message has no place.
    pub line: Option<u32>,
    /// Column, from 1, where the front end pointed at one.
    pub column: Option<u32>,
    /// The message, without place and severity.
    pub message: String,
}

/// Reads the front end's part of a log; `file` is the name the unit was compiled under.
pub(crate) fn front_end(log: &str, file: &str) -> Vec<Diagnostic> {
    let lines: Vec<&str> = log.lines().collect();
    let mut all: Vec<Diagnostic> = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let Some(mut diagnostic) = headline(lines[at], file) else {
            at += 1;
            continue;
        };
        at += 1;
        // Up to the next message or an empty line: more message, a copy of the line, a caret under it.
        let body_start = at;
        while at < lines.len() && !lines[at].trim().is_empty() && headline(lines[at], file).is_none() {
            at += 1;
        }
        let body = &lines[body_start..at];
        let caret = body.iter().position(|line| line.trim() == "^");
        let n_message_lines = caret.map_or(body.len(), |caret| caret.saturating_sub(1));
        for more in &body[..n_message_lines] {
            diagnostic.message.push_str("; ");
            diagnostic.message.push_str(more.trim());
        }
        // The copy of the line is indented by two.
        let caret_column = caret.and_then(|caret| body[caret].find('^')).and_then(|column| column.checked_sub(1));
        diagnostic.column = caret_column.and_then(|column| u32::try_from(column).ok());
        all.push(diagnostic);
    }
    all
}

/// Reads the assembler's complaints out of a log and leads them back to `file` through `ptx`.
pub(crate) fn assembler(log: &str, ptx: &str, file: &str) -> Vec<Diagnostic> {
    let mut all = Vec::new();
    for line in log.lines().filter(|line| line.starts_with("ptxas")) {
        let Some((place, rest)) = split_severity(line) else {
            continue;
        };
        let ptx_line =
            place.split_once("line ").and_then(|(_, number)| number.trim_end_matches(';').trim().parse().ok());
        let line = ptx_line.and_then(|ptx_line| source_line(ptx, ptx_line, file));
        let message = match ptx_line {
            Some(ptx_line) => format!("{rest} (line {ptx_line} of the PTX)"),
            None => rest.to_owned(),
        };
        all.push(Diagnostic { severity: Severity::Error, file: None, line, column: None, message });
    }
    all
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        })
    }
}

/// Writes messages, each with its line of `source` and the two around it.
pub(crate) fn write_all(f: &mut fmt::Formatter<'_>, diagnostics: &[Diagnostic], source: &str) -> fmt::Result {
    let lines: Vec<&str> = source.lines().collect();
    for Diagnostic { severity, file, line, column, message } in diagnostics {
        write!(f, "\n{severity}")?;
        if let Some(file) = file {
            // Programs and headers in memory are under this name.
            write!(f, " in {}", file.strip_prefix("/enel/").unwrap_or(file))?;
        }
        if let Some(line) = line {
            write!(f, " at line {line}")?;
        }
        if let Some(column) = column {
            write!(f, ", column {column}")?;
        }
        write!(f, ": {message}")?;
        let Some(at) = line.and_then(|line| usize::try_from(line).ok()).filter(|_| file.is_none()) else {
            continue;
        };
        for number in at.saturating_sub(1).max(1)..=at.saturating_add(1) {
            if let Some(text) = lines.get(number - 1) {
                let mark = if number == at { '>' } else { ' ' };
                write!(f, "\n  {mark} {number:>4} | {text}")?;
            }
        }
    }
    Ok(())
}

/// `FILE(LINE): SEVERITY[ #CODE]: MESSAGE`.
fn headline(line: &str, file: &str) -> Option<Diagnostic> {
    let (place, rest) = line.split_once("): ")?;
    let (name, number) = place.rsplit_once('(')?;
    let line = number.parse().ok()?;
    let (kind, message) = rest.split_once(": ")?;
    let kind = kind.split(" #").next().unwrap_or(kind);
    let severity = match kind {
        "error" | "catastrophic error" | "internal error" => Severity::Error,
        "warning" => Severity::Warning,
        "note" | "remark" => Severity::Note,
        _ => return None,
    };
    let file = Some(name.to_owned()).filter(|name| name != file);
    Some(Diagnostic { severity, file, line: Some(line), column: None, message: message.to_owned() })
}

/// Splits `PLACE error   : MESSAGE` or `PLACE fatal   : MESSAGE`.
fn split_severity(line: &str) -> Option<(&str, &str)> {
    let (head, message) = line.split_once(" : ")?;
    let head = head.trim_end();
    let place = head.strip_suffix("error").or_else(|| head.strip_suffix("fatal"))?;
    Some((place.trim_end(), message.trim()))
}

/// The source line of line `ptx_line` of the PTX: that of the last `.loc` before it.
fn source_line(ptx: &str, ptx_line: usize, file: &str) -> Option<u32> {
    let number = ptx.lines().find_map(|line| {
        let (number, name) = line.trim().strip_prefix(".file")?.trim().split_once(' ')?;
        (name.trim().trim_matches('"') == file).then_some(number)
    })?;
    let before: Vec<&str> = ptx.lines().take(ptx_line).collect();
    let loc = before.iter().rev().find_map(|line| line.trim().strip_prefix(".loc"))?;
    // `FILE LINE COLUMN[, function_name .., inlined_at FILE LINE COLUMN]`
    let (own, inlined_at) = loc.split_once("inlined_at").unwrap_or((loc, ""));
    [own, inlined_at].into_iter().find_map(|place| {
        let mut words = place.split_whitespace();
        let in_file = words.next() == Some(number);
        words.next().filter(|_| in_file)?.trim_end_matches(',').parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn front_end_messages_have_line_column_and_continuations() {
        let log = "/enel/k.cu(3): error: no instance of overloaded function \"f\" matches\n            argument types are: (int)\n  x = f(1);\n      ^\n/enel/cuda_fp16.h(20): note #3322-D: number of parameters\n  int f();\n      ^\n\n/enel/k.cu(9): warning #177-D: variable \"u\" was declared\n    int u;\n        ^\n\nRemark: The warnings can be suppressed\n1 error detected in the compilation of \"/enel/k.cu\".\n";
        let all = front_end(log, "/enel/k.cu");
        assert_eq!(all.len(), 3);
        assert_eq!((all[0].severity, all[0].line, all[0].column), (Severity::Error, Some(3), Some(5)));
        assert_eq!(all[0].message, "no instance of overloaded function \"f\" matches; argument types are: (int)");
        assert_eq!(all[1].file.as_deref(), Some("/enel/cuda_fp16.h"));
        assert_eq!((all[2].severity, all[2].line, all[2].column), (Severity::Warning, Some(9), Some(7)));
    }

    #[test]
    fn assembler_messages_are_led_back_through_loc() {
        let ptx = ".visible .entry k()\n{\n.loc\t1 4 2\nbad.a\n.loc\t2 70 1, function_name $f, inlined_at 1 6 9\nbad.b\n}\n\t.file\t1 \"/enel/k.cu\"\n\t.file\t2 \"/enel/cuda_fp16.h\"\n";
        let log = "ptxas application ptx input, line 4; error   : Unknown modifier\nptxas application ptx input, line 6; error   : Not a name\nptxas fatal   : Ptx assembly aborted due to errors\nptxas info    : 0 bytes gmem\n";
        let all = assembler(log, ptx, "/enel/k.cu");
        let lines: Vec<_> = all.iter().map(|diagnostic| diagnostic.line).collect();
        assert_eq!(lines, [Some(4), Some(6), None]);
        assert_eq!(all[2].message, "Ptx assembly aborted due to errors");
    }

    #[test]
    fn odd_logs_yield_nothing_and_do_not_panic() {
        for log in
            ["", "(", "): error: x", "a(99999999999): error: x", "k(1): error", "ptxas", "ptxas error : ", "^\n^"]
        {
            front_end(log, "k");
            assembler(log, ".file\n.loc\n.loc 1", "k");
        }
    }
}
