//! How is a compiled program kept? One file: plans, kernels, images, and free-form metadata.
//!
//! Layout, little endian: magic (8 bytes), version u32, SHA-256 of everything behind it (32), file length u64, manifest
//! length u64, manifest (JSON), image bytes in manifest order. Equal bundles are equal bytes.
//! Law: what [`Bundle::from_bytes`] returns has passed every check of `check`.

use crate::check::{DescFault, check_desc, check_launch, check_plan};
use crate::plan::{Buffer, BufferKind, Kernel, Plan, PlanError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Version of the file format; a reader refuses newer ones.
pub const FORMAT_VERSION: u32 = 4;

const MAGIC: [u8; 8] = *b"ENELBNDL";
const HASH_AT: usize = 12;
const HASHED_FROM: usize = 44;
const HEADER_BYTES: usize = 60;

/// Kind of a compiled image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageKind {
    /// Text the driver or the emulator compiles further.
    Ptx,
    /// Machine code of one architecture.
    Cubin,
}

/// Compiled code of one kernel for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Kernel of the bundle.
    pub kernel: u32,
    /// Architecture, as in `sm_80` or `compute_80`.
    pub target: String,
    /// PTX or cubin.
    pub kind: ImageKind,
    /// The code.
    pub bytes: Vec<u8>,
}

/// A compiled program: everything a runtime needs but the weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bundle {
    /// Numeric mode the graphs were compiled in, `f32` or `bf16`.
    pub mode: String,
    /// Plans by graph, such as `prefill` and `decode`.
    pub plans: Vec<Plan>,
    /// Kernels the plans call.
    pub kernels: Vec<Kernel>,
    /// Compiled code; empty for a bundle that runs on cpu only.
    pub images: Vec<Image>,
    /// What the compiler and the model want to keep beside: model config, reports, sources.
    pub meta: serde_json::Value,
}

/// One thing wrong inside a bundle.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BundleFault {
    /// A kernel's meaning is not well formed.
    #[error("kernel `{kernel}`: {fault}")]
    Desc {
        /// Kernel name.
        kernel: String,
        /// What is wrong.
        fault: DescFault,
    },
    /// A kernel's launch parameters cannot be used.
    #[error("kernel `{kernel}`: {message}")]
    Launch {
        /// Kernel name.
        kernel: String,
        /// What is wrong.
        message: &'static str,
    },
    /// A plan does not hold together.
    #[error(transparent)]
    Plan(PlanError),
    /// Two things that are found by name share one.
    #[error("two {what}s are called `{name}`")]
    Duplicate {
        /// `kernel`, `plan` or `image`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// An image is for a kernel that does not exist.
    #[error("image {image} is for kernel {kernel} of {kernels}")]
    Image {
        /// Position among the images.
        image: usize,
        /// The kernel it names.
        kernel: u32,
        /// Number of kernels.
        kernels: usize,
    },
    /// Plans disagree on a weight's shape or on a state's dtype or rank.
    #[error("plans disagree on the {what} `{name}`")]
    Disagree {
        /// `weight` or `state`.
        what: &'static str,
        /// The name.
        name: String,
    },
}

/// Why a bundle cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The operating system refused.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// `read` or `write`.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is something else.
    #[error("this is no enel bundle: it does not start with its magic number")]
    NotABundle,
    /// The file was written by a later version.
    #[error(
        "the bundle has format version {found}, this program reads up to {FORMAT_VERSION}: update it or recompile the bundle"
    )]
    Newer {
        /// Version of the file.
        found: u32,
    },
    /// The file ends too early.
    #[error("the bundle is cut: it has {got} of {expected} bytes; copy or compile it again")]
    Cut {
        /// Bytes it should have.
        expected: u64,
        /// Bytes it has.
        got: u64,
    },
    /// The content is not what was written.
    #[error("the bundle was altered: its content does not match its hash; copy or compile it again")]
    Altered,
    /// The hash is right but the manifest does not parse.
    #[error("the bundle's manifest does not parse")]
    Manifest(#[source] serde_json::Error),
    /// The manifest's images do not fill the file.
    #[error("the bundle's manifest lists {listed} bytes of images, the file holds {held}")]
    Images {
        /// Sum over the manifest.
        listed: u64,
        /// Bytes behind the manifest.
        held: u64,
    },
    /// The parts do not fit together.
    #[error("the bundle is inconsistent ({} faults): {}", .0.len(), first(.0))]
    Inconsistent(Vec<BundleFault>),
}

fn first(faults: &[BundleFault]) -> String {
    faults.first().map_or_else(String::new, BundleFault::to_string)
}

