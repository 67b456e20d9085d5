//! A graphics device for a model, or as much of the model as it has room for.

use super::{Options, Session};
use crate::backend::{Backend, Cpu, CpuOptions, Gpu, GpuOptions, Outside, Split};
use crate::gguf::Gguf;
use crate::memory::{self, boxed, name, text};
use crate::{Error, Result};
use alloc::boxed::Box;

/// How many layers go to a graphics device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuLayers {
    /// As many of the first as it has room for; input table and head too if all fit.
    Auto,
    /// The first so many; more than there are stands for everything.
    First(usize),
}

/// An open device, and what of a model it shall run.
struct Choice {
    device: Gpu,
    layers: usize,
    /// Whether that is everything.
    whole: bool,
}

impl Options {
    /// A graphics device for the model of a file, the CPU beside it for the layers it has no room for or
    /// cannot run. Where memory is only measured, the device claims none either.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no device, or no room for one layer; those of [`Session::open`].
    pub fn gpu(
        &self,
        gguf: &Gguf,
        gpu: &GpuOptions,
        layers: GpuLayers,
    ) -> Result<Box<dyn Backend>> {
        let measures = memory::measures();
        let Choice { device, layers, whole } =
            memory::outside(|| self.choose_layers(gguf, gpu, layers))?;
        let device = boxed(Outside::new(|| if measures { device.planner() } else { device })?)?;
        if whole {
            return Ok(device);
        }
        Ok(boxed(Split::new(device, self.cpu()?, layers))?)
    }

    fn choose_layers(&self, gguf: &Gguf, gpu: &GpuOptions, layers: GpuLayers) -> Result<Choice> {
        let device = Gpu::open(gpu)?;
        let key = name!("{}.block_count", gguf.architecture()?);
        let all = gguf.usize(&key)?.unwrap_or(0);
        let layers = match layers {
            GpuLayers::First(n) => n,
            GpuLayers::Auto => self.layers_with_room(gguf, &device, all)?,
        };
        log::info!("{} of {all} layers on {}", layers.min(all), device.name());
        let alone = || Ok::<Box<dyn Backend>, Error>(boxed(device.planner())?);
        // What the device does not take runs on the CPU.
        let whole = layers > all && Session::plan_on(gguf, self, &alone).is_ok();
        Ok(Choice { device, layers, whole })
    }

    /// How many of the first layers the device has room for; one more than there are if it has for all
    /// that is no layer too.
    fn layers_with_room(&self, gguf: &Gguf, device: &Gpu, all: usize) -> Result<usize> {
        let fits = |n: usize| Ok::<_, Error>(device.has_room(self.gpu_bytes(gguf, device, n)?));
        if fits(all + 1)? {
            return Ok(all + 1);
        }
        // The more layers, the more bytes.
        let (mut some, mut too_many) = (0, all + 1);
        while too_many - some > 1 {
            let middle = (some + too_many) / 2;
            if fits(middle)? {
                some = middle;
            } else {
                too_many = middle;
            }
        }
        if some == 0 {
            let what = text!("{} has no room for a layer of this model", device.name());
            return Err(Error::Device(what));
        }
        Ok(some)
    }

    /// Bytes a device needs for the first `layers`, nothing of which is claimed.
    fn gpu_bytes(&self, gguf: &Gguf, device: &Gpu, layers: usize) -> Result<usize> {
        let make = || -> Result<Box<dyn Backend>> {
            let cpu = Cpu::new(CpuOptions { threads: 1, ..self.cpu_options() })?;
            Ok(boxed(Split::new(boxed(device.planner())?, boxed(cpu)?, layers))?)
        };
        Ok(Session::plan_on(gguf, self, &make)?.device_bytes)
    }
}
