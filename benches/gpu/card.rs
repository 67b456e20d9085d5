//! What a graphics device can do at most, through plain calls and one shader: copied bytes, and multiplied
//! and added f32.

use super::{Result, median_rate};
use attar::Error;

/// Chains of multiply-adds that do not wait for each other, of vectors of four.
const CHAINS: u64 = 8;
/// Steps of each chain in a lane.
const STEPS: u64 = 512;
/// Lanes of a dispatch: some times what the largest cards keep at work.
const WORKGROUPS: u64 = 4096;
const LANES: u64 = 256;

/// A device, opened beside the one that is measured.
pub(super) struct Card {
    device: wgpu::Device,
    queue: wgpu::Queue,
    copy_bytes_max: u64,
}

impl Card {
    /// The device of this index and name.
    pub(super) fn open(index: usize, name: &str) -> Result<Self> {
        let failed = |what: String| Error::Device(what.into());
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
        let instance = wgpu::Instance::new(descriptor);
        let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
        let adapter = adapters.into_iter().nth(index).filter(|a| a.get_info().name == name);
        let adapter = adapter.ok_or_else(|| failed(format!("device {index} is no more {name}")))?;
        let limits = adapter.limits();
        let copy_bytes_max = limits.max_buffer_size;
        let descriptor = wgpu::DeviceDescriptor { required_limits: limits, ..Default::default() };
        let opened = pollster::block_on(adapter.request_device(&descriptor));
        let (device, queue) = opened.map_err(|e| failed(format!("cannot open {name}: {e}")))?;
        Ok(Self { device, queue, copy_bytes_max })
    }

    /// Bytes a second read and written, in copies of `bytes`.
    pub(super) fn copy_rate(&self, bytes: u64, rounds: usize) -> Result<f64> {
        let bytes = bytes.min(self.copy_bytes_max) / 4 * 4;
        let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let [from, to] = [(); 2].map(|()| self.buffer(bytes, usage));
        let rate = median_rate(rounds, |repeats| {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            for _ in 0..repeats {
                encoder.copy_buffer_to_buffer(&from, 0, &to, 0, bytes);
            }
            self.run(encoder)
        })?;
        Ok(rate * 2.0 * bytes as f64)
    }

    /// Floating-point operations a second, a multiply-add being two.
    pub(super) fn peak_flops(&self, rounds: usize) -> Result<f64> {
        let out = self.buffer(WORKGROUPS * LANES * 4, wgpu::BufferUsages::STORAGE);
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(include_str!("fma.wgsl").into()),
        };
        let module = self.device.create_shader_module(descriptor);
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: Default::default(),
            cache: None,
        });
        let bindings = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: out.as_entire_binding() }],
        });
        let rate = median_rate(rounds, |repeats| {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &bindings, &[]);
            for _ in 0..repeats {
                pass.dispatch_workgroups(WORKGROUPS as u32, 1, 1);
            }
            drop(pass);
            self.run(encoder)
        })?;
        Ok(rate * (WORKGROUPS * LANES * CHAINS * STEPS * 4 * 2) as f64)
    }

    fn buffer(&self, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let descriptor =
            wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        self.device.create_buffer(&descriptor)
    }

    fn run(&self, encoder: wgpu::CommandEncoder) -> Result<()> {
        self.queue.submit([encoder.finish()]);
        let waited = self.device.poll(wgpu::PollType::wait_indefinitely());
        waited.map(|_| ()).map_err(|e| Error::Device(e.to_string().into()))
    }
}
