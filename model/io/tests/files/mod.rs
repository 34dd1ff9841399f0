//! Small files of every format, put together byte by byte: what readers take must not come from our own writers.

#![allow(dead_code, unreachable_pub, reason = "each suite uses some of them")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;

/// Header of a `.npy` file of `shape`, version 1.0, and what follows it.
pub fn npy(descr: &str, shape: &str, body: &[u8]) -> Vec<u8> {
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while (text.len() + 11) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text.as_bytes());
    out.extend(body);
    out
}

pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// An archive of `.npy` members, packed or not.
pub fn npz(members: &[(&str, Vec<u8>)], is_packed: bool) -> Vec<u8> {
    let method = if is_packed { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer.start_file(format!("{name}.npy"), options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Two points, the second withheld if asked; colours where the format has them.
pub fn las(minor: u8, format: u8, withheld: bool) -> Vec<u8> {
    let (record_bytes, colour, flag) = match format {
        0 => (20, None, 7),
        1 => (28, None, 7),
        2 => (26, Some(20), 7),
        3 => (34, Some(28), 7),
        4 => (57, None, 7),
        5 => (63, Some(28), 7),
        6 => (30, None, 2),
        7 => (36, Some(30), 2),
        8 => (38, Some(30), 2),
        9 => (59, None, 2),
        _ => (67, Some(30), 2),
    };
    let header_bytes = if minor == 4 { 375 } else { 227 };
    let mut out = vec![0; header_bytes];
    out[..4].copy_from_slice(b"LASF");
    (out[24], out[25]) = (1, minor);
    out[94..96].copy_from_slice(&(header_bytes as u16).to_le_bytes());
    out[96..100].copy_from_slice(&(header_bytes as u32 + 3).to_le_bytes());
    out[104] = format;
    out[105..107].copy_from_slice(&(record_bytes as u16).to_le_bytes());
    if minor == 4 {
        out[247..255].copy_from_slice(&2u64.to_le_bytes());
    } else {
        out[107..111].copy_from_slice(&2u32.to_le_bytes());
    }
    for (at, value) in [(131, 0.5f64), (139, 0.5), (147, 0.25), (155, 500_000.0), (163, 4_000_000.0), (171, 10.0)] {
        out[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    // A record of other use between header and points.
    out.extend([7; 3]);
    for (row, xyz) in [[1i32, 2, 4], [3, 2, -4]].into_iter().enumerate() {
        let mut record = vec![0u8; record_bytes];
        xyz.iter().enumerate().for_each(|(i, v)| record[4 * i..4 * i + 4].copy_from_slice(&v.to_le_bytes()));
        if row == 1 && withheld {
            record[15] |= 1 << flag;
        }
        if let Some(at) = colour {
            let rgb = [65535u16, 0, 13107];
            rgb.iter()
                .enumerate()
                .for_each(|(i, v)| record[at + 2 * i..at + 2 * i + 2].copy_from_slice(&v.to_le_bytes()));
        }
        out.extend(record);
    }
    out
}

/// The twelve triangles of a cube of side 2 around the origin, by corner numbers.
pub const CUBE: [[usize; 3]; 12] = [
    [0, 2, 1],
    [1, 2, 3],
    [4, 5, 6],
    [5, 7, 6],
    [0, 1, 4],
    [1, 5, 4],
    [2, 6, 3],
    [3, 6, 7],
    [0, 4, 2],
    [2, 4, 6],
    [1, 3, 5],
    [3, 7, 5],
];

/// Corner `i` of the cube: bit 0 is x, bit 1 y, bit 2 z.
pub fn corner(i: usize) -> [f32; 3] {
    [0, 1, 2].map(|axis| if i >> axis & 1 == 1 { 1.0 } else { -1.0 })
}

/// The cube, each facet with `attribute`; `header` begins its first 80 bytes.
pub fn stl(header: &[u8], attribute: u16) -> Vec<u8> {
    let mut out = vec![0; 80];
    out[..header.len()].copy_from_slice(header);
    out.extend(12u32.to_le_bytes());
    for triangle in CUBE {
        out.extend([0; 12]);
        triangle.iter().for_each(|&i| out.extend(f32_bytes(&corner(i))));
        out.extend(attribute.to_le_bytes());
    }
    out
}

pub fn stl_text() -> String {
    let mut out = String::from("solid cube\n");
    for triangle in CUBE {
        out.push_str(" facet normal 0 0 0\n  outer loop\n");
        for i in triangle {
            let [x, y, z] = corner(i);
            out.push_str(&format!("   vertex {x} {y} {z:e}\n"));
        }
        out.push_str("  endloop\n endfacet\n");
    }
    out + "endsolid cube\n"
}

/// The cube; `keyword` and what follows each vertex and face.
pub fn off(keyword: &str, vertex: &str, face: &str) -> String {
    let mut out = format!("{keyword}8 12 0 # a cube\n");
    for [x, y, z] in (0..8).map(corner) {
        out.push_str(&format!("{x} {y} {z}{vertex}\n"));
    }
    for [a, b, c] in CUBE {
        out.push_str(&format!("3 {a} {b} {c}{face}\n"));
    }
    out
}

/// The cube's vertices as lines, with `colour` behind each.
pub fn obj_vertices(colour: &str) -> String {
    (0..8).map(corner).map(|[x, y, z]| format!("v {x} {y} {z}{colour}\n")).collect()
}

/// The cube's faces as lines, with `uv` behind each corner.
pub fn obj_faces(uv: &str) -> String {
    CUBE.map(|[a, b, c]| format!("f {}{uv} {}{uv} {}{uv}\n", a + 1, b + 1, c + 1)).concat()
}

/// A picture of two texels, red left and blue right.
pub fn png() -> Vec<u8> {
    let image = image::RgbImage::from_raw(2, 1, vec![255, 0, 0, 0, 0, 255]).unwrap();
    let mut out = std::io::Cursor::new(Vec::new());
    image.write_to(&mut out, image::ImageFormat::Png).unwrap();
    out.into_inner()
}

/// Bytes of a glTF buffer: the cube's 8 corners, 8 texture coordinates that all meet the blue texel, 36 indices.
pub fn gltf_buffer() -> Vec<u8> {
    let mut out: Vec<u8> = (0..8).flat_map(|i| f32_bytes(&corner(i))).collect();
    (0..8).for_each(|_| out.extend(f32_bytes(&[0.75, 0.5])));
    CUBE.iter().flatten().for_each(|&i| out.extend((i as u16).to_le_bytes()));
    out
}

/// The description: a cube, moved and scaled by two nodes, with `material`, `image` and `buffer` as given.
pub fn gltf_text(material: &str, image: &str, buffer: &str, more_views: &str) -> String {
    format!(
        r#"{{"asset":{{"version":"2.0"}},"scene":0,"scenes":[{{"nodes":[0]}}],
        "nodes":[{{"children":[1],"translation":[10,0,0]}},{{"mesh":0,"scale":[2,1,1],"rotation":[0,0,0.70710678,0.70710678]}}],
        "meshes":[{{"primitives":[{{"attributes":{{"POSITION":0,"TEXCOORD_0":1}},"indices":2,"material":0}}]}}],
        "accessors":[{{"bufferView":0,"componentType":5126,"count":8,"type":"VEC3"}},
            {{"bufferView":1,"componentType":5126,"count":8,"type":"VEC2"}},
            {{"bufferView":2,"componentType":5123,"count":36,"type":"SCALAR"}}],
        "bufferViews":[{{"buffer":0,"byteLength":96}},{{"buffer":0,"byteOffset":96,"byteLength":64}},
            {{"buffer":0,"byteOffset":160,"byteLength":72}}{more_views}],
        "materials":[{material}],"textures":[{{"source":0}}],"images":[{image}],"buffers":[{buffer}]}}"#
    )
}

/// The cube with its picture inside, as one binary file.
pub fn glb(material: &str) -> Vec<u8> {
    let mut blob = gltf_buffer();
    let picture = png();
    blob.extend(&picture);
    let view = format!(r#",{{"buffer":0,"byteOffset":232,"byteLength":{}}}"#, picture.len());
    let image = r#"{"bufferView":3,"mimeType":"image/png"}"#;
    let mut text = gltf_text(material, image, &format!(r#"{{"byteLength":{}}}"#, blob.len()), &view).into_bytes();
    text.resize(text.len().next_multiple_of(4), b' ');
    blob.resize(blob.len().next_multiple_of(4), 0);
    let mut out = b"glTF".to_vec();
    out.extend(2u32.to_le_bytes());
    out.extend((28 + text.len() as u32 + blob.len() as u32).to_le_bytes());
    for (kind, chunk) in [(b"JSON", text), (b"BIN\0", blob)] {
        out.extend((chunk.len() as u32).to_le_bytes());
        out.extend(kind);
        out.extend(chunk);
    }
    out
}
