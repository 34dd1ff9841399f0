//! Where does a glTF scene put its meshes, and how are they painted?

use std::collections::BTreeMap;

use super::accessor::at;
use super::json::{Node, Paint, Primitive, TextureUse};
use super::{Document, data_bytes, percent_decoded};
use crate::beside::read_file;
use crate::collect::{Collector, ColourScale, Layout};
use crate::fault::Fault;
use crate::mesh::mtl::{Picture, Pictures, Wanted};
use crate::mesh::texture::Wrap;
use crate::mesh::{Blend, Material, Mesh, Triangle};
use crate::note::Note;

/// Vertices and triangles a small file may have built, some 50 MB; a larger one as many as it has bytes.
const MIN_LIMIT: usize = 1 << 19;
/// Modes of a primitive.
const POINTS: u32 = 0;
const TRIANGLES: u32 = 4;
const STRIP: u32 = 5;
const FAN: u32 = 6;

/// Rows of a matrix that takes `(x, y, z, 1)` to a place.
type Affine = [[f64; 4]; 3];

const IDENTITY: Affine = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]];

/// What has been built so far.
struct Builder<'a> {
    document: &'a Document<'a>,
    notes: &'a mut Vec<Note>,
    limit: usize,
    vertices: Vec<[f64; 3]>,
    /// Linear light; as long as `vertices` once any primitive has colours.
    colours: Vec<[f32; 3]>,
    uvs: Vec<[f32; 2]>,
    triangles: Vec<Triangle>,
    /// Rows of `materials` for rows of the description.
    rows: BTreeMap<usize, u32>,
    materials: Vec<Material>,
    pictures: Pictures,
}

/// All meshes of the scene as one.
pub(super) fn mesh(document: &Document<'_>, notes: &mut Vec<Note>) -> Result<Mesh, Fault> {
    let default = Material { blend: Blend::Product, ..Material::plain(None) };
    let mut builder = Builder {
        document,
        notes,
        limit: document.n_bytes.max(MIN_LIMIT),
        vertices: Vec::new(),
        colours: Vec::new(),
        uvs: vec![[0.0; 2]],
        triangles: Vec::new(),
        rows: BTreeMap::new(),
        materials: vec![default],
        pictures: Pictures::new(document.n_bytes),
    };
    builder.walk()?;
    builder.finish()
}

