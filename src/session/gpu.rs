//! A graphics device for a model, or as much of the model as it has room for.

use super::{Options, Session};
use crate::backend::{Backend, Cpu, CpuOptions, Gpu, GpuOptions, Split};
use crate::gguf::Gguf;
use crate::memory::{boxed, name, text};
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

impl Options {
    /// A graphics device for the model of a file, the CPU beside it for the layers it has no room for or
    /// cannot run.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no device, or no room for one layer; those of [`Session::open`].
    pub fn gpu(
        &self,
        gguf: &Gguf,
        gpu: &GpuOptions,
        layers: GpuLayers,
    ) -> Result<Box<dyn Backend>> {
        let device = Gpu::open(gpu)?;
        let key = name!("{}.block_count", gguf.architecture()?);
        let all = gguf.usize(&key)?.unwrap_or(0);
        let fits = |n: usize| Ok::<_, Error>(device.has_room(self.gpu_bytes(gguf, &device, n)?));
        let count = match layers {
            GpuLayers::First(n) => n,
            GpuLayers::Auto if fits(all + 1)? => all + 1,
            GpuLayers::Auto => {
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
                some
            }
        };
        if count == 0 && layers == GpuLayers::Auto {
            let what = text!("{} has no room for a layer of this model", device.name());
            return Err(Error::Device(what));
        }
        log::info!("{} of {all} layers on {}", count.min(all), device.name());
        let whole = || Ok::<Box<dyn Backend>, Error>(boxed(device.planner())?);
        // What the device does not take runs on the CPU.
        let takes_all = count > all && Session::plan_on(gguf, self, &whole).is_ok();
        let device = boxed(device)?;
        if takes_all {
            return Ok(device);
        }
        Ok(boxed(Split::new(device, self.cpu()?, count))?)
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
