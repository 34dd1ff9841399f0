//! Are the recorded normalisations reproduced, and would a wrong one be seen?

use std::path::{Path, PathBuf};

use enel_io::golden::{Outcome, check_pc_norm};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

#[test]
fn recorded_normalisations_are_reproduced() {
    let rows = check_pc_norm(&fixtures()).unwrap();
    assert_eq!(rows.len(), 6);
    for row in &rows {
        println!("{} {:.2e} of {:.0e}", row.name, row.rel_l2, row.tolerance);
        assert_eq!(row.outcome, Outcome::Ok, "{row:?}");
    }
    // Only the small cloud far from the origin is allowed more.
    let loose: Vec<&str> = rows.iter().filter(|row| row.tolerance > 2e-7).map(|row| row.name.as_str()).collect();
    assert_eq!(loose, ["2.out"]);
}

#[test]
fn another_value_or_colour_fails_its_row() {
    for (tensor, byte) in [("3.out", 2), ("4.out", 4 * 3 + 2)] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(fixtures().join("j_pc_norm.json"), dir.path().join("j_x.json")).unwrap();
        let weights = enel_io::Weights::open(&fixtures().join("j_pc_norm.safetensors")).unwrap();
        let mut tensors = Vec::new();
        for name in weights.names() {
            let view = weights.view(name).unwrap();
            let mut bytes = view.bytes.to_vec();
            if name == tensor {
                bytes[byte] ^= 0x40;
            }
            tensors.push((name, view.dtype, view.shape, bytes));
        }
        let views = tensors
            .iter()
            .map(|(name, dtype, shape, bytes)| (*name, enel_io::TensorView { dtype: *dtype, shape, bytes }));
        enel_io::write_safetensors(&dir.path().join("j_x.safetensors"), views).unwrap();
        let rows = check_pc_norm(dir.path()).unwrap();
        let failed: Vec<&str> =
            rows.iter().filter(|row| row.outcome != Outcome::Ok).map(|row| row.name.as_str()).collect();
        assert_eq!(failed, [tensor]);
    }
}
