//! Architectures: one loader a family, one row a name.
//!
//! To add a family made of known blocks:
//!
//! 1. Write `src/arch/x.rs`: a function from [`Loader`] to [`Decoder`] that reads the family's keys
//!    and tensor names. `llama.rs` is the shortest example.
//! 2. Add `mod x;` and a row to [`ARCHITECTURES`] here.
//! 3. Add a tiny checkpoint with its expected logits by `tests/golden/make.py`.

mod deci;
mod dims;
mod llama;
mod loader;
mod qwen;

pub use dims::Dims;
pub use loader::{LoadOptions, Loader};

use crate::backend::Backend;
use crate::gguf::Gguf;
use crate::memory::text;
use crate::model::Decoder;
use crate::{Error, Result};
use core::fmt;

/// One architecture.
pub struct Architecture {
    /// As in the file's `general.architecture`.
    pub name: &'static str,
    /// Reads the file.
    pub load: fn(&mut Loader<'_>) -> Result<Decoder>,
    /// The architecture with the same dense layers, each of widths of its own, if runtimes know one.
    pub uneven: Option<&'static str>,
}

/// All architectures.
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture { name: "deci", load: deci::load, uneven: Some("deci") },
    Architecture { name: "llama", load: llama::load, uneven: Some("deci") },
    Architecture { name: "qwen2", load: qwen::load_2, uneven: None },
    Architecture { name: "qwen2moe", load: qwen::load_2_moe, uneven: None },
    Architecture { name: "qwen3", load: qwen::load_3, uneven: None },
    Architecture { name: "qwen3moe", load: qwen::load_3_moe, uneven: None },
];

/// The names of all architectures.
struct Known;

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ARCHITECTURES.iter().enumerate().try_for_each(|(i, row)| {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{}", row.name)
        })
    }
}

/// The architecture of a file.
///
/// # Errors
/// [`Error::Unsupported`] if it is not known.
pub fn of(gguf: &Gguf) -> Result<&'static Architecture> {
    let name = gguf.architecture()?;
    ARCHITECTURES
        .iter()
        .find(|row| row.name == name)
        .ok_or_else(|| Error::Unsupported(text!("architecture '{name}'; this build runs {Known}")))
}

/// Reads the model of a file onto a device.
///
/// # Errors
/// [`Error::Unsupported`] if the architecture is not known, and whatever its loader finds wrong.
pub fn load(gguf: &Gguf, backend: &mut dyn Backend, options: &LoadOptions) -> Result<Decoder> {
    let row = of(gguf)?;
    let mut loader = Loader::new(gguf, backend, options, row.name)?;
    let decoder = (row.load)(&mut loader)?;
    backend.seal(decoder.shape.batch_len)?;
    Ok(decoder)
}
