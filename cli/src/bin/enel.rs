//! `enel`: point clouds to text.
fn main() {}
