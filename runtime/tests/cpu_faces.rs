//! Do the native faces compute what their Descs mean? Drawn Descs of every family against an independent reference.
#![allow(clippy::unwrap_used)]

#[path = "cpu_faces/check.rs"]
mod check;
#[path = "cpu_faces/contracts.rs"]
mod contracts;
#[path = "cpu_faces/draw.rs"]
mod draw;
#[path = "cpu_faces/families.rs"]
mod families;
#[path = "cpu_faces/malformed.rs"]
mod malformed;
#[path = "cpu_faces/programs.rs"]
mod programs;
#[path = "cpu_faces/reference.rs"]
mod reference;
