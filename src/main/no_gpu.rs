//! A program built without the feature `gpu`.

use attar::backend::Backend;
use attar::{Error, Gguf, Options, Result};
use serde_json::Value;

fn none() -> Error {
    Error::Unsupported("graphics devices: built without the feature 'gpu'".into())
}

pub(super) fn backend(
    _: &Gguf,
    _: &Options,
    _: Option<usize>,
    _: Option<usize>,
) -> Result<Box<dyn Backend>> {
    Err(none())
}

pub(super) fn first_hardware() -> Result<usize> {
    Err(none())
}

pub(super) fn list() -> Vec<Value> {
    Vec::new()
}
