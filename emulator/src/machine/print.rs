//! What does a kernel print? `vprintf`: a format and its arguments as C has them, written as glibc writes them.
//!
//! Nothing here trusts the kernel: formats, widths and texts are cut at limits.

/// Longest format or text that is read, in bytes.
pub(crate) const MAX_TEXT: usize = 1 << 16;
/// What a launch may print, in bytes; the rest is left out.
pub(crate) const MAX_PRINTED: usize = 1 << 20;
/// Largest width and precision.
const MAX_WIDTH: usize = 4096;

/// Where arguments come from.
pub(crate) trait Source {
    /// The next argument of this many bytes, 4 or 8; `None` if it cannot be read.
    fn next(&mut self, bytes: u32) -> Option<u64>;
    /// The text at an address, cut at this many bytes.
    fn text(&mut self, address: u64, most: usize) -> Vec<u8>;
}

/// One conversion, between `%` and its letter.
#[derive(Clone, Copy, Debug, Default)]
struct Spec {
    left: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    zeros: bool,
    width: usize,
    precision: Option<usize>,
    /// Bytes of an integer: 1, 2, 4 or 8.
    bytes: u32,
}

/// The text, and how many arguments went into it.
pub(crate) fn format(format: &[u8], source: &mut dyn Source) -> (Vec<u8>, i32) {
    let mut out = Vec::new();
    let mut taken = 0;
    let mut at = 0;
    while at < format.len() && out.len() <= MAX_PRINTED {
        if format[at] != b'%' {
            out.push(format[at]);
            at += 1;
            continue;
        }
        let start = at;
        let (spec, letter, end) = spec(format, at + 1, source, &mut taken);
        at = end;
        match letter {
            Some(b'%') => out.push(b'%'),
            Some(letter) if convert(&mut out, spec, letter, source).is_some() => taken += 1,
            // No conversion of C: it stands for itself.
            _ => out.extend_from_slice(&format[start..at]),
        }
    }
    (out, taken)
}

/// Reads flags, width, precision and size from `at`; gives the letter behind them and where that ends.
fn spec(format: &[u8], mut at: usize, source: &mut dyn Source, taken: &mut i32) -> (Spec, Option<u8>, usize) {
    let mut spec = Spec { bytes: 4, ..Spec::default() };
    while let Some(flag) = format.get(at) {
        match flag {
            b'-' => spec.left = true,
            b'+' => spec.plus = true,
            b' ' => spec.space = true,
            b'#' => spec.alternate = true,
            b'0' => spec.zeros = true,
            _ => break,
        }
        at += 1;
    }
    let mut number = |at: &mut usize| -> i64 {
        if format.get(*at) == Some(&b'*') {
            *at += 1;
            *taken += 1;
            return source.next(4).map_or(0, |n| i64::from(n as i32));
        }
        let mut n = 0i64;
        while let Some(digit) = format.get(*at).filter(|d| d.is_ascii_digit()) {
            n = n.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
            *at += 1;
        }
        n
    };
    let width = number(&mut at);
    spec.left |= width < 0;
    spec.width = usize::try_from(width.unsigned_abs()).unwrap_or(MAX_WIDTH).min(MAX_WIDTH);
    if format.get(at) == Some(&b'.') {
        at += 1;
        // A negative precision counts as none.
        spec.precision = usize::try_from(number(&mut at)).ok().map(|p| p.min(MAX_WIDTH));
    }
    while let Some(size) = format.get(at) {
        spec.bytes = match size {
            b'h' => spec.bytes / 2,
            b'l' | b'z' | b'j' | b't' | b'L' => 8,
            _ => break,
        }
        .max(1);
        at += 1;
    }
    (spec, format.get(at).copied(), (at + 1).min(format.len()))
}

