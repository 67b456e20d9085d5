//! A build that knows no graphics devices.

use super::failure::{Outcome, Status, failure};
use crate::{Gguf, Options, Result, Session};

/// There is none.
#[derive(Clone, Copy)]
pub(super) enum Graphics {}

impl Graphics {
    pub(super) fn new() -> Outcome<Self> {
        Err(failure(Status::Unsupported, "graphics devices in this build"))
    }

    pub(super) fn open(self, _: &Gguf, _: &Options) -> Result<Session> {
        match self {}
    }
}
