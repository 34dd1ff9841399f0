//! How are lines, words and numbers taken from the text of a cloud or mesh?

use crate::fault::Fault;

/// Lines that hold something, without their ends; LF, CR LF and CR end a line.
#[derive(Clone, Debug)]
pub(crate) struct Lines<'a> {
    rest: &'a [u8],
    number: u64,
}

/// A line and its number, from 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    pub(crate) number: u64,
    pub(crate) text: &'a [u8],
}

impl<'a> Lines<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        // The mark some editors put before UTF-8.
        Self { rest: bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes), number: 0 }
    }

    /// What is left, whatever it is.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The number of the last line given, or 1.
    pub(crate) fn number(&self) -> u64 {
        self.number.max(1)
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        while !self.rest.is_empty() {
            let end = self.rest.iter().position(|&byte| byte == b'\n' || byte == b'\r').unwrap_or(self.rest.len());
            let (text, after) = self.rest.split_at(end);
            let n_end = if after.starts_with(b"\r\n") { 2 } else { after.len().min(1) };
            self.rest = &after[n_end..];
            self.number += 1;
            let text = text.trim_ascii();
            if !text.is_empty() {
                return Some(Line { number: self.number, text });
            }
        }
        None
    }
}

impl<'a> Line<'a> {
    /// Words between white space.
    pub(crate) fn words(self) -> impl Iterator<Item = &'a [u8]> + Clone {
        self.text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
    }

    /// The first `N` words as numbers.
    pub(crate) fn numbers<const N: usize>(
        self,
        words: &mut impl Iterator<Item = &'a [u8]>,
        expected: &'static str,
    ) -> Result<[f64; N], Fault> {
        let mut numbers = [0.0; N];
        for out in &mut numbers {
            let word = words.next().ok_or_else(|| Fault::line(self.number, expected, self.text))?;
            *out = number(word).ok_or_else(|| Fault::line(self.number, expected, word))?;
        }
        Ok(numbers)
    }
}

/// A decimal number; NaN and infinities are numbers here, whoever takes them refuses them by name.
pub(crate) fn number(word: &[u8]) -> Option<f64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_end_counts_once_and_empty_lines_are_passed_over() {
        let lines: Vec<(u64, &[u8])> =
            Lines::new(b"\xef\xbb\xbfa b\r\n\r\n c\rd").map(|line| (line.number, line.text)).collect();
        assert_eq!(lines, [(1, &b"a b"[..]), (3, b"c"), (4, b"d")]);
    }
}
