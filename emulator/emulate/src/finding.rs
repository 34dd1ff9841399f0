//! What exactly is wrong with a kernel? A mistake taken apart, for whoever sorts, counts or compares them.

use enel_emulator::{Access, LaunchError, Place, Space};

use crate::names::readable;

/// A mistake of a kernel. Fields are empty where a kind of mistake has no such thing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// Its kind, such as `race` or `out-of-bounds`.
    pub kind: &'static str,
    /// The kernel, by its name in C++.
    pub kernel: Option<String>,
    /// Where it showed.
    pub place: Option<Place>,
    /// The block, where no thread is known.
    pub block: Option<[u32; 3]>,
    /// What was tried.
    pub access: Option<Access>,
    /// In which memory.
    pub space: Option<Space>,
    /// At which address; in shared memory an offset.
    pub address: Option<u64>,
    /// Bytes of the access.
    pub bytes: Option<u32>,
    /// The variable or allocation at or before the address.
    pub object: Option<String>,
    /// The other half of a race, or the multiplication nobody waited for.
    pub other: Option<(Place, Option<Access>)>,
    /// All of it in words, with names in C++.
    pub text: String,
}

impl Finding {
    /// Takes a mistake apart.
    pub fn of(error: &LaunchError) -> Finding {
        let mut found = Finding {
            kind: "other",
            kernel: None,
            place: None,
            block: None,
            access: None,
            space: None,
            address: None,
            bytes: None,
            object: None,
            other: None,
            text: readable(&error.to_string()),
        };
        let at = |found: &mut Finding, kind, place: &Place| {
            found.kind = kind;
            found.kernel = Some(readable(&place.kernel));
            found.block = Some(place.block);
            found.place = Some(place.clone());
        };
        match error {
            LaunchError::OutOfBounds { place, access, space, address, bytes, nearest } => {
                at(&mut found, "out-of-bounds", place);
                found.touches(*access, *space, *address, *bytes);
                found.object = Some(readable(nearest));
            }
            LaunchError::UseAfterFree { place, access, address, bytes, allocation } => {
                at(&mut found, "use-after-free", place);
                found.touches(*access, Space::Global, *address, *bytes);
                found.object = Some(allocation.clone());
            }
            LaunchError::Misaligned { place, access, space, address, bytes } => {
                at(&mut found, "misaligned", place);
                found.touches(*access, *space, *address, *bytes);
            }
            LaunchError::Uninitialised { place, access, space, address, bytes, object } => {
                at(&mut found, "uninitialised", place);
                found.touches(*access, *space, *address, *bytes);
                found.object = Some(readable(object));
            }
            LaunchError::Race { finding } => {
                at(&mut found, "race", &finding.place);
                found.touches(finding.access, finding.space, finding.address, finding.bytes);
                found.object = Some(readable(&finding.object));
                found.other = Some((finding.other.clone(), Some(finding.other_access)));
            }
            LaunchError::Accumulator { finding } => {
                at(&mut found, "accumulator", &finding.place);
                found.access = Some(finding.access);
                found.other = Some((finding.multiplication.clone(), None));
            }
            LaunchError::Mbarrier { place, address, .. } => {
                at(&mut found, "mbarrier", place);
                (found.space, found.address) = (Some(Space::Shared), Some(*address));
            }
            LaunchError::Barrier { place, .. } => at(&mut found, "barrier", place),
            LaunchError::AsyncCopy { place, .. } => at(&mut found, "async-copy", place),
            LaunchError::WarpSync { place, .. } => at(&mut found, "warp-sync", place),
            LaunchError::Wgmma { place, .. } => at(&mut found, "wgmma", place),
            LaunchError::Ended { place, access, address, .. } => {
                at(&mut found, "block-ended", place);
                found.access = Some(*access);
                (found.space, found.address) = (Some(Space::Shared), Some(*address));
            }
            LaunchError::Assertion { place, .. } => at(&mut found, "assertion", place),
            LaunchError::Trap { place } => at(&mut found, "trap", place),
            LaunchError::TooManyInstructions { place, .. } => at(&mut found, "endless", place),
            LaunchError::StackOverflow { place, .. } => at(&mut found, "stack-overflow", place),
            LaunchError::Deadlock { kernel, block, .. } => {
                found.kind = "deadlock";
                (found.kernel, found.block) = (Some(readable(kernel)), Some(*block));
            }
            _ => {}
        }
        found
    }

    fn touches(&mut self, access: Access, space: Space, address: u64, bytes: u32) {
        (self.access, self.space) = (Some(access), Some(space));
        (self.address, self.bytes) = (Some(address), Some(bytes));
    }
}
