//! Sessions on a graphics device, in a build that knows none.

use crate::{Error, Gguf, Options, Result, Session};

pub(super) fn open(_gguf: &Gguf, _options: &Options) -> Result<Session> {
    Err(Error::Unsupported("graphics devices in this build".into()))
}
