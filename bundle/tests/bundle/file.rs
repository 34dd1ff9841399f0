//! Bundles on disk: what is written comes back, and nothing else is accepted.

use crate::sample;
use enel_bundle::{Bundle, BundleError, BundleFault, FORMAT_VERSION, layout};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

#[test]
fn a_bundle_comes_back_and_its_bytes_repeat() {
    let bundle = sample::bundle();
    let bytes = bundle.to_bytes().unwrap();
    assert_eq!(Bundle::from_bytes(&bytes).unwrap(), bundle);
    assert_eq!(Bundle::from_bytes(&bytes).unwrap().to_bytes().unwrap(), bytes);
}

#[test]
fn a_file_is_replaced_whole_and_nothing_stays_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.enel");
    std::fs::write(&path, b"something older and longer than nothing").unwrap();
    sample::bundle().write(&path).unwrap();
    assert_eq!(Bundle::read(&path).unwrap(), sample::bundle());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    let mut broken = sample::bundle();
    broken.plans[0].steps.clear();
    let kept = std::fs::read(&path).unwrap();
    assert!(matches!(broken.write(&path), Err(BundleError::Inconsistent(_))));
    assert_eq!(std::fs::read(&path).unwrap(), kept);
    let missing = folder.path().join("none").join("a.enel");
    assert!(matches!(broken_path(&missing), BundleError::Io { verb: "write", .. }));
    assert!(matches!(Bundle::read(&missing), Err(BundleError::Io { verb: "read", .. })));
    assert!(matches!(Bundle::read(folder.path()), Err(BundleError::Io { .. })), "a folder");
}

fn broken_path(path: &std::path::Path) -> BundleError {
    sample::bundle().write(path).unwrap_err()
}

#[test]
fn each_kind_of_damage_has_its_own_error() {
    let bytes = sample::bundle().to_bytes().unwrap();
    assert!(matches!(Bundle::from_bytes(b""), Err(BundleError::NotABundle)));
    assert!(matches!(Bundle::from_bytes(b"PK\x03\x04zip"), Err(BundleError::NotABundle)));
    assert!(matches!(Bundle::from_bytes(&bytes[..30]), Err(BundleError::Cut { .. })));
    let cut = Bundle::from_bytes(&bytes[..bytes.len() - 1]);
    assert!(matches!(cut, Err(BundleError::Cut { expected, got }) if expected == got + 1));
    let mut newer = bytes.clone();
    newer[8] = FORMAT_VERSION as u8 + 1;
    assert!(matches!(Bundle::from_bytes(&newer), Err(BundleError::Newer { found }) if found == FORMAT_VERSION + 1));
    let longer = [bytes.as_slice(), b"x"].concat();
    assert!(matches!(Bundle::from_bytes(&longer), Err(BundleError::Altered)));
}

#[test]
fn a_manifest_that_does_not_fit_its_images_is_refused() {
    let bytes = sample::bundle().to_bytes().unwrap();
    let listed = replace(&bytes, "\"size_bytes\":5", "\"size_bytes\":9").unwrap();
    assert!(matches!(Bundle::from_bytes(&listed), Err(BundleError::Images { listed: 21, held: 17 })));
    let huge = replace(&bytes, "\"size_bytes\":5", "\"size_bytes\":18446744073709551615").unwrap();
    assert!(matches!(Bundle::from_bytes(&huge), Err(BundleError::Images { .. })));
    let kernel = replace(&bytes, "\"images\":[{\"kernel\":0", "\"images\":[{\"kernel\":7").unwrap();
    let Err(BundleError::Inconsistent(faults)) = Bundle::from_bytes(&kernel) else { panic!("accepted") };
    assert_eq!(faults, [BundleFault::Image { image: 0, kernel: 7, kernels: 2 }]);
}

#[test]
fn plans_must_agree_on_what_they_share() {
    let mut bundle = sample::bundle();
    let mut other = sample::plan();
    bundle.plans.push(other.clone());
    assert_eq!(bundle.check().unwrap_err(), [BundleFault::Duplicate { what: "plan", name: "prefill".into() }]);
    other.name = "decode".into();
    other.buffers[5].shape.push(enel_types::Dim::constant(1));
    bundle.plans[1] = other;
    assert_eq!(bundle.check().unwrap_err(), [BundleFault::Disagree { what: "state", name: "count".into() }]);
}

/// The file with its manifest rewritten and every length and hash made right again.
fn sealed(bytes: &[u8], edit: impl Fn(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let size = u64::from_le_bytes(bytes[52..60].try_into().unwrap()) as usize;
    let manifest = edit(bytes[60..60 + size].to_vec());
    let blobs = &bytes[60 + size..];
    let mut out = bytes[..44].to_vec();
    out.extend(((60 + manifest.len() + blobs.len()) as u64).to_le_bytes());
    out.extend((manifest.len() as u64).to_le_bytes());
    out.extend(&manifest);
    out.extend(blobs);
    let hash = Sha256::digest(&out[44..]);
    out[12..44].copy_from_slice(&hash);
    out
}

fn replace(bytes: &[u8], from: &str, to: &str) -> Option<Vec<u8>> {
    let found = std::cell::Cell::new(false);
    let out = sealed(bytes, |manifest| {
        let text = String::from_utf8(manifest).unwrap();
        found.set(text.contains(from));
        text.replacen(from, to, 1).into_bytes()
    });
    found.get().then_some(out)
}

/// Byte ranges of the numbers in a manifest.
fn numbers(text: &[u8]) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let len = text[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        if len > 0 {
            out.push((at, at + len));
        }
        at += len.max(1);
    }
    out
}

proptest! {
    #[test]
    fn any_flipped_byte_is_noticed(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut bytes = sample::bundle().to_bytes().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(Bundle::from_bytes(&bytes).is_err());
    }

    #[test]
    fn any_cut_is_noticed(at in any::<prop::sample::Index>()) {
        let bytes = sample::bundle().to_bytes().unwrap();
        prop_assert!(Bundle::from_bytes(&bytes[..at.index(bytes.len())]).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), prefix in 0usize..=60) {
        let good = sample::bundle().to_bytes().unwrap();
        let bytes = [&good[..prefix], &bytes[..]].concat();
        prop_assert!(Bundle::from_bytes(&bytes).is_err());
    }

    /// The hash protects against accidents, not against an author: what it seals is checked all the same.
    #[test]
    fn a_sealed_manifest_with_any_numbers_never_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            0i64..10, Just(-1), Just(i64::MAX), Just(1i64 << 32), Just(1i64 << 40)]), 1..4),
    ) {
        let bytes = sealed(&sample::bundle().to_bytes().unwrap(), |mut text| {
            for (at, value) in &edits {
                let places = numbers(&text);
                let (start, end) = places[at.index(places.len())];
                text.splice(start..end, value.to_string().into_bytes());
            }
            text
        });
        if let Ok(bundle) = Bundle::from_bytes(&bytes) {
            for plan in &bundle.plans {
                let _ = plan.to_string();
                let _ = layout(plan, &vec![3; plan.symbols.len()]);
            }
            for kernel in &bundle.kernels {
                let _ = kernel.to_string();
                let dynamics: Vec<i64> = kernel.dynamics().map(|d| d.max).collect();
                for (desc, own) in kernel.descs().zip(kernel.split_dynamics(&dynamics)) {
                    let _ = enel_bundle::flops(desc, own);
                }
                let _ = kernel.launch.as_ref().map(|l| l.blocks(&dynamics));
            }
        }
    }
}