fn convert(out: &mut Vec<u8>, spec: Spec, letter: u8, source: &mut dyn Source) -> Option<()> {
    let unsigned = |bits: u64| bits & (u64::MAX >> (64 - 8 * spec.bytes));
    let width = if spec.bytes == 8 { 8 } else { 4 };
    let (sign, body, is_number) = match letter {
        b'd' | b'i' => {
            let shift = 64 - 8 * spec.bytes;
            let x = ((source.next(width)? << shift) as i64) >> shift;
            (sign(spec, x < 0), digits(spec, x.unsigned_abs().to_string()), spec.precision.is_none())
        }
        b'u' => (String::new(), digits(spec, unsigned(source.next(width)?).to_string()), spec.precision.is_none()),
        b'o' => {
            let text = digits(spec, format!("{:o}", unsigned(source.next(width)?)));
            let zero = if spec.alternate && !text.starts_with('0') { "0" } else { "" };
            (String::new(), format!("{zero}{text}"), spec.precision.is_none())
        }
        b'x' | b'X' => {
            let x = unsigned(source.next(width)?);
            let text = if letter == b'x' { format!("{x:x}") } else { format!("{x:X}") };
            let prefix = if spec.alternate && x != 0 { format!("0{}", letter as char) } else { String::new() };
            (prefix, digits(spec, text), spec.precision.is_none())
        }
        b'p' => match source.next(8)? {
            0 => (String::new(), "(nil)".to_owned(), false),
            x => ("0x".to_owned(), format!("{x:x}"), false),
        },
        b'e' | b'E' | b'f' | b'F' | b'g' | b'G' | b'a' | b'A' => {
            let x = f64::from_bits(source.next(8)?);
            let text = if x.is_finite() { real(spec, letter, x.abs()) } else { infinite(x) };
            let text = if letter.is_ascii_uppercase() { text.to_ascii_uppercase() } else { text };
            let (prefix, text) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
                Some(rest) => (&text[..2], rest),
                None => ("", text.as_str()),
            };
            (format!("{}{prefix}", sign(spec, x.is_sign_negative())), text.to_owned(), x.is_finite())
        }
        b'c' => {
            pad(out, spec, "", &[source.next(4)? as u8], false);
            return Some(());
        }
        b's' => {
            let address = source.next(8)?;
            let most = spec.precision.unwrap_or(MAX_TEXT);
            let text = if address == 0 { b"(null)".to_vec() } else { source.text(address, most) };
            pad(out, spec, "", &text[..text.len().min(most)], false);
            return Some(());
        }
        _ => return None,
    };
    pad(out, spec, &sign, body.as_bytes(), is_number);
    Some(())
}

fn sign(spec: Spec, is_negative: bool) -> String {
    let sign = if is_negative {
        "-"
    } else if spec.plus {
        "+"
    } else if spec.space {
        " "
    } else {
        ""
    };
    sign.to_owned()
}

/// Whole numbers have at least as many digits as their precision; zero with a precision of zero has none.
fn digits(spec: Spec, text: String) -> String {
    match spec.precision {
        Some(0) if text == "0" => String::new(),
        Some(precision) if text.len() < precision => format!("{}{text}", "0".repeat(precision - text.len())),
        _ => text,
    }
}

fn infinite(x: f64) -> String {
    if x.is_nan() { "nan" } else { "inf" }.to_owned()
}

/// A number of no sign, in lower case.
fn real(spec: Spec, letter: u8, x: f64) -> String {
    let precision = spec.precision.unwrap_or(6);
    match letter.to_ascii_lowercase() {
        b'f' => dotted(spec, format!("{x:.precision$}")),
        b'e' => exponent(spec, x, precision),
        b'a' => hexadecimal(spec, x),
        _ => general(spec, x, precision.max(1)),
    }
}

/// With `#` a number has its dot even if nothing follows.
fn dotted(spec: Spec, text: String) -> String {
    if spec.alternate && !text.contains('.') { format!("{text}.") } else { text }
}

/// Mantissa and power of ten of a number with so many digits behind the dot.
fn scientific(x: f64, precision: usize) -> (String, i32) {
    let text = format!("{x:.precision$e}");
    let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
    (mantissa.to_owned(), power.parse().unwrap_or(0))
}

