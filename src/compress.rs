//! Making models smaller, and making files to measure with.

mod quantize;
mod random;

pub use quantize::{Quantized, quantize};
pub use random::{RandomModel, write_random};
