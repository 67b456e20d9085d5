//! Graphics devices for the program.

use attar::backend::{Backend, Gpu, GpuOptions};
use attar::session::GpuLayers;
use attar::{Error, Gguf, Options, Result};
use serde_json::{Value, json};

/// A graphics device for a model.
pub(super) fn backend(
    gguf: &Gguf,
    options: &Options,
    index: Option<usize>,
    layers: Option<usize>,
) -> Result<Box<dyn Backend>> {
    let layers = layers.map_or(GpuLayers::Auto, GpuLayers::First);
    options.gpu(gguf, &GpuOptions { index, ..GpuOptions::default() }, layers)
}

/// The first graphics device that is no program.
pub(super) fn first_hardware() -> Result<usize> {
    let none = || Error::Device("no graphics device".into());
    Gpu::devices().iter().position(|device| device.kind != "program").ok_or_else(none)
}

/// All graphics devices.
pub(super) fn list() -> Vec<Value> {
    let describe = |device: &attar::backend::DeviceInfo| {
        json!({
            "name": device.name,
            "interface": device.interface,
            "kind": device.kind,
            "driver": device.driver,
            "binding_bytes_max": device.binding_bytes_max,
            "buffer_bytes_max": device.buffer_bytes_max,
            "features": device.features,
        })
    };
    Gpu::devices().iter().map(describe).collect()
}
