//! Where are the buffers of one run? In the workspace, where they always are, or in allocations of their own.
//!
//! Law: allocations of their own are kept as long as a recording knows their addresses, and hold nothing a run can
//! read before it writes it; without a recording they end with the run.

use super::prepare::{Place, Prepared};
use crate::device::{Backend, BufferId, Slice};
use crate::error::{DeviceError, RunError};

/// Stands for buffers no step touches; any use of it is refused by the device.
const NOWHERE: Slice = Slice { buffer: BufferId(u32::MAX), offset_bytes: 0, size_bytes: 0 };

impl Prepared {
    /// Addresses of all buffers for this run.
    pub(super) fn slices(&self, device: &mut dyn Backend, workspace: Option<Slice>) -> Result<Vec<Slice>, RunError> {
        let failed = |verb| {
            move |source| {
                let what = "a buffer".to_owned();
                RunError::Device { verb, what, source: Box::new(source) }
            }
        };
        if let Some(kept) = &self.kept {
            self.own(kept).try_for_each(|slice| device.forget(slice)).map_err(failed("clear"))?;
            return Ok(kept.clone());
        }
        let mut slices: Vec<Slice> = Vec::with_capacity(self.places.len());
        for place in &self.places {
            match self.slice(*place, device, workspace) {
                Ok(slice) => slices.push(slice),
                Err(source) => {
                    self.free(device, &slices);
                    return Err(failed("allocate")(source));
                }
            }
        }
        Ok(slices)
    }

    fn slice(&self, place: Place, device: &mut dyn Backend, workspace: Option<Slice>) -> Result<Slice, DeviceError> {
        Ok(match place {
            Place::Fixed(slice) => slice,
            Place::Workspace { size_bytes, .. } if device.separate_buffers() => super::allocate(device, size_bytes)?,
            Place::Workspace { offset_bytes, size_bytes } => match workspace {
                Some(Slice { buffer, .. }) => Slice { buffer, offset_bytes, size_bytes },
                None => NOWHERE,
            },
            Place::Nowhere => NOWHERE,
        })
    }

    /// After a run: keeps the run's own allocations for the recording, or gives them back.
    pub(super) fn keep_or_free(&mut self, device: &mut dyn Backend, slices: Vec<Slice>) {
        match self.graph {
            Some(_) => self.kept = Some(slices),
            None => self.free(device, &slices),
        }
    }

    /// Drops the recording and what was kept for it.
    pub(super) fn forget_recording(&mut self, device: &mut dyn Backend) {
        if let Some(graph) = self.graph.take() {
            device.drop_graph(graph);
        }
        if let Some(kept) = self.kept.take() {
            self.free(device, &kept);
        }
    }

    fn free(&self, device: &mut dyn Backend, slices: &[Slice]) {
        self.own(slices).for_each(|slice| device.free(slice.buffer));
    }

    /// Those that are allocations of their own, where the device asks for such.
    fn own<'s>(&'s self, slices: &'s [Slice]) -> impl Iterator<Item = Slice> + 's {
        let both = self.places.iter().zip(slices);
        both.filter(|(place, _)| matches!(place, Place::Workspace { .. })).map(|(_, slice)| *slice)
    }
}
