//! Sessions on a graphics device.

use super::failure::Outcome;
use crate::backend::GpuOptions;
use crate::session::GpuLayers;
use crate::{Gguf, Options, Result, Session};

/// The first device that is no program, and the CPU for what it has no room for.
#[derive(Clone, Copy)]
pub(super) struct Graphics;

impl Graphics {
    /// Whether there is one shows when a session is opened.
    pub(super) fn new() -> Outcome<Self> {
        Ok(Self)
    }

    pub(super) fn open(self, gguf: &Gguf, options: &Options) -> Result<Session> {
        let backend = options.gpu(gguf, &GpuOptions::default(), GpuLayers::Auto)?;
        Session::open_on(gguf, options, backend)
    }
}
