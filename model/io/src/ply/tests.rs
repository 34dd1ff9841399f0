use proptest::prelude::*;

use super::*;
use crate::cloud::Cloud;

fn parse(bytes: &[u8]) -> Result<Cloud, Fault> {
    let mut out = Collector::new(1000, 0);
    match super::parse(bytes, &mut out)? {
        Content::Points => Ok(out.finish()?.cloud),
        Content::Mesh(mesh) => Ok(crate::mesh::sample::sample(&mesh, 100, 0)?.unwrap_or_default()),
    }
}

fn ply_fault(bytes: &[u8]) -> PlyError {
    match parse(bytes).unwrap_err() {
        Fault::Ply(error) => error,
        other => panic!("{other}"),
    }
}

const HEADER: &str = "element strip 1\nproperty list uchar int vertex_indices\nelement vertex 2\nproperty float x\n\
    property float y\nproperty float z\nproperty list uchar short tags\nproperty uchar red\nproperty uchar green\n\
    property uchar blue\nend_header\n";

fn header(encoding: &str) -> Vec<u8> {
    format!("ply\nformat {encoding} 1.0\ncomment made by hand\n{HEADER}").into_bytes()
}

fn ascii() -> Vec<u8> {
    let mut bytes = header("ascii");
    bytes.extend_from_slice(b"3 0 1 2\n1 2 -3.5 2 7 8 255 0 51\n4e0 5 6 0 0 255 102\n");
    bytes
}

fn binary(is_big: bool) -> Vec<u8> {
    let mut bytes = header(if is_big { "binary_big_endian" } else { "binary_little_endian" });
    let f32_bytes = |x: f32| if is_big { x.to_be_bytes() } else { x.to_le_bytes() };
    bytes.push(3);
    bytes.extend_from_slice(&[0; 12]);
    for (xyz, n_tags, rgb) in [([1.0, 2.0, -3.5], 2u8, [255, 0, 51]), ([4.0, 5.0, 6.0], 0, [0, 255, 102])] {
        xyz.iter().for_each(|&x| bytes.extend_from_slice(&f32_bytes(x)));
        bytes.push(n_tags);
        bytes.extend(std::iter::repeat_n(9, 2 * usize::from(n_tags)));
        bytes.extend_from_slice(&rgb);
    }
    bytes
}

fn expected() -> Cloud {
    Cloud { xyz: vec![[1.0, 2.0, -3.5], [4.0, 5.0, 6.0]], rgb: Some(vec![[1.0, 0.0, 0.2], [0.0, 1.0, 0.4]]) }
}

#[test]
fn all_encodings_give_the_same_points() {
    assert_eq!(parse(&ascii()).unwrap(), expected());
    assert_eq!(parse(&binary(false)).unwrap(), expected());
    assert_eq!(parse(&binary(true)).unwrap(), expected());
}

#[test]
fn headers_with_other_line_ends_are_read() {
    for end in ["\r\n", "\r"] {
        let text = String::from_utf8(ascii()).unwrap().replace('\n', end);
        assert_eq!(parse(text.as_bytes()).unwrap(), expected(), "{end:?}");
    }
}

#[test]
fn every_number_type_is_read() {
    let types = ["char", "uchar", "short", "ushort", "int", "uint", "float", "double"];
    for (scalar, bytes) in types.iter().zip([1usize, 1, 2, 2, 4, 4, 4, 8]) {
        let mut file = format!("ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty {scalar} x\n");
        file.push_str(&format!("property {scalar} y\nproperty {scalar} z\nend_header\n"));
        let mut file = file.into_bytes();
        let number = match *scalar {
            "float" => 5f32.to_le_bytes().to_vec(),
            "double" => 5f64.to_le_bytes().to_vec(),
            _ => 5u64.to_le_bytes()[..bytes].to_vec(),
        };
        file.extend(number.repeat(3));
        assert_eq!(parse(&file).unwrap().xyz, [[5.0; 3]], "{scalar}");
    }
}

#[test]
fn cut_files_name_the_first_vertex_that_is_missing() {
    let full = binary(false);
    let error = ply_fault(&full[..full.len() - 1]);
    assert_eq!(error, PlyError::Cut { element: "vertex".to_owned(), index: 1, count: 2 });
    let text = ascii();
    let error = ply_fault(&text[..text.len() - 5]);
    assert_eq!(error, PlyError::Cut { element: "vertex".to_owned(), index: 1, count: 2 });
}

/// A unit square in the plane z = 0, one face of four corners, in front of its vertices or behind them.
fn square(face_first: bool, colour: &str, channels: &str) -> String {
    let face = format!("element face 1\n{colour}property list uchar int vertex_index\n");
    let vertex = "element vertex 4\nproperty float x\nproperty float y\nproperty float z\n";
    let (face_row, vertex_rows) = (format!("{channels}4 0 1 2 3\n"), "0 0 0\n1 0 0\n1 1 0\n0 1 0\n");
    let (elements, rows) = match face_first {
        true => (format!("{face}{vertex}"), format!("{face_row}{vertex_rows}")),
        false => (format!("{vertex}{face}"), format!("{vertex_rows}{face_row}")),
    };
    format!("ply\nformat ascii 1.0\n{elements}end_header\n{rows}")
}

