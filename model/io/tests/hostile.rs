//! Do broken files of every format end in an error, without a panic, a hang or a great allocation?

mod files;

use std::path::Path;

use enel_io::Cloud;
use files::*;
use proptest::prelude::*;

/// A good file of every format, with a name.
fn good() -> Vec<(&'static str, Vec<u8>)> {
    let points = npy("<f4", "(2, 3)", &f32_bytes(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let colours = npy("|u1", "(2, 3)", &[255, 0, 51, 1, 0, 0]);
    let pcd =
        "VERSION .7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\nWIDTH 1\nHEIGHT 1\nPOINTS 1\nDATA ";
    let mut pcd_bytes = format!("{pcd}binary\n").into_bytes();
    pcd_bytes.extend([1; 16]);
    let mut pcd_packed = format!("{pcd}binary_compressed\n").into_bytes();
    pcd_packed.extend(6u32.to_le_bytes());
    pcd_packed.extend(16u32.to_le_bytes());
    pcd_packed.extend([1, 1, 1, 7 << 5, 5, 1]);
    let ply = "element vertex 3\nproperty float x\nproperty float y\nproperty float z\nproperty uchar red\n\
               property uchar green\nproperty uchar blue\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n";
    let ply_text = format!("ply\nformat ascii 1.0\n{ply}0 0 0 1 2 3\n1 0 0 1 2 3\n0 1 0 1 2 3\n3 0 1 2\n");
    let mut ply_bytes = format!("ply\nformat binary_little_endian 1.0\n{ply}").into_bytes();
    for xyz in [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]] {
        ply_bytes.extend(f32_bytes(&xyz));
        ply_bytes.extend([9, 8, 7]);
    }
    ply_bytes.push(3);
    (0..3i32).for_each(|i| ply_bytes.extend(i.to_le_bytes()));
    let material = r#"{"pbrMetallicRoughness":{"baseColorTexture":{"index":0},"baseColorFactor":[1,1,1,1]}}"#;
    vec![
        ("a.npy", points.clone()),
        ("a.npz", npz(&[("xyz", points.clone()), ("rgb", colours.clone())], false)),
        ("b.npz", npz(&[("xyz", points), ("rgb", colours)], true)),
        ("a.ply", ply_text.into_bytes()),
        ("b.ply", ply_bytes),
        ("a.pcd", format!("{pcd}ascii\n1 2 3 255\n").into_bytes()),
        ("b.pcd", pcd_bytes),
        ("c.pcd", pcd_packed),
        ("a.xyz", b"# x y z r g b\n1 2 3 4 5 6\n-1 2e3 3 4 5 6\n".to_vec()),
        ("a.las", las(2, 3, false)),
        ("b.las", las(4, 7, false)),
        ("a.obj", format!("{}vt 0 1\nusemtl a\n{}", obj_vertices(" 1 0 0"), obj_faces("/1")).into_bytes()),
        ("a.stl", stl(b"COLOR=abcd", 7)),
        ("b.stl", stl_text().into_bytes()),
        ("a.off", off("COFF\n", " 1 2 3 4", " 5 6 7").into_bytes()),
        ("a.glb", glb(material)),
    ]
}

fn load(bytes: &[u8], name: &str) -> bool {
    match Cloud::from_bytes(bytes, Path::new(name)) {
        Ok(cloud) => {
            assert!(!cloud.xyz.is_empty() && cloud.xyz.as_flattened().iter().all(|v| v.is_finite()), "{name}");
            assert!(cloud.rgb.is_none_or(|rgb| rgb.as_flattened().iter().all(|c| (0.0..=1.0).contains(c))), "{name}");
            true
        }
        Err(error) => {
            assert!(error.to_string().contains(name), "{error}");
            false
        }
    }
}

#[test]
fn good_files_are_good() {
    for (name, bytes) in good() {
        assert!(load(&bytes, name), "{name}: {:?}", Cloud::from_bytes(&bytes, Path::new(name)));
    }
}

#[test]
fn no_prefix_of_a_file_does_harm() {
    for (name, bytes) in good() {
        // What a text says is whole at the end of many of its lines; bytes are not, but for the last few.
        let step = (bytes.len() / 300).max(1);
        for n in (0..bytes.len()).step_by(step) {
            load(&bytes[..n], name);
        }
        let is_binary = ["a.npy", "b.ply", "b.pcd", "c.pcd", "a.las", "b.las", "a.stl"].contains(&name);
        assert!(!is_binary || !load(&bytes[..bytes.len() - 1], name), "{name} is whole without its last byte");
    }
}

/// Numbers that tempt readers into allocating or overflowing.
const TEMPTING: [&str; 6] = ["4294967295", "18446744073709551615", "-1", "99999999999999999999999", "1e308", "nan"];

proptest! {
    #[test]
    fn altered_bytes_do_no_harm(which in 0usize..16, at in any::<prop::sample::Index>(), bits in 1u8.., n in 1usize..5) {
        let (name, mut bytes) = good().swap_remove(which);
        let at = at.index(bytes.len());
        let end = (at + n).min(bytes.len());
        bytes[at..end].iter_mut().for_each(|byte| *byte ^= bits);
        load(&bytes, name);
    }

    #[test]
    fn tempting_numbers_do_no_harm(which in 0usize..16, word in any::<prop::sample::Index>(), number in 0usize..6) {
        let (name, bytes) = good().swap_remove(which);
        // Any run of digits of a text, or of the text inside a binary file.
        let starts: Vec<usize> = (0..bytes.len())
            .filter(|&i| bytes[i].is_ascii_digit() && (i == 0 || !bytes[i - 1].is_ascii_digit()))
            .collect();
        if starts.is_empty() {
            return Ok(());
        }
        let start = starts[word.index(starts.len())];
        let len = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let mut changed = bytes;
        changed.splice(start..start + len, TEMPTING[number].bytes());
        load(&changed, name);
    }

    #[test]
    fn full_numbers_in_headers_do_no_harm(which in 0usize..16, at in any::<prop::sample::Index>(), wide in any::<bool>()) {
        let (name, mut bytes) = good().swap_remove(which);
        let at = at.index(bytes.len());
        let end = (at + if wide { 8 } else { 4 }).min(bytes.len());
        bytes[at..end].fill(0xff);
        load(&bytes, name);
    }

    #[test]
    fn any_bytes_under_any_name_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300), which in 0usize..16) {
        let (name, good) = good().swap_remove(which);
        load(&bytes, name);
        let mut marked = good[..good.len().min(12)].to_vec();
        marked.extend(bytes);
        load(&marked, name);
    }

    #[test]
    fn any_text_under_any_name_does_no_harm(text in "[0-9 .\\-\n,#vft/eOF{}\":]{0,200}", which in 0usize..16) {
        let (name, _) = good().swap_remove(which);
        load(text.as_bytes(), name);
    }
}
