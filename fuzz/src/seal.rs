//! How does a fuzzer get behind a bundle's hash? Its input is a manifest, a NUL byte and images; the header is made here.

use enel_bundle::FORMAT_VERSION;
use sha2::{Digest, Sha256};

const HEADER_BYTES: usize = 60;

/// A bundle file around `input`.
pub fn seal(input: &[u8]) -> Vec<u8> {
    let [manifest, images] = crate::parts(input);
    let file_bytes = HEADER_BYTES + manifest.len() + images.len();
    let sizes = [file_bytes as u64, manifest.len() as u64].map(u64::to_le_bytes).concat();
    let hashed = [&sizes, manifest, images].concat();
    [b"ENELBNDL", &FORMAT_VERSION.to_le_bytes()[..], &Sha256::digest(&hashed), &hashed].concat()
}

/// The input that [`seal`] makes this file of.
pub fn unseal(file: &[u8]) -> Vec<u8> {
    let (header, body) = file.split_at(HEADER_BYTES);
    let n_manifest = u64::from_le_bytes(header[52..].try_into().expect("eight bytes")) as usize;
    [&body[..n_manifest], &[0], &body[n_manifest..]].concat()
}
