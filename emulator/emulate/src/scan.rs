//! What are the functions, classes and declarations of a CUDA text? A scan by brackets, not a parser.
//!
//! Macros and conditions are not expanded: a text whose brackets only match after that is cut in the wrong places, but
//! always inside its bounds.

use std::ops::Range;

/// Classes in classes that are looked into.
const MAX_DEPTH: usize = 16;

/// Marks of device code.
const DEVICE_WORDS: [&str; 5] = ["__device__", "__global__", "__constant__", "__shared__", "__managed__"];

/// Heads that may hold brackets without being functions.
const ATTRIBUTES: [&str; 7] =
    ["alignas", "__align__", "__attribute__", "__launch_bounds__", "__declspec", "decltype", "__cluster_dims__"];

pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// True if `word` stands in `text` and no letter stands before it, nor behind it if it `ends` there.
pub(crate) fn mentions(text: &str, word: &str, ends: bool) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let bytes = text.as_bytes();
        let before = at == 0 || !is_word(bytes[at - 1]);
        let after = !ends || bytes.get(at + word.len()).is_none_or(|b| !is_word(*b));
        before && after
    })
}

/// The text with comments, literals and preprocessor lines blanked, byte for byte.
pub(crate) fn code_only(source: &str) -> Vec<u8> {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    let mut line_is_blank = true;
    let blank = |out: &mut [u8]| out.iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
    while at < bytes.len() {
        let rest = &bytes[at..];
        let length = match rest[0] {
            b'#' if line_is_blank => directive_length(rest),
            b'/' if rest.starts_with(b"//") => rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len()),
            b'/' if rest.starts_with(b"/*") => {
                rest.windows(2).skip(2).position(|w| w == b"*/").map_or(rest.len(), |i| i + 4)
            }
            b'R' if rest.starts_with(b"R\"") && (at == 0 || !is_word(bytes[at - 1])) => raw_length(rest),
            b'"' => literal_length(rest, b'"'),
            // A quote behind a digit separates digits.
            b'\'' if at == 0 || !is_word(bytes[at - 1]) => literal_length(rest, b'\''),
            _ => 0,
        };
        if length > 0 {
            blank(&mut out[at..at + length]);
            at += length;
        } else {
            line_is_blank = rest[0] == b'\n' || line_is_blank && rest[0].is_ascii_whitespace();
            at += 1;
        }
    }
    out
}

/// A preprocessor directive, with the lines it goes on in.
pub(crate) fn directive_length(rest: &[u8]) -> usize {
    let mut at = 0;
    while at < rest.len() && (rest[at] != b'\n' || rest[..at].trim_ascii_end().ends_with(b"\\")) {
        at += 1;
    }
    at
}

/// A raw literal: up to a bracket, the word before the first bracket, and a quote.
fn raw_length(rest: &[u8]) -> usize {
    let Some(open) = rest.iter().position(|&b| b == b'(') else { return rest.len() };
    let close = [b")", rest.get(2..open).unwrap_or(&[]), b"\""].concat();
    rest[open..].windows(close.len()).position(|w| w == close).map_or(rest.len(), |i| open + i + close.len())
}

fn literal_length(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote && rest[at] != b'\n' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// A function, class or declaration, at namespace level or inside a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// First byte.
    pub(crate) start: usize,
    /// Behind the last byte.
    pub(crate) end: usize,
    /// What it is called, as far as a scan can tell.
    pub(crate) name: Option<String>,
    /// A function, or its declaration.
    pub(crate) is_function: bool,
    /// Members, if it is a class.
    pub(crate) members: Vec<Item>,
}

/// True if a text holds code for a device.
pub(crate) fn is_device(text: &str) -> bool {
    DEVICE_WORDS.iter().any(|word| mentions(text, word, true))
}

/// What the text before a `{` begins.
enum Head {
    /// A namespace or a linkage block: its content is at the same level.
    Transparent,
    Function(Option<String>),
    Class(Option<String>),
    /// A variable and its value.
    Value,
}

