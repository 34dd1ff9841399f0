//! Which paint does an `.mtl` file describe? Diffuse colours and their pictures; everything else is light.
//!
//! Law: nothing here fails; what is not understood is left out, since a mesh is of use without its colours.
//! **Source** Wavefront, "MTL material format", version 4.2.

use std::collections::HashMap;

use super::texture::{Texture, Wrap};
use super::{Blend, Material};
use crate::beside::{Beside, read_file};
use crate::note::Note;
use crate::words::{Line, Lines, number};

/// Bytes all textures of a mesh may take when decoded, and as many more for each byte of the files they come from.
/// Pictures of a few colours pack better than this, and are left out when they are large.
const BASE_BYTES: u64 = 32 << 20;
const MAX_RATIO: u64 = 64;

/// One `newmtl`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Described {
    pub(crate) colour: Option<[f32; 3]>,
    pub(crate) map: Option<Map>,
}

/// A picture and where its corners lie.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Map {
    pub(crate) file: String,
    pub(crate) scale: [f32; 2],
    pub(crate) offset: [f32; 2],
    pub(crate) is_clamped: bool,
}

/// Reads the materials of a file, by name.
pub(crate) fn parse(bytes: &[u8]) -> HashMap<String, Described> {
    let mut found = HashMap::new();
    let mut current: Option<&mut Described> = None;
    for line in Lines::new(bytes) {
        let mut words = line.words();
        let Some(keyword) = words.next() else { continue };
        match (keyword.to_ascii_lowercase().as_slice(), &mut current) {
            (b"newmtl", _) => current = Some(found.entry(after(line, 1)).or_insert_with(Described::default)),
            (b"kd", Some(material)) => material.colour = colour(words).or(material.colour),
            (b"map_kd", Some(material)) => material.map = map(line).or(material.map.take()),
            _ => {}
        }
    }
    found
}

/// The text after the first `n` words; names may hold spaces.
pub(crate) fn after(line: Line<'_>, n: usize) -> String {
    let mut rest = line.text;
    for _ in 0..n {
        let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        rest = rest[end..].trim_ascii_start();
    }
    String::from_utf8_lossy(rest).into_owned()
}

/// One number stands for three.
fn colour<'a>(words: impl Iterator<Item = &'a [u8]>) -> Option<[f32; 3]> {
    let values: Vec<f32> = words.map_while(number).take(3).map(|v| (v as f32).clamp(0.0, 1.0)).collect();
    let rgb = match values[..] {
        [grey] => [grey; 3],
        [r, g, b] => [r, g, b],
        _ => return None,
    };
    rgb.iter().all(|value| !value.is_nan()).then_some(rgb)
}

fn map(line: Line<'_>) -> Option<Map> {
    let words: Vec<&[u8]> = line.words().collect();
    let mut map = Map { file: String::new(), scale: [1.0; 2], offset: [0.0; 2], is_clamped: false };
    let mut at = 1;
    while let Some(option) = words.get(at).filter(|word| word.starts_with(b"-") && number(word).is_none()) {
        let numbers: Vec<f32> = words[at + 1..].iter().map_while(|w| number(w)).take(3).map(|v| v as f32).collect();
        let n_values = match *option {
            b"-o" | b"-s" | b"-t" => {
                let target = match *option {
                    b"-o" => Some(&mut map.offset),
                    b"-s" => Some(&mut map.scale),
                    _ => None,
                };
                if let Some(target) = target {
                    target.iter_mut().zip(&numbers).for_each(|(out, value)| *out = *value);
                }
                numbers.len()
            }
            b"-mm" => 2,
            b"-clamp" => {
                map.is_clamped = words.get(at + 1) == Some(&&b"on"[..]);
                1
            }
            _ => 1,
        };
        at += 1 + n_values;
    }
    map.file = after(line, at);
    (!map.file.is_empty()).then_some(map)
}

/// The bytes of a picture.
pub(crate) enum Picture {
    /// A part of what [`Pictures::new`] was told of.
    Part(Vec<u8>),
    /// A file of its own.
    Whole(Vec<u8>),
}

/// A picture a face asks for.
pub(crate) struct Wanted {
    /// What tells it from others.
    pub(crate) key: String,
    /// What the file calls it.
    pub(crate) name: String,
    pub(crate) wrap: [Wrap; 2],
}

