//! Making models smaller, and making files to measure with.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "runs on a computer")]

mod quantize;
mod random;

pub use quantize::{Quantized, quantize};
pub use random::{RandomModel, write_random};