fn exponent(spec: Spec, x: f64, precision: usize) -> String {
    let (mantissa, power) = scientific(x, precision);
    let sign = if power < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", dotted(spec, mantissa), power.unsigned_abs())
}

/// The shorter of both forms, without zeros at the end.
fn general(spec: Spec, x: f64, precision: usize) -> String {
    let (mantissa, power) = scientific(x, precision - 1);
    let trim = |text: String| {
        if spec.alternate || !text.contains('.') {
            return dotted(spec, text);
        }
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let fits = i32::try_from(precision).is_ok_and(|p| power < p);
    if power < -4 || !fits {
        let sign = if power < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), power.unsigned_abs());
    }
    let behind = usize::try_from(precision as i64 - 1 - i64::from(power)).unwrap_or(0);
    trim(format!("{x:.behind$}"))
}

/// `0x1.8p+1`.
fn hexadecimal(spec: Spec, x: f64) -> String {
    let bits = x.to_bits();
    let (mut fraction, field) = (bits & ((1 << 52) - 1), (bits >> 52 & 0x7ff) as i32);
    let (mut lead, power) = match (field, fraction) {
        (0, 0) => (0, 0),
        (0, _) => (0, -1022),
        _ => (1, field - 1023),
    };
    let mut n_digits = 13;
    if let Some(precision) = spec.precision.filter(|p| *p < 13) {
        // Rounds to even, as the default mode does.
        let cut = 52 - 4 * precision as u32;
        let whole = lead << 52 | fraction;
        let (kept, rest) = (whole >> cut, whole & ((1 << cut) - 1));
        let half = 1u64 << (cut - 1);
        let kept = kept + u64::from(rest > half || rest == half && kept & 1 == 1);
        (lead, fraction) = (kept << cut >> 52, kept << cut & ((1 << 52) - 1));
        n_digits = precision;
    }
    let mut digits = format!("{fraction:013x}");
    digits.truncate(n_digits);
    match spec.precision {
        None => digits.truncate(digits.trim_end_matches('0').len()),
        Some(precision) => digits.extend(std::iter::repeat_n('0', precision.saturating_sub(13))),
    }
    let dot = if digits.is_empty() { "" } else { "." };
    let sign = if power < 0 { '-' } else { '+' };
    format!("0x{}p{sign}{}", dotted(spec, format!("{lead}{dot}{digits}")), power.unsigned_abs())
}

/// Writes a field: blanks before or behind, or zeros between sign and digits.
fn pad(out: &mut Vec<u8>, spec: Spec, sign: &str, body: &[u8], is_number: bool) {
    let missing = spec.width.saturating_sub(sign.len() + body.len());
    let zeros = spec.zeros && is_number && !spec.left;
    let blanks = |out: &mut Vec<u8>, byte| out.extend(std::iter::repeat_n(byte, missing));
    if !spec.left && !zeros {
        blanks(out, b' ');
    }
    out.extend_from_slice(sign.as_bytes());
    if zeros {
        blanks(out, b'0');
    }
    out.extend_from_slice(body);
    if spec.left {
        blanks(out, b' ');
    }
}

/// All that a launch has printed.
#[derive(Debug, Default)]
pub(crate) struct Printed {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Printed {
    /// Adds a text, or what there is room for.
    pub(crate) fn push(&mut self, text: &[u8]) {
        let room = MAX_PRINTED.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&text[..text.len().min(room)]);
        self.is_cut |= text.len() > room;
    }

