//! How does the viewer get its numbers? One HTML file that needs nothing else.

use super::groups::Stage;
use enel_io::Prepared;
use serde_json::json;

const TEMPLATE: &str = include_str!("../../../assets/preview.html");
/// Where the template wants its numbers.
const MARK: &str = "/*DATA*/null";

/// The page of a prepared cloud; `name` and `given` are shown above it.
pub fn page(prepared: &Prepared, stages: &[Stage], (name, given): (&str, &str)) -> String {
    let n_points = prepared.report.n_points;
    // Two bytes a row where they are enough.
    let row_bytes = if n_points <= 1 << 16 { 2 } else { 4 };
    let rows = |rows: &[u32]| {
        base64(&rows.iter().flat_map(|row| row.to_le_bytes().into_iter().take(row_bytes)).collect::<Vec<u8>>())
    };
    let points = prepared.points.chunks_exact(6);
    // Prepared coordinates lie in -1..1.
    let step = |value: &f32| ((value * 32767.0).round() as i16).to_le_bytes();
    let xyz: Vec<u8> = points.clone().flat_map(|row| row[..3].iter().flat_map(step)).collect();
    let rgb: Vec<u8> = points.flat_map(|row| row[3..].iter().map(|value| (value * 255.0).round() as u8)).collect();
    let stages: Vec<_> = stages
        .iter()
        .map(|stage| {
            json!({
                "centres": rows(&stage.centres),
                "neighbours": rows(&stage.neighbours),
                "group_size": stage.group_size,
            })
        })
        .collect();
    let data = json!({
        "name": name,
        "given": given,
        "has_colour": prepared.report.has_colour,
        "row_bytes": row_bytes,
        "xyz": base64(&xyz),
        "rgb": base64(&rgb),
        "stages": stages,
    });
    // A name must not end the script.
    TEMPLATE.replacen(MARK, &data.to_string().replace('<', "\\u003c"), 1)
}

/// **Source** RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use enel_io::{Cloud, PrepareConfig, prepare};

    #[test]
    fn pages_hold_their_numbers_and_ask_nobody() {
        let cloud = Cloud { xyz: vec![[0.0; 3], [1.0, 2.0, 3.0]], rgb: None };
        let prepared = prepare(&cloud, PrepareConfig::exactly(4)).unwrap();
        let stage = Stage { centres: vec![0, 1], neighbours: vec![0, 1, 1, 0], group_size: 2 };
        let page = page(&prepared, &[stage], ("</script><b>", "4 points"));
        assert!(!page.contains(MARK) && page.contains("\\u003c/script>\\u003cb>"));
        assert_eq!(page.matches("</script>").count(), 1);
        assert!(!page.contains("http:") && !page.contains("https:"));
        assert!(page.contains(r#""neighbours":"AAABAAEAAAA=""#));
    }

    #[test]
    fn base64_is_padded() {
        assert_eq!(
            ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes())),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
        );
    }
}
