//! Attar: an embedded language-model runtime. It maps a GGUF file and runs it with hand-written
//! kernels, in the memory it claimed when it was opened.
//!
//! ```no_run
//! use attar::{Gguf, Options, Sampler, SamplerOptions, Session, Tokenizer};
//!
//! let gguf = Gguf::open("model.gguf".as_ref())?;
//! let tokenizer = Tokenizer::load(&gguf)?;
//! let mut session = Session::open(&gguf, &Options::default())?;
//! let mut sampler = Sampler::new(&SamplerOptions::default(), session.vocab_len())?;
//! let mut ids = tokenizer.encode(b"Once upon a time", true, false)?;
//! while !tokenizer.is_end_of_text(ids[ids.len() - 1]) {
//!     let mut logits = session.feed(&ids)?.to_vec();
//!     ids = vec![sampler.sample(&mut logits)];
//!     print!("{}", String::from_utf8_lossy(&tokenizer.piece(ids[0])?));
//! }
//! # Ok::<(), attar::Error>(())
//! ```
//!
//! The layers, lowest first; each uses only those above it in this list:
//!
//! | | |
//! |---|---|
//! | [`kernels`] | block formats and SIMD, a crate of its own |
//! | [`Error`], [`memory`], [`bytes`] | what goes wrong; where memory comes from; where the bytes are |
//! | [`gguf`], [`tokenizer`], [`sampler`] | files, text to tokens and back, logits to a token |
//! | [`backend`] | what a device can do |
//! | [`model`] | what a model is, written once against a device |
//! | [`arch`] | families: from a file's keys and names to a model |
//! | [`session`] | a model and a place in a text |
//! | `compress`, `train` | models made smaller, and trained |
//! | `capi` | the C interface, which `include/attar.h` describes |
#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(not(test), deny(clippy::disallowed_macros, clippy::disallowed_methods))]

extern crate alloc;

pub mod arch;
pub mod backend;
pub mod bytes;
#[cfg(feature = "capi")]
mod capi;
#[cfg(feature = "std")]
pub mod compress;
mod error;
pub mod gguf;
pub mod memory;
pub mod model;
pub mod sampler;
pub mod session;
pub mod tokenizer;
#[cfg(feature = "train")]
pub mod train;

pub use attar_kernels as kernels;

pub use attar_kernels::Format;
pub use error::{Error, Result};
pub use gguf::Gguf;
pub use sampler::{Sampler, SamplerOptions};
pub use session::{Options, Session};
pub use tokenizer::Tokenizer;

/// The README's tour is compiled with the documentation's examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
