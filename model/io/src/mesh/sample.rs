//! Which points represent a surface? Points drawn evenly by area, with the colour of their place.
//!
//! Law: same mesh, count and seed, same points to the bit.
//! **Source** Osada et al. 2002, "Shape distributions", section 3.2, for even points in a triangle.

use super::{Blend, Material, Mesh, Triangle};
use crate::cloud::Cloud;
use crate::fault::Fault;
use crate::random::SplitMix64;

/// Colour of faces that say nothing beside others that do; the default of MTL viewers.
const GREY: [f32; 3] = [0.8; 3];

/// Draws `n` points; `None` when no triangle has an area.
///
/// The result has colours when any vertex, or the material of any face, has.
pub(crate) fn sample(mesh: &Mesh, n: usize, seed: u64) -> Result<Option<Cloud>, Fault> {
    let mut total = 0.0f64;
    let mut reached = Vec::with_capacity(mesh.triangles.len());
    for triangle in &mesh.triangles {
        total += area(mesh, triangle);
        reached.push(total);
    }
    if !total.is_finite() {
        return Err(Fault::Area);
    }
    if total <= 0.0 {
        return Ok(None);
    }
    let says = |material: &Material| material.colour.is_some() || material.texture.is_some();
    let is_painted = mesh.triangles.iter().any(|triangle| says(&mesh.materials[triangle.material as usize]));
    let has_colour = is_painted || mesh.vertices.rgb.is_some();
    let mut random = SplitMix64::new(seed);
    let mut cloud = Cloud { xyz: Vec::with_capacity(n), rgb: has_colour.then(|| Vec::with_capacity(n)) };
    for _ in 0..n {
        let wanted = random.unit() * total;
        // The first triangle that reaches beyond, so one without area is never chosen.
        let row = reached.partition_point(|&sum| sum <= wanted).min(reached.len() - 1);
        let triangle = &mesh.triangles[row];
        let weights = even_weights(&mut random);
        cloud.xyz.push(mean(triangle.vertices.map(|i| mesh.vertices.xyz[i as usize]), weights));
        if let Some(rgb) = &mut cloud.rgb {
            rgb.push(colour(mesh, triangle, weights));
        }
    }
    Ok(Some(cloud))
}

/// In f64 the squares of f32 coordinates neither overflow nor vanish.
fn area(mesh: &Mesh, triangle: &Triangle) -> f64 {
    let [a, b, c] = triangle.vertices.map(|i| mesh.vertices.xyz[i as usize].map(f64::from));
    let edge = |to: [f64; 3]| [to[0] - a[0], to[1] - a[1], to[2] - a[2]];
    let ([x, y, z], [u, v, w]) = (edge(b), edge(c));
    let cross = [y * w - z * v, z * u - x * w, x * v - y * u];
    0.5 * cross.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// Weights of the corners of a place drawn evenly from a triangle.
fn even_weights(random: &mut SplitMix64) -> [f32; 3] {
    let (u, v) = (random.unit(), random.unit());
    // The far half of the unit square is folded onto the near one.
    let (u, v) = if u + v > 1.0 { (1.0 - u, 1.0 - v) } else { (u, v) };
    [(1.0 - u - v) as f32, u as f32, v as f32]
}

fn mean<const N: usize>(corners: [[f32; N]; 3], weights: [f32; 3]) -> [f32; N] {
    let mut out = [0.0; N];
    for (i, out) in out.iter_mut().enumerate() {
        *out = (0..3).map(|corner| corners[corner][i] * weights[corner]).sum();
    }
    out
}

fn colour(mesh: &Mesh, triangle: &Triangle, weights: [f32; 3]) -> [f32; 3] {
    let material = &mesh.materials[triangle.material as usize];
    let texel = || {
        let texture = &mesh.textures[material.texture? as usize];
        let [u, v] = mean(triangle.uvs.map(|i| mesh.uvs[i as usize]), weights);
        Some(texture.at(material.place.map(|[a, b, c]| a * u + b * v + c)))
    };
    let corner =
        || Some(mean(triangle.vertices.map(|i| mesh.vertices.rgb.as_ref().map_or(GREY, |c| c[i as usize])), weights));
    let corner = || if mesh.vertices.rgb.is_some() { corner() } else { None };
    let rgb = match material.blend {
        Blend::First => texel().or_else(corner).or(material.colour).unwrap_or(GREY),
        Blend::Product => {
            let texel = texel().unwrap_or([1.0; 3]).map(linear_of_srgb);
            let corner = corner().unwrap_or([1.0; 3]);
            let factor = material.colour.unwrap_or([1.0; 3]);
            [0, 1, 2].map(|i| srgb_of_linear(texel[i] * corner[i] * factor[i]))
        }
    };
    rgb.map(|value| value.clamp(0.0, 1.0))
}

/// **Source** IEC 61966-2-1:1999, sRGB.
fn linear_of_srgb(value: f32) -> f32 {
    if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
}

/// **Source** as [`linear_of_srgb`].
fn srgb_of_linear(value: f32) -> f32 {
    if value <= 0.003_130_8 { value * 12.92 } else { 1.055 * value.powf(1.0 / 2.4) - 0.055 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A unit square in the plane z = 0 of two triangles, the second of another colour and four times as large.
    fn mesh() -> Mesh {
        let xyz =
            vec![[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [5.0, 0.0, 0.0], [7.0, 0.0, 0.0], [5.0, 2.0, 0.0]];
        let triangle = |first, material| Triangle { vertices: [first, first + 1, first + 2], uvs: [0; 3], material };
        let materials =
            vec![Material::plain(None), Material::plain(Some([1.0, 0.0, 0.0])), Material::plain(Some([0.0, 1.0, 0.0]))];
        let flat = Triangle { vertices: [0, 1, 1], uvs: [0; 3], material: 0 };
        Mesh::new(
            Cloud { xyz, rgb: None },
            vec![],
            vec![flat, triangle(0, 1), triangle(3, 2), flat],
            (materials, vec![]),
        )
        .unwrap()
    }

    #[test]
    fn points_lie_on_the_surface_in_proportion_to_area() {
        let n = 5000;
        let cloud = sample(&mesh(), n, 3).unwrap().unwrap();
        let rgb = cloud.rgb.as_ref().unwrap();
        let mut n_small = 0;
        for (&[x, y, z], rgb) in cloud.xyz.iter().zip(rgb) {
            let is_small = x < 2.0;
            let (u, side) = if is_small { (x, 1.0) } else { (x - 5.0, 2.0) };
            assert!(z == 0.0 && u >= 0.0 && y >= 0.0 && u + y <= side * 1.000_001);
            assert_eq!(*rgb, if is_small { [1.0, 0.0, 0.0] } else { [0.0, 1.0, 0.0] });
            n_small += usize::from(is_small);
        }
        // A fifth of the area; five standard deviations are 141.
        assert!(n_small.abs_diff(n / 5) < 141, "{n_small}");
        let mean: f32 = cloud.xyz.iter().filter(|p| p[0] > 2.0).map(|p| p[0] - 5.0).sum::<f32>() / (n - n_small) as f32;
        assert!((mean - 2.0 / 3.0).abs() < 0.04, "{mean}");
        assert_eq!(cloud, sample(&mesh(), n, 3).unwrap().unwrap());
        assert_ne!(cloud, sample(&mesh(), n, 4).unwrap().unwrap());
    }

    #[test]
    fn srgb_there_and_back_is_the_same() {
        for i in 0..=255u8 {
            let value = f32::from(i) / 255.0;
            assert!((srgb_of_linear(linear_of_srgb(value)) - value).abs() < 1e-5);
        }
    }
}