/// Index behind the bracket that closes the one at `open`, whatever its kind.
fn matching(code: &[u8], open: usize) -> usize {
    let mut depth = 0usize;
    for (i, &byte) in code.iter().enumerate().skip(open) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return i + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// Index behind all `template <...>` at the start of a head, with the blanks around them.
fn behind_template(head: &str) -> usize {
    let bytes = head.as_bytes();
    let mut at = head.len() - head.trim_start().len();
    while head[at..].starts_with("template") {
        at += "template".len();
        let mut depth = 0usize;
        while at < bytes.len() {
            match bytes[at] {
                b'(' => {
                    at = matching(bytes, at);
                    continue;
                }
                b'<' => depth += 1,
                b'>' => depth = depth.saturating_sub(1),
                byte if depth == 0 && !byte.is_ascii_whitespace() => break,
                _ => {}
            }
            at += 1;
        }
    }
    at
}

/// The last word of a text.
fn last_word(text: &str) -> Option<String> {
    let text = text.trim_end();
    let start = text.bytes().rposition(|b| !is_word(b)).map_or(0, |i| i + 1);
    (start < text.len()).then(|| text[start..].to_owned())
}

/// The head without attributes, which may hold brackets.
fn without_attributes(head: &str) -> String {
    let mut out = head.as_bytes().to_vec();
    for word in ATTRIBUTES {
        for (at, _) in head.match_indices(word) {
            let is_own = at == 0 || !is_word(head.as_bytes()[at - 1]);
            let open = head[at + word.len()..].find(|c: char| !c.is_whitespace()).map(|i| at + word.len() + i);
            if let Some(open) = open.filter(|&i| is_own && head.as_bytes()[i] == b'(') {
                let end = matching(head.as_bytes(), open);
                out[at..end].fill(b' ');
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| head.to_owned())
}

fn head_of(head: &str) -> Head {
    let plain = without_attributes(&head[behind_template(head)..]);
    let is_linkage = mentions(&plain, "extern", true) && !plain.contains(['(', '=', ';']);
    if mentions(&plain, "namespace", true) || is_linkage {
        return Head::Transparent;
    }
    if let Some(open) = function_bracket(&plain) {
        return Head::Function(last_word(&plain[..open]).filter(|name| name != "operator"));
    }
    let class = ["struct", "class", "union"].iter().find_map(|word| {
        let at = plain.match_indices(word).map(|(at, _)| at).find(|&at| mentions(&plain[at..], word, true))?;
        Some(&plain[at + word.len()..])
    });
    let is_value = plain.contains('=') || mentions(&plain, "enum", true);
    class.filter(|_| !is_value).map_or(Head::Value, |rest| Head::Class(class_name(rest)))
}

/// Where the parameters of a function begin: a bracket before any `=`, in no list of template arguments.
fn function_bracket(plain: &str) -> Option<usize> {
    let open = match plain.find("operator") {
        Some(at) => at + plain[at..].find('(')?,
        None => plain.find('(')?,
    };
    let before = &plain[..open];
    let has_operator = mentions(before, "operator", false);
    let depth = before.matches('<').count().saturating_sub(before.matches('>').count());
    (has_operator || !before.contains('=') && depth == 0).then_some(open)
}

/// What a variable or type is called: the last word before its value or extent, in no list of template arguments.
fn declared(text: &str) -> Option<String> {
    let plain = without_attributes(&text[behind_template(text)..]);
    let mut depth = 0usize;
    let end = plain.find(|c| {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && matches!(c, '=' | '[' | '{' | ';')
    });
    last_word(&plain[..end.unwrap_or(plain.len())])
}

/// The name behind `class`, before its bases.
fn class_name(rest: &str) -> Option<String> {
    let name = rest.trim_start();
    let end = name.bytes().position(|b| !is_word(b)).unwrap_or(name.len());
    (end > 0).then(|| name[..end].to_owned())
}

/// Items of a text at namespace level, and the members of classes; `code` comes from [`code_only`].
pub(crate) fn items(code: &[u8]) -> Vec<Item> {
    level(code, 0..code.len(), 0)
}

/// Items of a part of a text, `depth` classes deep.
fn level(code: &[u8], part: Range<usize>, depth: usize) -> Vec<Item> {
    let text = |from: usize, to: usize| std::str::from_utf8(code.get(from..to).unwrap_or(&[])).unwrap_or("");
    let to = part.end;
    let mut items = Vec::new();
    let (mut at, mut start) = (part.start, part.start);
    while at < to {
        let head = match code[at] {
            b'(' | b'[' => {
                at = matching(code, at).min(to);
                continue;
            }
            b'}' => {
                (at, start) = (at + 1, at + 1);
                continue;
            }
            b':' if depth > 0 && is_label(text(start, at)) => {
                (at, start) = (at + 1, at + 1);
                continue;
            }
            b'{' | b';' => head_of(text(start, at)),
            byte => {
                // An item begins with its first letter, not with the directives and comments before it.
                let is_before = start == at && byte.is_ascii_whitespace();
                (at, start) = (at + 1, if is_before { at + 1 } else { start });
                continue;
            }
        };
        let mut item = Item { start, end: at + 1, name: None, is_function: false, members: Vec::new() };
        if code[at] == b';' {
            item.is_function = matches!(head, Head::Function(_));
            item.name = match head {
                Head::Function(name) | Head::Class(name) => name,
                Head::Transparent | Head::Value => declared(text(start, at)),
            };
        } else {
            let close = || matching(code, at).min(to);
            match head {
                Head::Transparent => {
                    (at, start) = (at + 1, at + 1);
                    continue;
                }
                Head::Function(name) => {
                    let close = close();
                    // Braces of an initialised member are followed by another, or by the body.
                    let next = code[close..to].iter().find(|b| !b.is_ascii_whitespace());
                    if matches!(next, Some(b'{' | b',')) && is_initialiser(text(start, at)) {
                        at = close;
                        continue;
                    }
                    (item.end, item.name, item.is_function) = (close, name, true);
                }
                Head::Class(name) => {
                    let close = close();
                    if depth < MAX_DEPTH {
                        item.members = level(code, at + 1..close.saturating_sub(1).max(at + 1), depth + 1);
                    }
                    (item.end, item.name) = (behind(code, close, to), name);
                }
                Head::Value => (item.end, item.name) = (behind(code, close(), to), declared(text(start, at))),
            }
        }
        (at, start) = (item.end, item.end);
        items.push(item);
    }
    items
}

/// Index behind the semicolon that ends a class or a variable.
fn behind(code: &[u8], from: usize, to: usize) -> usize {
    code[from..to].iter().position(|&b| b == b';').map_or(to, |i| from + i + 1)
}

/// `public`, `private` or `protected`.
fn is_label(text: &str) -> bool {
    matches!(text.trim(), "public" | "private" | "protected")
}

/// True for the head of a constructor whose member initialisers have begun.
fn is_initialiser(head: &str) -> bool {
    let code = head.as_bytes();
    let start = behind_template(head);
    head[start..].find('(').is_some_and(|open| {
        let rest = head[matching(code, start + open).min(head.len())..].trim_start();
        rest.trim_start_matches("noexcept").trim_start().starts_with(':')
    })
}
