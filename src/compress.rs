//! Making models smaller, and making files to measure with.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "runs on a computer")]

mod budget;
mod importance;
#[cfg(feature = "train")]
mod learn;
mod measure;
mod parallel;
mod quantize;
mod random;
mod sequences;
mod tasks;
mod vocabulary;

pub use budget::{Budget, Found, least_bytes};
pub use importance::Importance;
#[cfg(feature = "train")]
pub use learn::{Learn, LearnOptions, Step, checkpoint_of};
pub use measure::{Divergence, Estimate, Measure, Measured, Open};
pub use quantize::{Quantized, Recipe, Rounding, RoundingError, quantize};
pub use random::{RandomModel, write_random};
pub use sequences::{DOCUMENT_END, Progress, Sequences};
pub use tasks::{Analogies, MinimalPair, analogies, minimal_pairs, similarities, spearman};
pub use vocabulary::TokenMap;
