//! Without an operating system there are no threads to start.

use super::Job;
use crate::{Error, Result};

/// Never made.
#[derive(Debug)]
pub(super) enum Pool {}

impl Pool {
    /// The caller's thread.
    pub(super) fn threads_for(_wanted: usize) -> usize {
        1
    }

    pub(super) fn start(_threads: usize) -> Result<Self> {
        Err(Error::Unsupported("threads of our own without an operating system".into()))
    }

    pub(super) fn run(&mut self, _job: &Job<'_>) {
        match *self {}
    }
}