#[derive(Serialize)]
struct ManifestOut<'a> {
    mode: &'a str,
    plans: &'a [Plan],
    kernels: &'a [Kernel],
    images: Vec<ImageEntry>,
    meta: &'a serde_json::Value,
}

#[derive(Deserialize)]
struct Manifest {
    mode: String,
    plans: Vec<Plan>,
    kernels: Vec<Kernel>,
    images: Vec<ImageEntry>,
    meta: serde_json::Value,
}

#[derive(Serialize, Deserialize)]
struct ImageEntry {
    kernel: u32,
    target: String,
    kind: ImageKind,
    size_bytes: u64,
}

impl Bundle {
    /// The plan called `name`.
    pub fn plan(&self, name: &str) -> Option<&Plan> {
        self.plans.iter().find(|p| p.name == name)
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// [`BundleError::Inconsistent`], [`BundleError::Manifest`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, BundleError> {
        self.check().map_err(BundleError::Inconsistent)?;
        let Bundle { mode, plans, kernels, images, meta } = self;
        let entry = |Image { kernel, target, kind, bytes }: &Image| {
            let size_bytes = bytes.len() as u64;
            ImageEntry { kernel: *kernel, target: target.clone(), kind: *kind, size_bytes }
        };
        let manifest = ManifestOut { mode, plans, kernels, images: images.iter().map(entry).collect(), meta };
        let manifest = serde_json::to_vec(&manifest).map_err(BundleError::Manifest)?;
        let file_bytes = HEADER_BYTES + manifest.len() + images.iter().map(|i| i.bytes.len()).sum::<usize>();
        let mut bytes = Vec::with_capacity(file_bytes);
        bytes.extend(MAGIC);
        bytes.extend(FORMAT_VERSION.to_le_bytes());
        bytes.extend([0; HASHED_FROM - HASH_AT]);
        bytes.extend((file_bytes as u64).to_le_bytes());
        bytes.extend((manifest.len() as u64).to_le_bytes());
        bytes.extend(&manifest);
        for image in images {
            bytes.extend(&image.bytes);
        }
        let hash = Sha256::digest(&bytes[HASHED_FROM..]);
        bytes[HASH_AT..HASHED_FROM].copy_from_slice(&hash);
        Ok(bytes)
    }

