//! Attar.
fn main() {}