    /// The text, with a line that tells if it is not all.
    pub(crate) fn take(&mut self) -> String {
        let mut text = String::from_utf8_lossy(&std::mem::take(&mut self.bytes)).into_owned();
        if std::mem::take(&mut self.is_cut) {
            text.push_str(&format!("\n(what was printed after {MAX_PRINTED} bytes is left out)\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_PRINTED, Printed, Source, format};

    struct Given(Vec<u64>);

    impl Source for Given {
        fn next(&mut self, _: u32) -> Option<u64> {
            (!self.0.is_empty()).then(|| self.0.remove(0))
        }

        fn text(&mut self, address: u64, _: usize) -> Vec<u8> {
            vec![b'x'; address.min(9) as usize]
        }
    }

    fn shown(text: &str, args: &[u64]) -> (String, i32) {
        let (out, n) = format(text.as_bytes(), &mut Given(args.to_vec()));
        (String::from_utf8_lossy(&out).into_owned(), n)
    }

    #[test]
    fn conversions_are_those_of_c() {
        let minus = -7i32 as u32 as u64;
        // What glibc prints for the same call.
        for (text, arg, want) in [
            ("%d|", minus, "-7|"),
            ("%5i|%%", minus, "   -7|%"),
            ("%-5d|", minus, "-7   |"),
            ("%05d|", minus, "-0007|"),
            ("%+.3d|", 7, "+007|"),
            ("% d|", 7, " 7|"),
            ("%.0d|", 0, "|"),
            ("%u|", minus, "4294967289|"),
            ("%hhd|", 0x1ff, "-1|"),
            ("%hu|", 0x1_2345, "9029|"),
            ("%lld|", u64::MAX, "-1|"),
            ("%#x|", 255, "0xff|"),
            ("%#08X|", 255, "0X0000FF|"),
            ("%#o|", 8, "010|"),
            ("%lx|", 1 << 40, "10000000000|"),
            ("%c|", 65, "A|"),
            ("%.2s|", 5, "xx|"),
            ("%6s|", 3, "   xxx|"),
            ("%s|", 0, "(null)|"),
            ("%p|", 0x400, "0x400|"),
            ("%p|", 0, "(nil)|"),
        ] {
            assert_eq!(shown(text, &[arg]), (want.to_owned(), 1), "{text}");
        }
        for (text, x, want) in [
            ("%f", 1.5, "1.500000"),
            ("%.0f", 2.5, "2"),
            ("%#.0f", 2.5, "2."),
            ("%010.3f", -3.24159, "-00003.242"),
            ("%e", 12345.678, "1.234568e+04"),
            ("%.1E", 1e-300, "1.0E-300"),
            ("%g", 0.0001, "0.0001"),
            ("%g", 0.00001, "1e-05"),
            ("%g", 100000.0, "100000"),
            ("%g", 1000000.0, "1e+06"),
            ("%.3g", 999.9, "1e+03"),
            ("%g", 0.0, "0"),
            ("%#g", 1.0, "1.00000"),
            ("%a", 3.0, "0x1.8p+1"),
            ("%a", -0.0, "-0x0p+0"),
            ("%.1a", 1.97, "0x2.0p+0"),
            ("%8.3f|", f64::INFINITY, "     inf|"),
            ("%F", f64::NAN, "NAN"),
            ("%08f", f64::NEG_INFINITY, "    -inf"),
        ] {
            assert_eq!(shown(text, &[f64::to_bits(x)]).0, want, "{text}");
        }
        assert_eq!(shown("%*.*f", &[8, 2, 2.0f64.to_bits()]), ("    2.00".to_owned(), 3));
        assert_eq!(shown("%*d|", &[-4i32 as u32 as u64, 1]), ("1   |".to_owned(), 2));
    }

    #[test]
    fn any_format_ends() {
        for text in ["%", "%-", "%9999999999999999999d", "%.99999999d", "%y", "%l", "%*d", "%s", "%hhhhhd", "100%"] {
            shown(text, &[1]);
            shown(text, &[u64::MAX]);
            shown(text, &[]);
        }
        assert_eq!(shown("a%yb", &[1]), ("a%yb".to_owned(), 0));
        let mut printed = Printed::default();
        printed.push(&vec![b'a'; MAX_PRINTED]);
        printed.push(b"b");
        let text = printed.take();
        assert!(text.ends_with("is left out)\n") && printed.take().is_empty());
    }
}
