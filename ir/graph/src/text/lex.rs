//! Cuts the text format into tokens with line numbers.

/// A token; `line` counts from 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) line: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Word(String),
    /// `%name`
    Value(String),
    Int(i64),
    Float(f64),
    Text(String),
    /// One of `{ } [ ] ( ) , = : * + - @` or `..=`, `->`.
    Mark(&'static str),
    Newline,
}

const MARKS: &[&str] = &["..=", "->", "{", "}", "[", "]", "(", ")", ",", "=", ":", "*", "+", "-", "@"];

/// Tokens of `source`, or the line and reason of the first bad character.
pub(super) fn lex(source: &str) -> Result<Vec<Token>, (usize, String)> {
    let mut tokens = Vec::new();
    for (i, text) in source.lines().enumerate() {
        let line = i + 1;
        let mut rest = text.trim_start();
        while !rest.is_empty() && !rest.starts_with(';') {
            let (kind, used) = one(rest).map_err(|why| (line, why))?;
            tokens.push(Token { kind, line });
            rest = rest[used..].trim_start();
        }
        tokens.push(Token { kind: Kind::Newline, line });
    }
    Ok(tokens)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

fn one(rest: &str) -> Result<(Kind, usize), String> {
    let first = rest.chars().next().unwrap_or(' ');
    if first == '"' {
        return text(rest);
    }
    if first.is_ascii_digit() {
        return number(rest);
    }
    if let Some(mark) = MARKS.iter().find(|m| rest.starts_with(**m)) {
        return Ok((Kind::Mark(mark), mark.len()));
    }
    if first == '%' {
        let name: String = rest[1..].chars().take_while(|c| is_word(*c)).collect();
        let used = 1 + name.len();
        return if name.is_empty() { Err("`%` without a name".into()) } else { Ok((Kind::Value(name), used)) };
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let word: String = rest.chars().take_while(|c| is_word(*c)).collect();
        let used = word.len();
        return Ok((Kind::Word(word), used));
    }
    Err(format!("unexpected character `{first}`"))
}

fn number(rest: &str) -> Result<(Kind, usize), String> {
    let bytes = rest.as_bytes();
    let digits = |from: usize| from + bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut end = digits(0);
    let mut float = false;
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1) != Some(&b'.') {
        float = true;
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let after = digits(end + 1 + sign);
        if after > end + 1 + sign {
            float = true;
            end = after;
        }
    }
    let text = &rest[..end];
    let bad = |_| format!("`{text}` is no number");
    let kind = if float {
        Kind::Float(text.parse().map_err(|_| format!("`{text}` is no number"))?)
    } else {
        Kind::Int(text.parse().map_err(bad)?)
    };
    Ok((kind, end))
}

fn text(rest: &str) -> Result<(Kind, usize), String> {
    let mut out = String::new();
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match (escaped, c) {
            (false, '\\') => {
                escaped = true;
                continue;
            }
            (false, '"') => return Ok((Kind::Text(out), at + 1)),
            (true, 'n') => out.push('\n'),
            (_, c) => out.push(c),
        }
        escaped = false;
    }
    Err("a string does not end on its line".into())
}