    /// Writes the file beside `path` first and renames it, so `path` never holds half a bundle.
    ///
    /// # Errors
    /// [`BundleError::Io`], and what [`Bundle::to_bytes`] gives.
    pub fn write(&self, path: &Path) -> Result<(), BundleError> {
        let bytes = self.to_bytes()?;
        let failed = |source| BundleError::Io { verb: "write", path: path.to_owned(), source };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".bundle-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // A temporary file is private by default; a bundle has the rights any new file would get.
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let mut file = builder.tempfile_in(folder).map_err(failed)?;
        file.write_all(&bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        file.persist(path).map_err(|e| failed(e.error))?;
        Ok(())
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`BundleError::Io`], and what [`Bundle::from_bytes`] gives.
    pub fn read(path: &Path) -> Result<Bundle, BundleError> {
        let failed = |source| BundleError::Io { verb: "read", path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        // The header first, so that a large file that is no bundle is refused before it is loaded.
        let mut bytes = Vec::new();
        (&file).take(HEADER_BYTES as u64).read_to_end(&mut bytes).map_err(failed)?;
        let expected = header(&bytes)?.file_bytes;
        let limit = expected.saturating_sub(HEADER_BYTES as u64).saturating_add(1);
        (&file).take(limit).read_to_end(&mut bytes).map_err(failed)?;
        Bundle::from_bytes(&bytes)
    }

    /// Parses and checks a file's bytes.
    ///
    /// # Errors
    /// Any [`BundleError`] but `Io`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Bundle, BundleError> {
        let Header { file_bytes, manifest_bytes } = header(bytes)?;
        let got = bytes.len() as u64;
        if got < file_bytes {
            return Err(BundleError::Cut { expected: file_bytes, got });
        }
        let hash = Sha256::digest(&bytes[HASHED_FROM..]);
        if got > file_bytes || bytes[HASH_AT..HASHED_FROM] != hash[..] {
            return Err(BundleError::Altered);
        }
        let body = &bytes[HEADER_BYTES..];
        let split = usize::try_from(manifest_bytes).ok().and_then(|n| body.split_at_checked(n));
        let (manifest, mut blobs) = split.ok_or(BundleError::Altered)?;
        let manifest: Manifest = serde_json::from_slice(manifest).map_err(BundleError::Manifest)?;
        let Manifest { mode, plans, kernels, images: entries, meta } = manifest;

        let held = blobs.len() as u64;
        let listed = entries.iter().fold(0u64, |sum, e| sum.saturating_add(e.size_bytes));
        if listed != held {
            return Err(BundleError::Images { listed, held });
        }
        let mut images = Vec::with_capacity(entries.len());
        for ImageEntry { kernel, target, kind, size_bytes } in entries {
            let size = usize::try_from(size_bytes).ok();
            let split = size.and_then(|n| blobs.split_at_checked(n));
            let (code, rest) = split.ok_or(BundleError::Images { listed, held })?;
            images.push(Image { kernel, target, kind, bytes: code.to_vec() });
            blobs = rest;
        }
        let bundle = Bundle { mode, plans, kernels, images, meta };
        bundle.check().map_err(BundleError::Inconsistent)?;
        Ok(bundle)
    }

    /// Checks that all parts fit together; reading and writing do.
    ///
    /// # Errors
    /// Every fault found.
    pub fn check(&self) -> Result<(), Vec<BundleFault>> {
        let mut faults = Vec::new();
        let mut names = BTreeSet::new();
        for kernel in &self.kernels {
            let name = kernel.name.clone();
            for fault in kernel.descs().filter_map(|desc| check_desc(desc).err()).flatten() {
                faults.push(BundleFault::Desc { kernel: name.clone(), fault });
            }
            let launch = match &kernel.launch {
                _ if kernel.parts.is_empty() => Some("a kernel has at least one part"),
                Some(launch) => check_launch(launch, kernel),
                None => None,
            };
            faults.extend(launch.map(|message| BundleFault::Launch { kernel: name.clone(), message }));
            if !names.insert(("kernel", name.clone())) {
                faults.push(BundleFault::Duplicate { what: "kernel", name });
            }
        }
        for plan in &self.plans {
            faults.extend(check_plan(plan, &self.kernels).err().into_iter().flatten().map(BundleFault::Plan));
            if !names.insert(("plan", plan.name.clone())) {
                faults.push(BundleFault::Duplicate { what: "plan", name: plan.name.clone() });
            }
        }
        self.check_images(&mut faults);
        self.check_shared(&mut faults);
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn check_images(&self, faults: &mut Vec<BundleFault>) {
        let mut seen = BTreeSet::new();
        for (at, Image { kernel, target, kind, bytes: _ }) in self.images.iter().enumerate() {
            let kernels = self.kernels.len();
            if *kernel as usize >= kernels {
                faults.push(BundleFault::Image { image: at, kernel: *kernel, kernels });
            } else if !seen.insert((*kernel, target, *kind)) {
                let name = format!("{} for {target}", self.kernels[*kernel as usize].name);
                faults.push(BundleFault::Duplicate { what: "image", name });
            }
        }
    }

    fn check_shared(&self, faults: &mut Vec<BundleFault>) {
        let mut known: BTreeMap<(&str, &str), &Buffer> = BTreeMap::new();
        for buffer in self.plans.iter().flat_map(|p| &p.buffers) {
            let (what, name) = match &buffer.kind {
                BufferKind::Weight(name) => ("weight", name.as_str()),
                BufferKind::State(name) => ("state", name.as_str()),
                BufferKind::Input(_)
                | BufferKind::Joined(_)
                | BufferKind::Bound
                | BufferKind::Output(_)
                | BufferKind::Temp => continue,
            };
            let first = *known.entry((what, name)).or_insert(buffer);
            // A weight may be stored in two dtypes; state sizes are compared when symbols are bound.
            let agrees = match what {
                "weight" => first.shape == buffer.shape,
                _ => first.dtype == buffer.dtype && first.shape.len() == buffer.shape.len(),
            };
            if !agrees {
                faults.push(BundleFault::Disagree { what, name: name.to_owned() });
            }
        }
    }
}

struct Header {
    file_bytes: u64,
    manifest_bytes: u64,
}

/// Lengths from the header. Other versions may have another header, so the version is looked at first.
fn header(bytes: &[u8]) -> Result<Header, BundleError> {
    let start = bytes.len().min(MAGIC.len());
    if bytes.is_empty() || bytes[..start] != MAGIC[..start] {
        return Err(BundleError::NotABundle);
    }
    let cut = || BundleError::Cut { expected: HEADER_BYTES as u64, got: bytes.len() as u64 };
    let version = bytes.get(8..12).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes).ok_or_else(cut)?;
    if version > FORMAT_VERSION {
        return Err(BundleError::Newer { found: version });
    }
    if version == 0 {
        return Err(BundleError::Altered);
    }
    let length = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    let file_bytes = length(44).ok_or_else(cut)?;
    let manifest_bytes = length(52).ok_or_else(cut)?;
    Ok(Header { file_bytes, manifest_bytes })
}
