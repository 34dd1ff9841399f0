//! Why can a Desc not become CUDA?

use enel_bundle::Kind;

/// Why no kernel can be written for a Desc.
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    /// A program reads a later register, an unknown buffer or accumulator, or mixes kinds.
    #[error("program `{function}` is not well formed at instruction {at}")]
    Program {
        /// Which program of the body.
        function: String,
        /// Position of the instruction.
        at: usize,
    },
    /// A number names nothing: an axis, size, buffer or register outside its list.
    #[error("`{function}` names {what} {index}, there are {count}")]
    Reference {
        /// Where.
        function: String,
        /// Kind of thing.
        what: &'static str,
        /// The number.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// A register has another kind than its use.
    #[error("`{function}`: register {reg} is {got:?}, its use needs {expected:?}")]
    Kind {
        /// Where.
        function: String,
        /// The register.
        reg: u32,
        /// What its use needs.
        expected: Kind,
        /// What it is.
        got: Kind,
    },
    /// An operation that has no meaning for the kind of its operands.
    #[error("`{function}`: {op} has no meaning on {kind:?}")]
    Operation {
        /// Where.
        function: String,
        /// The operation.
        op: &'static str,
        /// The operands.
        kind: Kind,
    },
    /// A size or count that no call could have.
    #[error("{what} is {got}, expected {expected}")]
    Size {
        /// What is measured.
        what: &'static str,
        /// Its value.
        got: i64,
        /// What it has to be.
        expected: &'static str,
    },
    /// The kernel would need more shared memory than a block may have.
    #[error("family {family} needs {need_bytes} B of shared memory per block, the limit is {limit_bytes} B")]
    SharedMemory {
        /// The family.
        family: &'static str,
        /// What it needs.
        need_bytes: i64,
        /// What there is.
        limit_bytes: i64,
    },
    /// A template could not be filled: a bug of this crate.
    #[error("template `{template}` could not be filled")]
    Template {
        /// Its name.
        template: &'static str,
        /// What the engine says.
        #[source]
        source: Box<tera::Error>,
    },
}
