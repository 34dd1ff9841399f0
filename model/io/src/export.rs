//! How is a cloud written? As `.npy` for programs, as binary `.ply` for viewers.

use std::io;
use std::path::Path;

use crate::cloud::Cloud;
use crate::npy::{NpyArray, NpyData};
use crate::write_atomic;

impl Cloud {
    /// `f32[points, 6]`, or `f32[points, 3]` without colours.
    pub fn to_array(&self) -> NpyArray {
        let n_channels = if self.rgb.is_some() { 6 } else { 3 };
        let mut values = Vec::with_capacity(self.xyz.len() * n_channels);
        for (row, xyz) in self.xyz.iter().enumerate() {
            values.extend_from_slice(xyz);
            values.extend(self.rgb.iter().flat_map(|rgb| rgb[row]));
        }
        let array = NpyArray::new(vec![self.xyz.len(), n_channels], NpyData::F32(values));
        array.expect("a row of channels was pushed for each point")
    }

    /// Writes a binary `.ply` file, whole or not at all: three floats, and three bytes where there are colours.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_ply(&self, path: &Path) -> io::Result<()> {
        write_atomic(path, |out| {
            let mut header = format!("ply\nformat binary_little_endian 1.0\nelement vertex {}\n", self.xyz.len());
            let colours = self.rgb.as_ref().map_or(&[][..], |_| &["red", "green", "blue"]);
            header.extend(["x", "y", "z"].map(|name| format!("property float {name}\n")));
            header.extend(colours.iter().map(|name| format!("property uchar {name}\n")));
            header.push_str("end_header\n");
            out.write_all(header.as_bytes())?;
            for (row, xyz) in self.xyz.iter().enumerate() {
                for value in xyz {
                    out.write_all(&value.to_le_bytes())?;
                }
                if let Some(rgb) = &self.rgb {
                    out.write_all(&rgb[row].map(|value| (value * 255.0).round() as u8))?;
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_clouds_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let xyz = vec![[1.0, -2.5, 1e-3], [4.0, 5.0, 6.0]];
        for rgb in [None, Some(vec![[1.0, 0.0, 0.2], [0.0, 1.0, 0.4]])] {
            let cloud = Cloud { xyz: xyz.clone(), rgb };
            let (ply, npy) = (folder.path().join("a.ply"), folder.path().join("a.npy"));
            cloud.write_ply(&ply).unwrap();
            cloud.to_array().write(&npy).unwrap();
            assert_eq!(Cloud::load(&ply).unwrap(), cloud);
            assert_eq!(Cloud::load(&npy).unwrap(), cloud);
        }
    }
}