impl Builder<'_> {
    /// Every node once, parents first; a scene is a tree by the format's words, and what is not is refused.
    fn walk(&mut self) -> Result<(), Fault> {
        let root = &self.document.root;
        let mut open: Vec<(usize, Affine)> = roots(self.document)?.into_iter().map(|node| (node, IDENTITY)).collect();
        let mut is_seen = vec![false; root.nodes.len()];
        while let Some((row, parent)) = open.pop() {
            let node = at(&root.nodes, row, "node")?;
            if std::mem::replace(&mut is_seen[row], true) {
                return Err(Fault::field("the place of a glTF node", row, "below one other node only"));
            }
            let place = product(&parent, &local(node));
            if let Some(mesh) = node.mesh {
                if node.skin.is_some() && !self.notes.contains(&Note::Skin) {
                    self.notes.push(Note::Skin);
                }
                for primitive in &at(&root.meshes, mesh, "mesh")?.primitives {
                    self.primitive(primitive, &place)?;
                }
            }
            open.extend(node.children.iter().map(|&child| (child, place)));
        }
        Ok(())
    }

    fn primitive(&mut self, primitive: &Primitive, place: &Affine) -> Result<(), Fault> {
        let mode = primitive.mode.unwrap_or(TRIANGLES);
        if !matches!(mode, POINTS | TRIANGLES | STRIP | FAN) {
            return Ok(());
        }
        let document = self.document;
        let attribute = |name: &str| primitive.attributes.get(name).copied();
        let missing = || Fault::field("the POSITION of a glTF primitive", "missing", "an accessor");
        let position = attribute("POSITION").ok_or_else(missing)?;
        self.afford(self.vertices.len() as u64, document.accessor(position)?.count, "vertices")?;
        let (material, coordinates) = self.material(primitive.material)?;
        let first = self.vertices.len() as u32;
        let positions: Vec<[f64; 3]> = document.floats(position)?;
        let n = positions.len();
        self.vertices.extend(positions.into_iter().map(|point| applied(place, point)));
        if let Some(row) = attribute("COLOR_0") {
            // Primitives before without colours are white.
            self.colours.resize(first as usize, [1.0; 3]);
            self.colours.extend(document.floats::<3>(row)?.into_iter().take(n).map(|rgb| rgb.map(|v| v as f32)));
        }
        if !self.colours.is_empty() {
            self.colours.resize(self.vertices.len(), [1.0; 3]);
        }
        let mut first_uv = None;
        if let Some(row) = coordinates.and_then(|set| attribute(&format!("TEXCOORD_{set}"))) {
            first_uv = Some(self.uvs.len() as u32);
            let uvs = document.floats::<2>(row)?.into_iter().map(|uv| uv.map(|v| v as f32));
            self.uvs.extend(uvs.chain(std::iter::repeat([0.0; 2])).take(n));
        }
        if mode == POINTS {
            return Ok(());
        }
        let n_indices = match primitive.indices {
            Some(row) => document.accessor(row)?.count,
            None => n as u64,
        };
        self.afford(self.triangles.len() as u64, n_indices, "triangles")?;
        let indices = match primitive.indices {
            Some(row) => document.indices(row)?,
            None => (0..n as u32).collect(),
        };
        if let Some(&index) = indices.iter().find(|&&index| index as usize >= n) {
            let face = self.triangles.len() as u64;
            return Err(Fault::Index { face, what: "vertex", index: i64::from(index), count: n });
        }
        let triangle = |corners: [u32; 3]| Triangle {
            vertices: corners.map(|corner| first + corner),
            uvs: corners.map(|corner| first_uv.map_or(0, |uv| uv + corner)),
            material,
        };
        match mode {
            TRIANGLES => self.triangles.extend(indices.chunks_exact(3).map(|c| triangle([c[0], c[1], c[2]]))),
            STRIP => self.triangles.extend(indices.windows(3).map(|c| triangle([c[0], c[1], c[2]]))),
            _ => self.triangles.extend(crate::mesh::fan(&indices).map(triangle)),
        }
        Ok(())
    }

    /// Refuses to go beyond the limit.
    fn afford(&self, have: u64, more: u64, what: &'static str) -> Result<(), Fault> {
        let is_within =
            have.checked_add(more).is_some_and(|sum| sum <= self.limit as u64 && sum <= u64::from(u32::MAX));
        if is_within { Ok(()) } else { Err(Fault::Copies { what, limit: self.limit }) }
    }

    /// Row of the material, and the set of texture coordinates its picture takes.
    fn material(&mut self, row: Option<usize>) -> Result<(u32, Option<u32>), Fault> {
        let Some(described) = row else { return Ok((0, None)) };
        let document = self.document;
        let described_as = at(&document.root.materials, described, "material")?;
        let paint = described_as.extensions.specular_glossiness.as_ref();
        let paint = paint.or(described_as.pbr_metallic_roughness.as_ref());
        let set = paint.and_then(|paint| paint.base_color_texture.as_ref()).map(|texture| {
            texture.extensions.transform.as_ref().and_then(|t| t.tex_coord).unwrap_or(texture.tex_coord)
        });
        if let Some(&row) = self.rows.get(&described) {
            return Ok((row, set));
        }
        let material = self.painted(paint)?;
        self.materials.push(material);
        let row = self.materials.len() as u32 - 1;
        self.rows.insert(described, row);
        Ok((row, set))
    }

    fn painted(&mut self, paint: Option<&Paint>) -> Result<Material, Fault> {
        let factor = paint.and_then(|paint| paint.base_color_factor).unwrap_or([1.0; 4]);
        let colour = [factor[0], factor[1], factor[2]].map(|v| if v.is_nan() { 1.0 } else { v.clamp(0.0, 1.0) });
        let mut material = Material { colour: Some(colour), blend: Blend::Product, ..Material::plain(None) };
        if let Some(texture) = paint.and_then(|paint| paint.base_color_texture.as_ref()) {
            material.texture = self.texture(texture)?;
            material.place = placed(texture);
        }
        Ok(material)
    }

    fn texture(&mut self, texture: &TextureUse) -> Result<Option<u32>, Fault> {
        let document = self.document;
        let root = &document.root;
        let texture = at(&root.textures, texture.index, "texture")?;
        // Without a source an extension has it, in a format that is not read.
        let Some(source) = texture.source else {
            self.notes.push(Note::Texture { name: "texture of an extension".to_owned() });
            return Ok(None);
        };
        let image = at(&root.images, source, "image")?;
        let sampler = texture.sampler.map(|row| at(&root.samplers, row, "sampler")).transpose()?;
        let wrap = sampler.map_or([None; 2], |sampler| [sampler.wrap_s, sampler.wrap_t]).map(|code| match code {
            Some(33071) => Wrap::Clamp,
            Some(33648) => Wrap::Mirror,
            Some(_) | None => Wrap::Repeat,
        });
        let outer = image.uri.as_deref().filter(|uri| !uri.starts_with("data:"));
        let name = outer.or(image.name.as_deref()).map_or_else(|| format!("image {source}"), str::to_owned);
        let path = outer.and_then(|uri| document.beside.find(&percent_decoded(uri)).ok());
        let read = || match (&image.uri, image.buffer_view) {
            (Some(uri), _) => {
                let inside = data_bytes(uri).ok().flatten().map(Picture::Whole);
                let beside = || path.as_ref().and_then(|path| read_file(path).ok()).map(Picture::Whole);
                inside.or_else(beside).ok_or_else(|| Note::Missing { name: name.clone() })
            }
            (None, Some(view)) => match document.view(view) {
                Ok((bytes, _)) => Ok(Picture::Part(bytes.to_vec())),
                Err(_) => Err(Note::Texture { name: name.clone() }),
            },
            (None, None) => Err(Note::Texture { name: name.clone() }),
        };
        // Images may share a name; a path or their number tells them apart.
        let key = match &path {
            Some(path) => format!("{} ({wrap:?})", path.display()),
            None => format!("{name} (image {source}, {wrap:?})"),
        };
        Ok(self.pictures.row(Wanted { key, name: name.clone(), wrap }, read, self.notes))
    }

    fn finish(self) -> Result<Mesh, Fault> {
        let mut vertices = Collector::new(usize::MAX, 0);
        let colour = (!self.colours.is_empty()).then_some(ColourScale::Full(1.0));
        vertices.begin(Layout { colour, is_f32: false, n_max: self.vertices.len() });
        for (row, &xyz) in self.vertices.iter().enumerate() {
            let rgb = self.colours.get(row).copied().unwrap_or([1.0; 3]);
            vertices.push(xyz, rgb.map(|value| value.clamp(0.0, 1.0)))?;
        }
        let paints = (self.materials, self.pictures.textures);
        Mesh::new(vertices.finish()?.cloud, self.uvs, self.triangles, paints)
    }
}

