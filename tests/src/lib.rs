//! Integration tests over all rooms; this library is what they share.

pub mod agree;
pub mod forge;
pub mod slopes;
