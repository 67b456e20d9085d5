//! Making models smaller, and making files to measure with.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "runs on a computer")]

#[cfg(feature = "train")]
mod answers;
mod budget;
pub mod corpus;
#[cfg(feature = "train")]
mod fit;
mod importance;
#[cfg(feature = "train")]
mod learn;
mod measure;
mod observe;
mod parallel;
pub mod prune;
mod quantize;
mod random;
mod sequences;
mod shape;
mod tasks;
mod vocabulary;

#[cfg(feature = "train")]
pub use answers::{Accuracy, Edits, Prompt, accuracy, answers};
pub use budget::{Budget, Found, least_bytes};
#[cfg(feature = "train")]
pub use fit::{Candidate, Fit, Fitted, Limits, Observer, Trial, unfinished};
pub use importance::Importance;
#[cfg(feature = "train")]
pub use learn::{Learn, LearnOptions, Step, checkpoint_of};
pub use measure::{Divergence, Estimate, Measure, Measured, Open};
pub use observe::observe;
pub use quantize::{Quantized, Recipe, Rounding, RoundingError, quantize};
#[cfg(feature = "train")]
pub(crate) use random::Random;
pub use random::{RandomModel, write_random};
pub use sequences::{DOCUMENT_END, Progress, Sequences};
pub use shape::Shape;
pub use tasks::{Analogies, MinimalPair, analogies, minimal_pairs, similarities, spearman};
pub use vocabulary::TokenMap;