/// Nodes of the scene; of a file without scenes, those that are nobody's child.
fn roots(document: &Document<'_>) -> Result<Vec<usize>, Fault> {
    let root = &document.root;
    if !root.scenes.is_empty() {
        return Ok(at(&root.scenes, root.scene.unwrap_or(0), "scene")?.nodes.clone());
    }
    let mut is_child = vec![false; root.nodes.len()];
    for child in root.nodes.iter().flat_map(|node| &node.children) {
        if let Some(is_child) = is_child.get_mut(*child) {
            *is_child = true;
        }
    }
    Ok((0..root.nodes.len()).filter(|&node| !is_child[node]).collect())
}

/// Where a node stands in its parent: translation times rotation times scale, or a matrix.
fn local(node: &Node) -> Affine {
    if let Some(m) = node.matrix {
        return [0, 1, 2].map(|row| [m[row], m[row + 4], m[row + 8], m[row + 12]]);
    }
    let t = node.translation.unwrap_or([0.0; 3]);
    let [x, y, z, w] = node.rotation.unwrap_or([0.0, 0.0, 0.0, 1.0]);
    let s = node.scale.unwrap_or([1.0; 3]);
    let turn = [
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - z * w), 2.0 * (x * z + y * w)],
        [2.0 * (x * y + z * w), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - x * w)],
        [2.0 * (x * z - y * w), 2.0 * (y * z + x * w), 1.0 - 2.0 * (x * x + y * y)],
    ];
    [0, 1, 2].map(|row| [turn[row][0] * s[0], turn[row][1] * s[1], turn[row][2] * s[2], t[row]])
}

/// First `inner`, then `outer`.
fn product(outer: &Affine, inner: &Affine) -> Affine {
    outer.map(|row| {
        [0, 1, 2, 3].map(|column| {
            let moved = if column == 3 { row[3] } else { 0.0 };
            row[0] * inner[0][column] + row[1] * inner[1][column] + row[2] * inner[2][column] + moved
        })
    })
}

fn applied(place: &Affine, [x, y, z]: [f64; 3]) -> [f64; 3] {
    place.map(|[a, b, c, d]| a * x + b * y + c * z + d)
}

/// Where a picture's corners lie: offset times rotation times scale.
///
/// **Source** Khronos, "KHR_texture_transform".
fn placed(texture: &TextureUse) -> [[f32; 3]; 2] {
    let Some(transform) = &texture.extensions.transform else { return Material::plain(None).place };
    let [ou, ov] = transform.offset.unwrap_or([0.0; 2]);
    let [su, sv] = transform.scale.unwrap_or([1.0; 2]);
    let (sin, cos) = transform.rotation.unwrap_or(0.0).sin_cos();
    [[cos * su, sin * sv, ou], [-sin * su, cos * sv, ov]]
}
