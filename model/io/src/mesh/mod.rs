//! What is a surface with colours? Triangles over vertices, each with a material.
//!
//! Readers (`obj`, `stl`, `off`, `gltf`, and `ply` beside) build a [`Mesh`]; `sample` draws points from it.
//! Law: a [`Mesh`] is checked when it is made, so that sampling never looks outside.

pub(crate) mod gltf;
pub(crate) mod mtl;
pub(crate) mod obj;
pub(crate) mod off;
pub(crate) mod sample;
pub(crate) mod stl;
pub(crate) mod texture;

use std::collections::HashMap;

use crate::cloud::Cloud;
use crate::fault::Fault;
use texture::Texture;

/// A flat piece of surface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Triangle {
    pub(crate) vertices: [u32; 3],
    /// Rows of [`Mesh::uvs`]; row 0 stands for none.
    pub(crate) uvs: [u32; 3],
    /// Row of [`Mesh::materials`]; row 0 is that of faces without one.
    pub(crate) material: u32,
}

/// How colours of vertices, of the material and of its texture become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blend {
    /// The first there is of texture, vertex colour, material colour, as they are.
    First,
    /// Their product in linear light; the texture is sRGB, the others are linear.
    Product,
}

/// Paint of a face.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Material {
    /// None where the file says nothing.
    pub(crate) colour: Option<[f32; 3]>,
    pub(crate) blend: Blend,
    /// Row of [`Mesh::textures`].
    pub(crate) texture: Option<u32>,
    /// Rows that take `(u, v, 1)` to the place in the texture.
    pub(crate) place: [[f32; 3]; 2],
}

impl Material {
    pub(crate) fn plain(colour: Option<[f32; 3]>) -> Self {
        Self { colour, blend: Blend::First, texture: None, place: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]] }
    }
}

/// Triangles that only name what there is.
#[derive(Clone, Debug)]
pub(crate) struct Mesh {
    vertices: Cloud,
    uvs: Vec<[f32; 2]>,
    triangles: Vec<Triangle>,
    materials: Vec<Material>,
    textures: Vec<Texture>,
}

impl Mesh {
    /// `uvs[0]` and `materials[0]` stand for none; they are added where missing.
    pub(crate) fn new(
        vertices: Cloud,
        mut uvs: Vec<[f32; 2]>,
        triangles: Vec<Triangle>,
        (mut materials, textures): (Vec<Material>, Vec<Texture>),
    ) -> Result<Self, Fault> {
        if uvs.is_empty() {
            uvs.push([0.0; 2]);
        }
        if materials.is_empty() {
            materials.push(Material::plain(None));
        }
        for (face, triangle) in triangles.iter().enumerate() {
            let outside = |indices: &[u32], count: usize| indices.iter().copied().find(|&i| i as usize >= count);
            let fault = |what, index, count| Fault::Index { face: face as u64, what, index: i64::from(index), count };
            if let Some(index) = outside(&triangle.vertices, vertices.xyz.len()) {
                return Err(fault("vertex", index, vertices.xyz.len()));
            }
            if let Some(index) = outside(&triangle.uvs, uvs.len()) {
                return Err(fault("texture coordinate", index, uvs.len()));
            }
            if let Some(index) = outside(&[triangle.material], materials.len()) {
                return Err(fault("material", index, materials.len()));
            }
        }
        for material in &mut materials {
            material.texture = material.texture.filter(|&row| (row as usize) < textures.len());
        }
        Ok(Self { vertices, uvs, triangles, materials, textures })
    }

    pub(crate) fn n_triangles(&self) -> usize {
        self.triangles.len()
    }

    pub(crate) fn n_vertices(&self) -> usize {
        self.vertices.xyz.len()
    }

    /// The corners alone.
    pub(crate) fn into_vertices(self) -> Cloud {
        self.vertices
    }
}

/// Materials of faces that have a colour of their own: one for each colour.
#[derive(Debug)]
pub(crate) struct FaceColours {
    pub(crate) materials: Vec<Material>,
    rows: HashMap<[u32; 3], u32>,
}

impl FaceColours {
    pub(crate) fn new() -> Self {
        Self { materials: vec![Material::plain(None)], rows: HashMap::new() }
    }

    /// The row of a colour from 0 to 1.
    pub(crate) fn row(&mut self, rgb: [f32; 3]) -> u32 {
        let next = self.materials.len() as u32;
        let row = *self.rows.entry(rgb.map(f32::to_bits)).or_insert(next);
        if row == next {
            self.materials.push(Material::plain(Some(rgb)));
        }
        row
    }
}

/// Corners of a polygon as a fan of triangles around the first.
pub(crate) fn fan<T: Copy>(corners: &[T]) -> impl Iterator<Item = [T; 3]> {
    corners.windows(2).skip(1).map(|pair| [corners[0], pair[0], pair[1]])
}
