//! Making models smaller, and making files to measure with.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "runs on a computer")]

mod parallel;
mod quantize;
mod random;
mod sequences;

pub use quantize::{Quantized, quantize};
pub use random::{RandomModel, write_random};
pub use sequences::{DOCUMENT_END, Progress, Sequences};
