//! What does a kernel have to give? Drawn calls of every family, their meaning in f64, and how near a result must be.
//!
//! Law: this room knows Descs and plans, no template and no device, so that it shares no mistake with either. `eval` is the
//! meaning, written from the documentation of the bodies; `draw` has strategies of calls per family, `call` draws a call of a
//! kernel as a plan makes it, `shipped` lists a kernel of every kind with calls that reach all of it, `check` compares; `data` and `build` are what they are put together from.

pub mod build;
mod call;
mod check;
mod data;
pub mod draw;
mod eval;
mod shipped;

pub use call::{Call, CallError, Limit, draw_call};
pub use check::{BF16, Case, CheckError, Expected, F32, Mismatch, Near, Nearness};
pub use data::Data;
pub use eval::{EvalError, Precision, Stored, evaluate, work};
pub use shipped::{Shipped, shipped};
