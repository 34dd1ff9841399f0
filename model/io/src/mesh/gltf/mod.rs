//! Which surface does a `.glb` or `.gltf` file hold? Every mesh of its scene, where the scene puts it.
//!
//! Colour is base colour times texture times vertex colour, in linear light. Bones and shapes to morph into are left
//! at rest. Law: what is built is bounded by the bytes of the buffers, however often a scene repeats a mesh.
//! **Source** Khronos, "glTF 2.0 Specification", 2021, ISO/IEC 12113:2022.

mod accessor;
mod json;
mod scene;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

use crate::beside::{Beside, read_file};
use crate::cursor::Cursor;
use crate::fault::Fault;
use crate::mesh::Mesh;
use crate::note::Note;
use json::Root;

/// What begins a binary file.
pub(crate) const MAGIC: &[u8] = b"glTF";
/// Chunks of a binary file.
const JSON: u32 = 0x4e4f_534a;
const BIN: u32 = 0x004e_4942;
/// Extensions that change what an accessor or a picture is, and are not read.
const UNREAD: [&str; 5] = [
    "KHR_draco_mesh_compression",
    "EXT_meshopt_compression",
    "KHR_meshopt_compression",
    "EXT_mesh_gpu_instancing",
    "MSFT_lod",
];

/// Files beside, by their paths.
type Files<'a> = HashMap<PathBuf, Rc<Cow<'a, [u8]>>>;

/// A parsed file with its buffers.
struct Document<'a> {
    root: Root,
    /// Buffers that are one file share its bytes.
    buffers: Vec<Rc<Cow<'a, [u8]>>>,
    /// Bytes of all buffers, those that are shared counted once.
    n_bytes: usize,
    beside: Beside<'a>,
}

/// Reads a file of either form.
pub(crate) fn read<'a>(bytes: &'a [u8], beside: Beside<'a>, notes: &mut Vec<Note>) -> Result<Mesh, Fault> {
    let (text, blob) = if bytes.starts_with(MAGIC) { chunks(bytes)? } else { (bytes, None) };
    // Version 1 has tables where version 2 has lists, so the version is read first.
    let version = serde_json::from_slice::<json::Stamp>(text)?.asset.version;
    if version.split('.').next() != Some("2") {
        return Err(Fault::field("the glTF version", version, "2.x; convert it with a newer exporter"));
    }
    let root: Root = serde_json::from_slice(text)?;
    if let Some(name) = root.extensions_required.iter().find(|name| UNREAD.contains(&name.as_str())) {
        let advice = "export the file again without mesh compression or instancing";
        return Err(Fault::Unsupported { what: format!("the glTF extension {name}"), advice });
    }
    let mut buffers = Vec::with_capacity(root.buffers.len());
    let mut files = HashMap::new();
    let mut n_bytes = 0;
    for (row, buffer) in root.buffers.iter().enumerate() {
        let bytes = match (&buffer.uri, blob.filter(|_| row == 0)) {
            (Some(uri), _) => uri_bytes(uri, beside, &mut files)?,
            (None, Some(blob)) => Rc::new(blob.into()),
            (None, None) => {
                return Err(Fault::field("a glTF buffer's uri", "missing", "a file, data, or the .glb's bytes"));
            }
        };
        if (bytes.len() as u64) < buffer.byte_length {
            let (need_bytes, have_bytes) = (buffer.byte_length, bytes.len() as u64);
            return Err(Fault::Cut { what: "a glTF buffer", need_bytes, have_bytes });
        }
        // What `files` and this hold is there for the first time, unless it was found in `files`.
        n_bytes += if Rc::strong_count(&bytes) <= 2 { bytes.len() } else { 0 };
        buffers.push(bytes);
    }
    scene::mesh(&Document { root, buffers, n_bytes, beside }, notes)
}

/// The description and the bytes of a binary file.
fn chunks(bytes: &[u8]) -> Result<(&[u8], Option<&[u8]>), Fault> {
    let mut cursor = Cursor::new(&bytes[MAGIC.len()..], "the .glb header");
    let version = cursor.u32()?;
    if version != 2 {
        return Err(Fault::field("the .glb version", version, "2; convert it with a newer exporter"));
    }
    let _file_bytes = cursor.u32()?;
    let mut cursor = Cursor::new(cursor.rest(), "a chunk of the .glb file");
    let (n_bytes, kind) = (cursor.u32()?, cursor.u32()?);
    if kind != JSON {
        return Err(Fault::field("the first chunk of the .glb file", format!("{kind:#x}"), "JSON"));
    }
    let text = cursor.take(u64::from(n_bytes))?;
    while !cursor.rest().is_empty() {
        let (n_bytes, kind) = (cursor.u32()?, cursor.u32()?);
        let chunk = cursor.take(u64::from(n_bytes))?;
        if kind == BIN {
            return Ok((text, Some(chunk)));
        }
    }
    Ok((text, None))
}

/// Bytes inside the address itself, or of a file beside, which is read once.
fn uri_bytes<'a>(uri: &str, beside: Beside<'_>, files: &mut Files<'a>) -> Result<Rc<Cow<'a, [u8]>>, Fault> {
    if let Some(bytes) = data_bytes(uri)? {
        return Ok(Rc::new(bytes.into()));
    }
    let fault = |(path, source)| Fault::Beside { path, source };
    let path = beside.find(&percent_decoded(uri)).map_err(fault)?;
    if let Some(bytes) = files.get(&path) {
        return Ok(bytes.clone());
    }
    let bytes = read_file(&path).map_err(|source| fault((path.clone(), source)))?;
    let bytes: Rc<Cow<'a, [u8]>> = Rc::new(bytes.into());
    files.insert(path, bytes.clone());
    Ok(bytes)
}

/// Bytes inside the address itself; `None` for that of a file.
fn data_bytes(uri: &str) -> Result<Option<Vec<u8>>, Fault> {
    let Some(data) = uri.strip_prefix("data:") else { return Ok(None) };
    let broken = || Fault::field("a data: address", crate::fault::shown(uri.as_bytes()), "base64 after a comma");
    let (kind, text) = data.split_once(',').ok_or_else(broken)?;
    if !kind.ends_with(";base64") {
        return Ok(Some(percent_decoded(text).into_bytes()));
    }
    base64(text.as_bytes()).map(Some).ok_or_else(broken)
}

/// **Source** RFC 3986, section 2.1.
fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'%').then(|| after.get(..2)).flatten();
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        out.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// **Source** RFC 4648, section 4; the padding may be missing.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut n_bits) = (0u32, 0);
    for &byte in text.trim_ascii_end().iter().filter(|&&byte| byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        n_bits += 6;
        if n_bits >= 8 {
            n_bits -= 8;
            out.push((bits >> n_bits) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_decoded() {
        assert_eq!(percent_decoded("my%20wood%2.bin%"), "my wood%2.bin%");
        assert_eq!(base64(b"Zm9vYmE=").unwrap(), b"fooba");
        assert_eq!(base64(b"Zm9vYg").unwrap(), b"foob");
        assert_eq!(base64(b"Zm9v\x00"), None);
    }
}
