//! How is memory written on a command line? As vendors count it: K, M, G and T are each a thousand times the one before.

/// Bytes of a size such as `80G`, `1.5kB` or `1000`.
///
/// # Errors
/// What is no number above 0.
pub fn bytes(text: &str) -> Result<u64, String> {
    let number = text.trim_end_matches(['B', 'b']);
    let units = [('K', 1e3), ('M', 1e6), ('G', 1e9), ('T', 1e12)];
    let unit = number.chars().last().and_then(|last| units.into_iter().find(|(c, _)| last.eq_ignore_ascii_case(c)));
    let (number, factor) = match unit {
        Some((_, factor)) => (&number[..number.len() - 1], factor),
        None => (number, 1.0),
    };
    let value = number.parse::<f64>().ok().filter(|value| value.is_finite() && *value > 0.0);
    value.map(|value| (value * factor) as u64).ok_or_else(|| "expected a number such as 80G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_read_as_vendors_write_them() {
        assert_eq!(bytes("80G"), Ok(80_000_000_000));
        assert_eq!(bytes("1.5kB"), Ok(1500));
        assert_eq!(bytes("7"), Ok(7));
        assert!(bytes("G").is_err() && bytes("-1G").is_err() && bytes("").is_err());
    }
}
