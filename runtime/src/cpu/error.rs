//! Why can a kernel not be prepared or run on the cpu?

use enel_types::DType;

/// A Desc the cpu refuses, or a call that does not fit its Desc.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuError {
    /// A part of the Desc does not hold together.
    #[error("malformed {part}: {message}")]
    Malformed {
        /// Which program, store or size.
        part: String,
        /// What is wrong with it.
        message: String,
    },
    /// Wrong number of buffers.
    #[error("expected {expected} buffers, got {got}")]
    BufferCount {
        /// Buffers of the Desc.
        expected: usize,
        /// Buffers given.
        got: usize,
    },
    /// A written buffer was given for reading only.
    #[error("buffer {buffer} is written, but was given for reading")]
    ReadOnly {
        /// Position among the arguments.
        buffer: usize,
    },
    /// The bytes are not aligned to the element or are no whole number of elements.
    #[error("buffer {buffer} of {bytes} B is no aligned array of {dtype}")]
    Layout {
        /// Position among the arguments.
        buffer: usize,
        /// Length given.
        bytes: usize,
        /// Element type of the Desc.
        dtype: DType,
    },
    /// Wrong number of dynamic sizes.
    #[error("expected {expected} dynamic sizes, got {got}")]
    DynamicCount {
        /// Sizes of the Desc.
        expected: usize,
        /// Sizes given.
        got: usize,
    },
    /// A dynamic size outside its bounds.
    #[error("dynamic size {index} = {value} is outside 0..={max} in steps of {multiple}")]
    Dynamic {
        /// Position among the sizes.
        index: usize,
        /// Value given.
        value: i64,
        /// Largest allowed.
        max: i64,
        /// Required step.
        multiple: i64,
    },
    /// A size that overflows, is negative or does not fit what it counts.
    #[error("size of {what} does not fit: {value}")]
    Size {
        /// What is counted.
        what: &'static str,
        /// The offending value, -1 on overflow.
        value: i64,
    },
    /// An element outside its buffer.
    #[error("index {index} of buffer {buffer} is outside its {len} elements")]
    OutOfBounds {
        /// Position among the arguments.
        buffer: usize,
        /// Linear element index.
        index: i64,
        /// Elements of the buffer.
        len: usize,
    },
    /// Memory could not be had.
    #[error("cannot allocate {bytes} B")]
    OutOfMemory {
        /// What was asked for.
        bytes: usize,
    },
    /// The thread pool could not be built.
    #[error("cannot start {threads} threads: {message}")]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// What the pool said.
        message: String,
    },
}
