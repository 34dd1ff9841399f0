//! How is a cloud or a mesh loaded, and what is asked of it?

use enel_io::{Cloud, PrepareConfig, prepare};

/// Endings that name clouds.
pub const CLOUDS: [&str; 7] = ["npy", "npz", "ply", "pcd", "xyz", "las", "csv"];
/// Endings that name meshes.
pub const MESHES: [&str; 6] = ["obj", "stl", "off", "glb", "gltf", "ply"];

/// Loads the bytes of a file of this ending and prepares it for a model.
///
/// # Panics
/// When a cloud that loads has no points, a coordinate that is no number or a colour out of range.
pub fn load(bytes: &[u8], ending: &str) {
    let path = crate::folder().join("file").with_extension(ending);
    let Ok(cloud) = Cloud::from_bytes(bytes, &path) else { return };
    assert!(!cloud.xyz.is_empty() && cloud.xyz.as_flattened().iter().all(|value| value.is_finite()));
    if let Some(rgb) = &cloud.rgb {
        assert!(rgb.len() == cloud.xyz.len() && rgb.as_flattened().iter().all(|channel| (0.0..=1.0).contains(channel)));
    }
    if let Ok(prepared) = prepare(&cloud, PrepareConfig::exactly(64)) {
        assert!(prepared.points.len() == 64 * 6 && prepared.points.iter().all(|value| value.is_finite()));
    }
}