#[test]
fn faces_are_sampled_with_their_colours() {
    let rgb = "property uchar red\nproperty uchar green\nproperty uchar blue\n";
    for face_first in [false, true] {
        let cloud = parse(square(face_first, rgb, "255 0 51 ").as_bytes()).unwrap();
        assert_eq!(cloud.xyz.len(), 100);
        assert!(cloud.xyz.iter().all(|&[x, y, z]| (0.0..=1.0).contains(&x) && (0.0..=1.0).contains(&y) && z == 0.0));
        assert_eq!(cloud.rgb.unwrap(), [[1.0, 0.0, 0.2]; 100]);
        assert_eq!(parse(square(face_first, "", "").as_bytes()).unwrap().rgb, None);
    }
    let outside = square(false, "", "").replace("2 3\n", "2 4\n");
    assert!(matches!(parse(outside.as_bytes()), Err(Fault::Index { index: 4, count: 4, .. })));
    let negative = square(false, "", "").replace("2 3\n", "2 -1\n");
    assert!(matches!(parse(negative.as_bytes()), Err(Fault::Index { index: -1, .. })));
}

#[test]
fn huge_counts_cost_nothing() {
    let body = "property float x\nproperty float y\nproperty float z\nend_header\n1 2 3\n";
    for encoding in ["ascii", "binary_little_endian"] {
        let file = format!("ply\nformat {encoding} 1.0\nelement vertex {}\n{body}", u64::MAX);
        assert!(matches!(ply_fault(file.as_bytes()), PlyError::Cut { .. }));
        let before =
            format!("ply\nformat {encoding} 1.0\nelement a {}\nelement b {}\nproperty int i\n", u64::MAX, u64::MAX);
        let file = format!("{before}element vertex 1\n{body}");
        assert!(matches!(ply_fault(file.as_bytes()), PlyError::Cut { .. }));
    }
    let list = "ply\nformat ascii 1.0\nelement a 1\nproperty list int int i\nelement vertex 1\n";
    let file = format!("{list}{}", body.replace("1 2 3", "99999999999999 1 2 3"));
    assert!(matches!(ply_fault(file.as_bytes()), PlyError::Cut { .. }));
}

type IsExpected = fn(&PlyError) -> bool;

#[test]
fn broken_headers_are_explained() {
    let vertex = "ply\nformat ascii 1.0\nelement vertex 1\n";
    let rows: [(String, IsExpected); 9] = [
        ("ply\n".to_owned(), |e| matches!(e, PlyError::Header { line: 2, .. })),
        ("ply\nformat ascii 2.0\n".to_owned(), |e| matches!(e, PlyError::Header { line: 2, .. })),
        ("ply\nend_header\n".to_owned(), |e| matches!(e, PlyError::Header { line: 2, .. })),
        ("ply\nproperty float x\n".to_owned(), |e| matches!(e, PlyError::Header { line: 2, .. })),
        ("ply\nelement vertex -1\n".to_owned(), |e| matches!(e, PlyError::Header { line: 2, .. })),
        ("ply\nformat ascii 1.0\nelement face 0\nend_header\n".to_owned(), |e| matches!(e, PlyError::NoVertex { .. })),
        (format!("{vertex}property float x\nend_header\n"), |e| matches!(e, PlyError::NoCoordinate { name: "y", .. })),
        (format!("{vertex}property list float int x\nend_header\n"), |e| matches!(e, PlyError::Header { line: 4, .. })),
        (
            format!("{vertex}property int x\nproperty int y\nproperty int z\nproperty int red\nend_header\n1 2 3 4"),
            |e| matches!(e, PlyError::HalfColour),
        ),
    ];
    for (file, is_expected) in rows {
        let error = ply_fault(file.as_bytes());
        assert!(is_expected(&error), "{file}: {error:?}");
    }
    let word = String::from_utf8(ascii()).unwrap().replace("4e0", "four");
    assert!(matches!(ply_fault(word.as_bytes()), PlyError::NotNumber { index: 1, .. }));
}

proptest! {
    #[test]
    fn random_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        for encoding in ["ascii", "binary_little_endian", "binary_big_endian"] {
            let mut file = header(encoding);
            file.extend_from_slice(&body);
            let _ = parse(&file);
        }
        let _ = parse(&body);
    }

    #[test]
    fn altered_and_cut_files_never_panic(at in 0usize..400, bit in 0u8..8, cut in 0usize..400, kind in 0..3) {
        let mut file = [ascii(), binary(false), binary(true)][kind as usize].clone();
        let len = file.len();
        let _ = parse(&file[..cut % len]);
        file[at % len] ^= 1 << bit;
        let _ = parse(&file);
    }
}
