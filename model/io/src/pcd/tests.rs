use super::*;
use crate::collect::Collected;

fn header(fields: &str, size: &str, ty: &str, n: usize, data: &str) -> String {
    let count = fields.split(' ').map(|_| "1").collect::<Vec<_>>().join(" ");
    format!(
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS {fields}\nSIZE {size}\nTYPE {ty}\n\
         COUNT {count}\nWIDTH {n}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {n}\nDATA {data}\n"
    )
}

fn load(bytes: &[u8]) -> Result<(Collected, u64), Fault> {
    let mut out = Collector::new(1000, 0);
    let n_holes = read(bytes, &mut out)?;
    Ok((out.finish()?, n_holes))
}

/// Two points with packed colours, as bytes field by field and point by point.
fn two_points() -> (Vec<u8>, Vec<u8>) {
    let rows: [([f32; 3], u32); 2] = [([1.0, 2.0, -3.5], 0x00ff_0033), ([4.0, 5.0, 6.0], 0x0000_ff66)];
    let by_point = rows
        .iter()
        .flat_map(|(xyz, rgb)| xyz.iter().flat_map(|x| x.to_le_bytes()).chain(rgb.to_le_bytes()).collect::<Vec<u8>>());
    let mut by_field: Vec<u8> =
        (0..3).flat_map(|axis| rows.iter().flat_map(move |(xyz, _)| xyz[axis].to_le_bytes())).collect();
    by_field.extend(rows.iter().flat_map(|(_, rgb)| rgb.to_le_bytes()));
    (by_point.collect(), by_field)
}

fn check(bytes: &[u8]) {
    let (found, n_holes) = load(bytes).unwrap();
    assert_eq!(found.cloud.xyz, [[1.0, 2.0, -3.5], [4.0, 5.0, 6.0]]);
    assert_eq!(found.cloud.rgb.unwrap(), [[1.0, 0.0, 0.2], [0.0, 1.0, 0.4]]);
    assert_eq!(n_holes, 0);
}

pub(crate) fn binary() -> Vec<u8> {
    let mut bytes = header("x y z rgb", "4 4 4 4", "F F F F", 2, "binary").into_bytes();
    bytes.extend(two_points().0);
    bytes
}

pub(crate) fn compressed() -> Vec<u8> {
    let mut bytes = header("x y z rgb", "4 4 4 4", "F F F F", 2, "binary_compressed").into_bytes();
    let body = two_points().1;
    bytes.extend((body.len() as u32 + 1).to_le_bytes());
    bytes.extend((body.len() as u32).to_le_bytes());
    // One run of 32 literal bytes.
    bytes.push(31);
    bytes.extend(body);
    bytes
}

#[test]
fn all_encodings_give_the_same_points() {
    check(&binary());
    check(&compressed());
    let unsigned = header("x y z rgb", "4 4 4 4", "F F F U", 2, "ascii");
    check(format!("{unsigned}1 2 -3.5 16711731\n4 5 6 65382\n").as_bytes());
    // The same colours as f32 with these bits, and as f32 of this value.
    let float = header("x y z rgb", "4 4 4 4", "F F F F", 2, "ascii");
    let bits = [0x00ff_0033, 0x0000_ff66].map(f32::from_bits);
    check(format!("{float}1 2 -3.5 {:e}\n4 5 6 {:e}\n", bits[0], bits[1]).as_bytes());
    check(format!("{float}1 2 -3.5 16711731\n4 5 6 65382\n").as_bytes());
    let apart = header("r g b x y z", "1 1 1 8 4 2", "U U U F F I", 2, "ascii");
    check(format!("{apart}255 0 51 1 2 -3.5\n0 255 102 4 5 6\n").as_bytes());
}

#[test]
fn fields_between_are_passed_over() {
    let text =
        "FIELDS _ y x z normal\nSIZE 1 4 8 2 4\nTYPE U F F I F\nCOUNT 2 1 1 1 3\nWIDTH 1\nHEIGHT 1\nDATA binary\n";
    let mut bytes = text.as_bytes().to_vec();
    bytes.extend([7, 7]);
    bytes.extend(2f32.to_le_bytes());
    bytes.extend(1f64.to_le_bytes());
    bytes.extend((-3i16).to_le_bytes());
    bytes.extend([9; 12]);
    let (found, _) = load(&bytes).unwrap();
    assert_eq!((found.cloud.xyz, found.cloud.rgb), (vec![[1.0, 2.0, -3.0]], None));
}

#[test]
fn holes_of_images_are_left_out_and_counted() {
    let text = "FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 2\nHEIGHT 2\nPOINTS 4\nDATA ascii\n";
    let (found, n_holes) = load(format!("{text}1 2 3\nnan nan nan\nnan nan nan\n4 5 6\n").as_bytes()).unwrap();
    assert_eq!((found.cloud.xyz.len(), n_holes), (2, 2));
    let list = text.replace("HEIGHT 2", "HEIGHT 1");
    let error = load(format!("{list}1 2 3\nnan nan nan\n").as_bytes()).unwrap_err();
    assert!(matches!(error, Fault::NotFinite { index: 1, .. }), "{error}");
}

#[test]
fn back_references_reach_into_what_they_write() {
    // One literal, then eight bytes from one byte back.
    assert_eq!(lzf::unpack(&[0, 5, 6 << 5, 0], 9), Some(vec![5; 9]));
    assert_eq!(lzf::unpack(&[0, 5, 7 << 5, 3, 0], 13), Some(vec![5; 13]));
    assert_eq!(lzf::unpack(&[0, 5, 6 << 5, 1], 9), None);
    assert_eq!(lzf::unpack(&[0, 5], 2), None);
    assert_eq!(lzf::unpack(&[0, 5], usize::MAX), None);
}

#[test]
fn faults_name_what_is_wrong() {
    let huge = header("x y z", "4 4 4", "F F F", usize::MAX, "binary");
    let rows = [
        (huge.as_str(), "the file is cut"),
        ("VERSION 0.7\n", "a DATA line"),
        ("FIELDS x y\nSIZE 4 4\nTYPE F F\nWIDTH 1\nDATA ascii\n1 2\n", "x, y and z among them"),
        ("FIELDS x y z\nSIZE 4 4\nTYPE F F F\nWIDTH 1\nDATA ascii\n", "3, 2, 3 and 3"),
        ("FIELDS x y z\nSIZE 4 4 3\nTYPE F F F\nWIDTH 1\nDATA ascii\n", "F of 3 B"),
        ("FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nDATA ascii\n", "POINTS"),
        ("FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 2\nDATA ascii\n1 2 3\n", "it is cut"),
        ("FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 2\nDATA ascii\n1 2\n", "line 6"),
        ("FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 2\nDATA zip\n1 2\n", "DATA ascii"),
    ];
    for (text, part) in rows {
        let error = load(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}