/// Pictures that faces use, each decoded once.
#[derive(Debug)]
pub(crate) struct Pictures {
    pub(crate) textures: Vec<Texture>,
    rows: HashMap<(String, bool), Option<u32>>,
    /// Bytes of the files that pictures come from.
    file_bytes: u64,
    /// Bytes of decoded pictures.
    n_bytes: u64,
}

impl Pictures {
    /// None yet; some may be parts of buffers of `file_bytes`.
    pub(crate) fn new(file_bytes: usize) -> Self {
        Self { textures: Vec::new(), rows: HashMap::new(), file_bytes: file_bytes as u64, n_bytes: 0 }
    }

    /// The row of a decoded picture; a note where it cannot be used.
    pub(crate) fn row(
        &mut self,
        Wanted { key, name, wrap }: Wanted,
        read: impl FnOnce() -> Result<Picture, Note>,
        notes: &mut Vec<Note>,
    ) -> Option<u32> {
        let key = (key, wrap[0] == Wrap::Clamp);
        if let Some(row) = self.rows.get(&key) {
            return *row;
        }
        let broken = || Note::Texture { name: name.clone() };
        let texture = read().and_then(|picture| {
            let bytes = match picture {
                Picture::Part(bytes) => bytes,
                Picture::Whole(bytes) => {
                    self.file_bytes = self.file_bytes.saturating_add(bytes.len() as u64);
                    bytes
                }
            };
            let most = self.file_bytes.saturating_mul(MAX_RATIO).saturating_add(BASE_BYTES);
            Texture::decode(&bytes, wrap, most.saturating_sub(self.n_bytes)).ok_or_else(broken)
        });
        let row = match texture {
            Ok(texture) => {
                self.n_bytes = self.n_bytes.saturating_add(texture.n_bytes());
                self.textures.push(texture);
                Some(self.textures.len() as u32 - 1)
            }
            Err(note) => {
                notes.push(note);
                None
            }
        };
        self.rows.insert(key, row);
        row
    }
}

impl Described {
    /// The material, its picture read from beside the mesh.
    pub(crate) fn material(&self, beside: Beside<'_>, pictures: &mut Pictures, notes: &mut Vec<Note>) -> Material {
        let mut material = Material { colour: self.colour, blend: Blend::First, ..Material::plain(None) };
        let Some(map) = &self.map else { return material };
        let wrap = if map.is_clamped { Wrap::Clamp } else { Wrap::Repeat };
        let missing = || Note::Missing { name: map.file.clone() };
        let path = beside.find(&map.file).ok();
        // A file of several names is decoded once.
        let key = path.as_ref().map_or_else(|| map.file.clone(), |path| path.display().to_string());
        let read = || {
            let bytes = path.as_ref().and_then(|path| read_file(path).ok());
            bytes.map(Picture::Whole).ok_or_else(missing)
        };
        let wanted = Wanted { key, name: map.file.clone(), wrap: [wrap; 2] };
        material.texture = pictures.row(wanted, read, notes);
        // Rows of a picture run from the top, `v` from the bottom.
        let ([su, sv], [ou, ov]) = (map.scale, map.offset);
        material.place = [[su, 0.0, ou], [0.0, -sv, 1.0 - ov]];
        material
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_pictures_are_found() {
        let text = "Kd 9 9 9\nnewmtl old oak\nKa 0 0 0\nKd 0.5 0.25 2\nmap_Kd -s 2 3 1 -o 0.5 -clamp on my wood.png\n\
                    newmtl b\nKd 0.5\nmap_Kd -mm 0 1 b.jpg\nnewmtl c\nKd spectral file.rfl\nmap_Kd\n";
        let found = parse(text.as_bytes());
        let map = Map { file: "my wood.png".to_owned(), scale: [2.0, 3.0], offset: [0.5, 0.0], is_clamped: true };
        assert_eq!(found["old oak"], Described { colour: Some([0.5, 0.25, 1.0]), map: Some(map) });
        assert_eq!(found["b"].colour, Some([0.5; 3]));
        assert_eq!(found["b"].map.as_ref().unwrap().file, "b.jpg");
        assert_eq!(found["c"], Described::default());
    }
}
