//! Training: gradients through the one model definition, an optimiser, losses and checkpoints.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "runs on a computer")]

mod checkpoint;
mod loss;
mod optimizer;
mod product;
mod shape;
pub mod tape;
mod trainer;
mod vocabulary;

pub use loss::{Direction, Loss};
pub use optimizer::AdamOptions;
pub use shape::{write_forgotten, write_fresh};
pub use tape::{Tape, TapeOptions};
pub use trainer::{StepReport, Teacher, Trainer, TrainerOptions};
pub use vocabulary::{Fallback, Spelling, Vocabulary, VocabularyOptions};
