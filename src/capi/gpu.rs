//! Sessions on a graphics device.

use crate::backend::GpuOptions;
use crate::session::GpuLayers;
use crate::{Gguf, Options, Result, Session};

/// A session on the first device that is no program, and on the CPU for what it has no room for.
pub(super) fn open(gguf: &Gguf, options: &Options) -> Result<Session> {
    let backend = options.gpu(gguf, &GpuOptions::default(), GpuLayers::Auto)?;
    Session::open_on(gguf, options, backend)
}
