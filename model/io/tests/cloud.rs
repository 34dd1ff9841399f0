//! Do whole files become clouds, and do faulty ones say what is wrong?

use std::path::Path;

use enel_io::npy::{NpyArray, NpyData};
use enel_io::{Cloud, CloudError};
use proptest::prelude::*;

fn npy(shape: &[usize], values: &[f32]) -> Vec<u8> {
    NpyArray::new(shape.to_vec(), NpyData::F32(values.to_vec())).expect("the shape fits").to_bytes()
}

fn load(bytes: &[u8]) -> Result<Cloud, CloudError> {
    Cloud::from_bytes(bytes, Path::new("some/cloud"))
}

/// An error and its causes, as the commands print them.
fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", chain(source)))
}

#[test]
fn arrays_of_three_and_six_columns_are_clouds() {
    let plain = load(&npy(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])).unwrap();
    assert_eq!(plain, Cloud { xyz: vec![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], rgb: None });
    let coloured = load(&npy(&[1, 6], &[1.0, 2.0, 3.0, 0.0, 0.5, 1.0])).unwrap();
    assert_eq!(coloured.rgb, Some(vec![[0.0, 0.5, 1.0]]));
}

#[test]
fn colours_up_to_255_are_scaled_and_a_hair_above_one_is_one() {
    let wide = load(&npy(&[2, 6], &[0.0, 0.0, 0.0, 0.0, 51.0, 255.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0])).unwrap();
    assert_eq!(wide.rgb, Some(vec![[0.0, 0.2, 1.0], [1.0 / 255.0, 0.0, 0.0]]));
    let hair = load(&npy(&[1, 6], &[0.0, 0.0, 0.0, 0.5, 1.0001, 0.0])).unwrap();
    assert_eq!(hair.rgb, Some(vec![[0.5, 1.0, 0.0]]));
}

#[test]
fn ply_bytes_are_of_255_whatever_their_values() {
    let header = "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\n";
    let colour =
        |ty: &str| format!("property {ty} red\nproperty {ty} green\nproperty {ty} blue\nend_header\n0 0 0 1 0 1\n");
    let bytes = load(format!("{header}{}", colour("uchar")).as_bytes()).unwrap();
    assert_eq!(bytes.rgb, Some(vec![[1.0 / 255.0, 0.0, 1.0 / 255.0]]));
    let floats = load(format!("{header}{}", colour("float")).as_bytes()).unwrap();
    assert_eq!(floats.rgb, Some(vec![[1.0, 0.0, 1.0]]));
}

#[test]
fn faults_name_the_file_and_the_point() {
    let rows = [
        (npy(&[0, 3], &[]), "holds no points"),
        (npy(&[2, 4], &[0.0; 8]), "[2, 4], expected [points, 3]"),
        (npy(&[6], &[0.0; 6]), "[points, 3] or [points, 6]"),
        (npy(&[2, 3], &[0.0, 0.0, 0.0, 0.0, f32::NAN, 0.0]), "point 1"),
        (npy(&[1, 3], &[0.0, 0.0, f32::INFINITY]), "z = inf"),
        (npy(&[1, 6], &[0.0, 0.0, 0.0, 0.0, -0.1, 0.0]), "green = -0.1"),
        (npy(&[1, 6], &[0.0, 0.0, 0.0, 300.0, 0.0, 0.0]), "red = 300"),
        (npy(&[1, 6], &[0.0, 0.0, 0.0, 0.0, 0.0, f32::NAN]), "blue = NaN"),
        (b"solid thing".to_vec(), "it begins with `solid th`"),
        (b"<?xml version".to_vec(), "export it as .glb or .obj"),
        (Vec::new(), "it is empty"),
    ];
    for (bytes, part) in rows {
        let text = chain(&load(&bytes).unwrap_err());
        assert!(text.contains(part) && text.contains("some/cloud"), "{text}");
    }
    let missing = Cloud::load(Path::new("no/such/file.npy")).unwrap_err().to_string();
    assert!(missing.contains("no/such/file.npy"));
}

#[test]
fn the_samples_of_the_repository_are_clouds() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples");
    let mut n_samples = 0;
    for entry in std::fs::read_dir(&samples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ext| ext != "ply") {
            continue;
        }
        n_samples += 1;
        let cloud = Cloud::load(&path).unwrap();
        assert_eq!(cloud.xyz.len(), 8192, "{}", path.display());
        let rgb = cloud.rgb.expect("samples are coloured");
        assert!(rgb.iter().any(|c| c != &rgb[0]), "{} has one colour only", path.display());
    }
    assert!((6..=8).contains(&n_samples), "{n_samples}");
}

proptest! {
    #[test]
    fn any_bytes_give_a_cloud_or_an_error(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..3) {
        let magic: &[u8] = [&b"\x93NUMPY\x01\x00"[..], &b"ply\nformat ascii 1.0\n"[..], &b""[..]][kind as usize];
        bytes.splice(0..0, magic.iter().copied());
        if let Ok(cloud) = load(&bytes) {
            prop_assert!(!cloud.xyz.is_empty());
        }
    }

    #[test]
    fn loaded_colours_lie_between_zero_and_one(values in proptest::collection::vec(-1.0f32..300.0, 6..60)) {
        let n = values.len() / 6;
        if let Ok(cloud) = load(&npy(&[n, 6], &values[..6 * n])) {
            let rgb = cloud.rgb.unwrap_or_default();
            prop_assert!(rgb.as_flattened().iter().all(|c| (0.0..=1.0).contains(c)));
        }
    }
}
