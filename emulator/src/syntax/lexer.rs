//! How is PTX text cut into tokens, each with its line?

use crate::error::ParseError;

/// One token of PTX text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Token<'a> {
    /// Identifier, register, directive or dotted opcode.
    Word(&'a str),
    /// Integer literal; a minus sign is a separate token.
    Int(u64),
    /// Single-precision literal, as bits.
    F32(u32),
    /// Double-precision literal, as bits.
    F64(u64),
    /// Quoted text without its quotes.
    Text(&'a str),
    /// Any single character with a meaning of its own.
    Punct(u8),
}

/// A token, the line (from 1) it starts on and the bytes it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located<'a> {
    pub(crate) token: Token<'a>,
    pub(crate) line: u32,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Cuts `text` into tokens; comments and blanks vanish.
pub(crate) fn tokenize(text: &str) -> Result<Vec<Located<'_>>, ParseError> {
    let mut lexer = Lexer { text, bytes: text.as_bytes(), at: 0, line: 1 };
    let mut tokens = Vec::new();
    while let Some(located) = lexer.next()? {
        tokens.push(located);
    }
    Ok(tokens)
}

struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    line: u32,
}

/// Directives that a type may follow without a blank.
const DECLARES: [&str; 6] = [".reg", ".param", ".local", ".shared", ".global", ".const"];

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$' | b'%' | b'.')
}

fn continues_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'.')
}

impl<'a> Lexer<'a> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn bad(&self, found: impl Into<String>) -> ParseError {
        ParseError::Token { line: self.line, found: found.into() }
    }

    fn skip_blanks(&mut self) -> Result<(), ParseError> {
        while self.at < self.bytes.len() {
            match (self.bytes[self.at], self.peek(1)) {
                (b'\n', _) => {
                    self.line += 1;
                    self.at += 1;
                }
                (b' ' | b'\t' | b'\r' | 0, _) => self.at += 1,
                (b'/', b'/') => {
                    while self.at < self.bytes.len() && self.bytes[self.at] != b'\n' {
                        self.at += 1;
                    }
                }
                (b'/', b'*') => {
                    let rest = &self.bytes[self.at + 2..];
                    let Some(end) = rest.windows(2).position(|pair| pair == b"*/") else {
                        return Err(self.bad("a comment that never ends"));
                    };
                    self.line += rest[..end].iter().filter(|&&b| b == b'\n').count() as u32;
                    self.at += end + 4;
                }
                _ => break,
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Located<'a>>, ParseError> {
        self.skip_blanks()?;
        let Some(&byte) = self.bytes.get(self.at) else { return Ok(None) };
        let (line, start) = (self.line, self.at);
        let token = if starts_word(byte) {
            self.word()
        } else if byte.is_ascii_digit() {
            self.number()?
        } else if byte == b'"' {
            let start = self.at + 1;
            let Some(length) = self.bytes[start..].iter().position(|&b| b == b'"') else {
                return Err(self.bad("a text that never ends"));
            };
            self.at = start + length + 1;
            self.line += self.bytes[start..start + length].iter().filter(|&&b| b == b'\n').count() as u32;
            Token::Text(&self.text[start..start + length])
        } else if b"{}()[]<>,;:+-*!|@=~&^/?#".contains(&byte) {
            self.at += 1;
            Token::Punct(byte)
        } else {
            let found = self.text[self.at..].chars().next().unwrap_or('?');
            return Err(self.bad(format!("character {found:?}")));
        };
        Ok(Some(Located { token, line, start, end: self.at }))
    }

    fn word(&mut self) -> Token<'a> {
        let start = self.at;
        self.at += 1;
        loop {
            if self.peek(0) == b'.' && DECLARES.contains(&&self.text[start..self.at]) {
                // `.reg.b32` is two words without a blank.
                break;
            } else if continues_word(self.peek(0)) {
                self.at += 1;
            } else if self.peek(0) == b':' && self.peek(1) == b':' {
                self.at += 2;
            } else {
                break;
            }
        }
        Token::Word(&self.text[start..self.at])
    }

    fn number(&mut self) -> Result<Token<'a>, ParseError> {
        let start = self.at;
        while self.peek(0).is_ascii_alphanumeric() || self.peek(0) == b'.' {
            self.at += 1;
        }
        let text = &self.text[start..self.at];
        let bad = || ParseError::Token { line: self.line, found: format!("number `{text}`") };
        let lower = text.to_ascii_lowercase();
        if let Some(hex) = lower.strip_prefix("0f")
            && hex.len() == 8
        {
            return u32::from_str_radix(hex, 16).map(Token::F32).map_err(|_| bad());
        }
        if let Some(hex) = lower.strip_prefix("0d")
            && hex.len() == 16
        {
            return u64::from_str_radix(hex, 16).map(Token::F64).map_err(|_| bad());
        }
        if lower.contains('.') {
            return lower.parse::<f64>().map(|v| Token::F64(v.to_bits())).map_err(|_| bad());
        }
        let digits = lower.strip_suffix('u').unwrap_or(&lower);
        let parsed = if let Some(hex) = digits.strip_prefix("0x") {
            u64::from_str_radix(hex, 16)
        } else if let Some(binary) = digits.strip_prefix("0b") {
            u64::from_str_radix(binary, 2)
        } else if digits.len() > 1 && digits.starts_with('0') {
            u64::from_str_radix(&digits[1..], 8)
        } else {
            digits.parse::<u64>()
        };
        parsed.map(Token::Int).map_err(|_| bad())
    }
}
