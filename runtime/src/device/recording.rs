//! What does the emulated device note while it records? Launches, copies and fills with their addresses, not run.
//!
//! Law: a call that a GPU forbids while it records is refused with the driver's error, and spoils the recording.
//! **Source** CUDA C++ Programming Guide, "Prohibited and Unhandled Operations" of stream capture: what is forbidden
//! invalidates the recording, every later call on it fails, and ending it gives an error and no graph.

use crate::error::DeviceError;

/// One call, ready to run.
pub(super) enum Operation {
    /// Kernel number `kernel` on a grid, or on none where a size is zero.
    Launch {
        kernel: usize,
        grid: Option<[u32; 3]>,
        args: Vec<enel_emulator::Arg>,
    },
    Copy {
        from: u64,
        to: u64,
        size_bytes: usize,
    },
    Fill {
        address: u64,
        size_bytes: usize,
        byte: u8,
    },
}

/// Whether a device records, and what it noted so far.
pub(super) enum Capture {
    Off,
    On(Vec<Operation>),
    /// A forbidden call was made.
    Spoiled,
}

impl Capture {
    /// Refuses the driver's `call` while recording.
    pub(super) fn forbids(&mut self, call: &'static str) -> Result<(), DeviceError> {
        if matches!(self, Capture::Off) {
            return Ok(());
        }
        *self = Capture::Spoiled;
        Err(refused(call, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"))
    }

    /// The list that takes the next operation; `None` where it runs at once.
    pub(super) fn list(&mut self, call: &'static str) -> Result<Option<&mut Vec<Operation>>, DeviceError> {
        match self {
            Capture::Off => Ok(None),
            Capture::On(list) => Ok(Some(list)),
            Capture::Spoiled => Err(spoiled(call)),
        }
    }

    pub(super) fn begin(&mut self) -> Result<(), DeviceError> {
        if !matches!(self, Capture::Off) {
            return Err(refused("cuStreamBeginCapture", "CUDA_ERROR_ILLEGAL_STATE", "the stream is capturing already"));
        }
        *self = Capture::On(Vec::new());
        Ok(())
    }

    pub(super) fn end(&mut self) -> Result<Vec<Operation>, DeviceError> {
        let call = "cuStreamEndCapture";
        match std::mem::replace(self, Capture::Off) {
            Capture::Off => Err(refused(call, "CUDA_ERROR_ILLEGAL_STATE", "the stream is not capturing")),
            Capture::On(list) => Ok(list),
            Capture::Spoiled => Err(spoiled(call)),
        }
    }
}

fn spoiled(call: &'static str) -> DeviceError {
    let message = "operation failed due to a previous error during capture";
    refused(call, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", message)
}

fn refused(call: &'static str, code: &str, message: &str) -> DeviceError {
    DeviceError::Driver { call, code: code.to_owned(), message: message.to_owned() }
}
