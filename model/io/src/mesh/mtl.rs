//! Which paint does an `.mtl` file describe? Diffuse colours and their pictures; everything else is light.
//!
//! Law: nothing here fails; what is not understood is left out, since a mesh is of use without its colours.
//! **Source** Wavefront, "MTL material format", version 4.2.

use std::collections::HashMap;

use super::texture::{Texture, Wrap};
use super::{Blend, Material};
use crate::beside::Beside;
use crate::note::Note;
use crate::words::{Line, Lines, number};

/// Bytes all textures of a mesh may take when decoded.
const TEXTURE_BYTES: u64 = 1 << 30;

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

/// Pictures that faces use, each decoded once.
#[derive(Debug, Default)]
pub(crate) struct Pictures {
    pub(crate) textures: Vec<Texture>,
    rows: HashMap<(String, bool), Option<u32>>,
    n_bytes: u64,
}

impl Pictures {
    /// The row of a decoded picture, called `key` whenever it is asked for; a note where it cannot be used.
    pub(crate) fn row(
        &mut self,
        (key, wrap): (String, [Wrap; 2]),
        read: impl FnOnce() -> Result<Vec<u8>, Note>,
        notes: &mut Vec<Note>,
    ) -> Option<u32> {
        let key = (key, wrap[0] == Wrap::Clamp);
        if let Some(row) = self.rows.get(&key) {
            return *row;
        }
        let budget = TEXTURE_BYTES - self.n_bytes;
        let broken = || Note::Texture { name: key.0.clone() };
        let texture = read().and_then(|bytes| Texture::decode(&bytes, wrap, budget).ok_or_else(broken));
        let row = match texture {
            Ok(texture) => {
                self.n_bytes = (self.n_bytes + texture.n_bytes()).min(TEXTURE_BYTES);
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
        let read = || beside.read(&map.file).map_err(|_| Note::Missing { name: map.file.clone() });
        material.texture = pictures.row((map.file.clone(), [wrap; 2]), read, notes);
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
