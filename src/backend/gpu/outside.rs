//! A graphics device beside arenas: what its driver allocates comes from the system.
//!
//! A driver keeps memory as it likes, passes it between threads and caches it beyond any session. So all
//! that is asked of the device, its end included, is asked [`outside`] of the arena at work.

use super::Gpu;
use crate::Result;
use crate::backend::pair::{Device, Handle, Operand, Operation, load, loads, operations};
use crate::backend::{
    Backend, Cache, CacheShape, NormShape, Rotary, RotaryShape, RouteShape, Routing, Row, View,
    Weight,
};
use crate::gguf::Tensor;
use crate::memory::{boxed, outside};

/// A graphics device. It is as the device to whoever uses it.
pub(crate) struct Outside {
    /// `None` only while it is dropped.
    device: Option<Device>,
}

impl Outside {
    /// The device that `make` makes.
    ///
    /// # Errors
    /// [`crate::Error::Memory`].
    pub(crate) fn new(make: impl FnOnce() -> Gpu) -> Result<Self> {
        let device = outside(|| boxed(make()))?;
        Ok(Self { device: Some(Device::new(device)) })
    }

    fn device(&self) -> &Device {
        let Some(device) = &self.device else { unreachable!("it is not being dropped") };
        device
    }

    fn device_mut(&mut self) -> &mut Device {
        let Some(device) = &mut self.device else { unreachable!("it is not being dropped") };
        device
    }

    fn load<T: Handle>(&mut self, take: &dyn Fn(&mut dyn Backend) -> Result<T>) -> Result<T> {
        let device = std::slice::from_mut(self.device_mut());
        outside(|| load(device, &[true], take))
    }

    fn run(&mut self, _operation: &Operation<'_>, call: &dyn Fn(&mut Device)) {
        let device = self.device_mut();
        outside(|| call(device));
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let device = self.device.take();
        outside(|| drop(device));
    }
}

impl Backend for Outside {
    fn name(&self) -> &str {
        self.device().backend.name()
    }

    fn seal(&mut self, rows: usize) -> Result<()> {
        outside(|| self.device_mut().backend.seal(rows))
    }

    fn claimed_bytes(&self) -> usize {
        self.device().backend.claimed_bytes()
    }

    fn cache_bytes(&self) -> usize {
        self.device().backend.cache_bytes()
    }

    fn device_bytes(&self) -> usize {
        self.device().backend.device_bytes()
    }

    fn cached(&self, cache: Cache, positions: usize, each: &mut dyn FnMut(&[u8])) {
        let Device { backend, handles } = self.device();
        outside(|| backend.cached(cache.on(handles), positions, each));
    }

    fn restore(&mut self, cache: Cache, positions: usize, fill: &mut dyn FnMut(&mut [u8])) {
        let Device { backend, handles } = self.device_mut();
        outside(|| backend.restore(cache.on(handles), positions, fill));
    }

    fn read(&mut self, x: View) -> Result<&[f32]> {
        outside(|| self.device_mut().read(x))
    }

    fn largest_max(&self) -> usize {
        self.device().backend.largest_max()
    }

    fn largest(&mut self, x: View, count: usize) -> Result<&[(f32, u32)]> {
        let Device { backend, handles } = self.device_mut();
        outside(|| backend.largest(handles.rows(x), count))
    }

    loads!(vector weight buffer cache rotary routing);
    operations!();
}
