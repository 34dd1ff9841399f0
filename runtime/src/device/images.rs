//! Which compiled code does a device get, and how large is its grid? Pure choices the GPU devices share.

use crate::error::DeviceError;
use enel_bundle::{Bundle, Image, ImageKind, Launch};
use std::fmt;

/// Compute capability of a GPU; prints as `sm_80`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arch {
    pub(super) major: u32,
    pub(super) minor: u32,
}

impl Arch {
    const fn number(self) -> u32 {
        self.major * 10 + self.minor
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sm_{}", self.number())
    }
}

/// Number and suffix of a target such as `sm_90a` or `compute_80`.
fn target(name: &str) -> Option<(u32, &str)> {
    let rest = name.strip_prefix("sm_").or_else(|| name.strip_prefix("compute_"))?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((rest[..digits].parse().ok()?, &rest[digits..]))
}

/// The images of `kernel` a GPU can run, best first.
///
/// Machine code of exactly this GPU with all its features, then without, then of an earlier one of the same major
/// version, then text, the latest first.
/// **Source** CUDA C++ Programming Guide, "Application Compatibility": machine code runs on equal major and equal or
/// later minor versions; with an `a` only on its own version; text runs on any later version.
pub(super) fn for_gpu(images: &[Image], kernel: u32, arch: Arch) -> Vec<&Image> {
    let own = arch.number();
    let rank = |image: &Image| {
        let (number, suffix) = target(&image.target)?;
        let exact = number == own;
        let class = match (image.kind, suffix) {
            (ImageKind::Cubin, "a") if exact => 0,
            (ImageKind::Cubin, "") if exact => 1,
            (ImageKind::Cubin, "") if number / 10 == arch.major && number < own => 2,
            (ImageKind::Ptx, "a") if exact => 3,
            (ImageKind::Ptx, "") if number <= own => 4,
            _ => return None,
        };
        Some((class, u32::MAX - number))
    };
    let mine = images.iter().filter(|image| image.kernel == kernel);
    let mut ranked: Vec<_> = mine.filter_map(|image| Some((rank(image)?, image))).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, image)| image).collect()
}

/// What the first image that loads becomes; where none does, each with its reason.
///
/// A driver that is too old for one may still take the next, and which ones it refused tells why.
pub(super) fn first_that_loads<T, E: fmt::Display>(
    images: &[&Image],
    mut load: impl FnMut(&Image) -> Result<T, E>,
) -> Result<T, Vec<String>> {
    let mut tried = Vec::with_capacity(images.len());
    for image in images {
        match load(image) {
            Ok(loaded) => return Ok(loaded),
            Err(error) => tried.push(format!("{}: {error}", spell(image))),
        }
    }
    Err(tried)
}

/// The text of `kernel` with the fewest demands on its machine.
pub(super) fn plainest_ptx(images: &[Image], kernel: u32) -> Option<&Image> {
    let texts = images.iter().filter(|image| image.kernel == kernel && image.kind == ImageKind::Ptx);
    texts.min_by_key(|image| target(&image.target))
}

/// Why there is nothing to load.
pub(super) fn missing(bundle: &Bundle, kernel: u32, device: &str) -> DeviceError {
    let mine = bundle.images.iter().filter(|image| image.kernel == kernel);
    let name = bundle.kernels.get(kernel as usize).map_or("?", |k| k.name.as_str());
    DeviceError::NoImage { kernel: name.to_owned(), device: device.to_owned(), found: mine.map(spell).collect() }
}

fn spell(image: &Image) -> String {
    match image.kind {
        ImageKind::Ptx => format!("{} (text)", image.target),
        ImageKind::Cubin => image.target.clone(),
    }
}

/// Blocks along x, y, z; `None` when there are none, which is no work.
///
/// **Source** CUDA C++ Programming Guide, "Technical Specifications per Compute Capability": at most 2^31-1 along x.
pub(super) fn grid(kernel: &str, launch: &Launch, dynamics: &[i64]) -> Result<Option<[u32; 3]>, DeviceError> {
    match launch.blocks(dynamics) {
        0 => Ok(None),
        blocks @ 1..=0x7fff_ffff => Ok(Some([blocks as u32, 1, 1])),
        blocks => {
            let message = format!("a grid of {blocks} blocks is too large");
            Err(DeviceError::Launch { kernel: kernel.to_owned(), message })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enel_bundle::{Extent, Grid};

    fn image(target: &str, kind: ImageKind) -> Image {
        Image { kernel: 0, target: target.into(), kind, bytes: vec![] }
    }

    #[test]
    fn a_gpu_gets_the_closest_code_it_can_run() {
        use ImageKind::{Cubin, Ptx};
        let images = [
            image("compute_80", Ptx),
            image("sm_80", Cubin),
            image("sm_90a", Cubin),
            image("sm_90", Cubin),
            image("compute_90a", Ptx),
            image("compute_100", Ptx),
            image("nonsense", Cubin),
        ];
        let names = |major, minor| -> Vec<&str> {
            for_gpu(&images, 0, Arch { major, minor }).into_iter().map(|i| i.target.as_str()).collect()
        };
        assert_eq!(names(8, 0), ["sm_80", "compute_80"]);
        assert_eq!(names(8, 9), ["sm_80", "compute_80"]);
        assert_eq!(names(9, 0), ["sm_90a", "sm_90", "compute_90a", "compute_80"]);
        assert_eq!(names(12, 0), ["compute_100", "compute_80"]);
        assert_eq!(names(7, 5), Vec::<&str>::new());
        assert!(for_gpu(&images, 1, Arch { major: 8, minor: 0 }).is_empty());
        assert_eq!(plainest_ptx(&images, 0).unwrap().target, "compute_80");
    }

    #[test]
    fn code_that_does_not_load_gives_way_to_the_next_and_is_named() {
        let images = [image("sm_90a", ImageKind::Cubin), image("compute_80", ImageKind::Ptx)];
        let images: Vec<&Image> = images.iter().collect();
        let only_text = |image: &Image| if image.kind == ImageKind::Ptx { Ok(7) } else { Err("too new") };
        assert_eq!(first_that_loads(&images, only_text), Ok(7));
        let none = first_that_loads(&images, |_| Err::<(), _>("too new")).unwrap_err();
        assert_eq!(none, ["sm_90a: too new", "compute_80 (text): too new"]);
        let refused = |driver: &str| {
            let (kernel, device, driver) = ("k".to_owned(), "cuda:0".to_owned(), driver.to_owned());
            DeviceError::Refused { kernel, device, driver, tried: none.clone() }.to_string()
        };
        assert!(
            refused("12.4").ends_with("text): too new; update the driver to one for CUDA 13"),
            "{}",
            refused("12.4")
        );
        assert!(refused("13.0").ends_with("text): too new"), "{}", refused("13.0"));
    }

    #[test]
    fn grids_follow_sizes_and_keep_their_limits() {
        let grid_of = |tile: i64| Grid(vec![(vec![Extent::Dyn(0)], tile)]);
        let launch = Launch {
            entry: "k".into(),
            grids: vec![grid_of(1), grid_of(256)],
            threads: 32,
            smem_bytes: 0,
            scratch_bytes: 0,
        };
        assert_eq!(grid("k", &launch, &[513]).unwrap(), Some([513 + 3, 1, 1]));
        assert_eq!(grid("k", &launch, &[0]).unwrap(), None);
        assert!(grid("k", &launch, &[1 << 31]).is_err());
    }
}
