//! A list of dispatches, and sending it: one compute pass, one submission.

use super::device::Device;
use super::encode::PARAMS_BYTES;
use super::memory::{Id, Memory};
use super::shaders::{Key, Pipelines};
use crate::Result;
use std::collections::HashMap;

/// Dispatches of a list at most; a longer one is sent in parts.
const DISPATCHES: usize = 4096;

struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    grid: [u32; 3],
}

/// Bytes of a buffer to be copied to where the host can read them.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    pub(super) from: Id,
    pub(super) start: u64,
    pub(super) bytes: u64,
}

pub(super) struct Recorder {
    pipelines: Pipelines,
    /// Made once for each pipeline with each set of buffers.
    bind_groups: HashMap<(usize, Vec<Id>), wgpu::BindGroup>,
    list: Vec<Dispatch>,
    params: Vec<u8>,
    params_buffer: wgpu::Buffer,
    /// What the host reads from.
    staging: wgpu::Buffer,
    /// Dispatches and submissions so far.
    pub(super) dispatches: u64,
    pub(super) submissions: u64,
}

impl Recorder {
    /// `staging_bytes` can be read at a time.
    pub(super) fn new(device: &Device, staging_bytes: u64) -> Result<Self> {
        let make = |size, usage| {
            let descriptor =
                wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
            device.scoped("a buffer", || device.device.create_buffer(&descriptor))
        };
        let copied = wgpu::BufferUsages::COPY_DST;
        Ok(Self {
            pipelines: Pipelines::default(),
            bind_groups: HashMap::new(),
            list: Vec::with_capacity(DISPATCHES),
            params: Vec::with_capacity(DISPATCHES * PARAMS_BYTES),
            params_buffer: make(
                (DISPATCHES * PARAMS_BYTES) as u64,
                wgpu::BufferUsages::UNIFORM | copied,
            )?,
            staging: make(staging_bytes, wgpu::BufferUsages::MAP_READ | copied)?,
            dispatches: 0,
            submissions: 0,
        })
    }

    /// Bytes of its own buffers on the device.
    pub(super) fn bytes(staging_bytes: u64) -> u64 {
        (DISPATCHES * PARAMS_BYTES) as u64 + staging_bytes
    }

    /// Appends a dispatch; a grid of nothing is none.
    pub(super) fn push(
        &mut self,
        device: &Device,
        memory: &Memory,
        key: &Key,
        buffers: &[Id],
        params: &[u32],
        grid: [u32; 3],
    ) -> Result<()> {
        if grid.contains(&0) {
            return Ok(());
        }
        if self.list.len() == DISPATCHES {
            self.submit(device, memory, None);
        }
        let pipeline = self.pipelines.get(device, key)?;
        let place = (pipeline.index, buffers.to_vec());
        if !self.bind_groups.contains_key(&place) {
            let group = bind(device, memory, &pipeline.layout, &self.params_buffer, buffers)?;
            self.bind_groups.insert(place.clone(), group);
        }
        let bindings = self.bind_groups[&place].clone();
        self.list.push(Dispatch { pipeline: pipeline.pipeline.clone(), bindings, grid });
        self.params.extend_from_slice(bytemuck::cast_slice(params));
        self.params.resize(self.list.len() * PARAMS_BYTES, 0);
        Ok(())
    }

    /// Sends what was recorded, and a copy of bytes to be read behind it.
    pub(super) fn submit(&mut self, device: &Device, memory: &Memory, reading: Option<Reading>) {
        if self.list.is_empty() && reading.is_none() {
            return;
        }
        device.queue.write_buffer(&self.params_buffer, 0, &self.params);
        let mut encoder = device.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for (i, dispatch) in self.list.iter().enumerate() {
            pass.set_pipeline(&dispatch.pipeline);
            pass.set_bind_group(0, &dispatch.bindings, &[(i * PARAMS_BYTES) as u32]);
            let [x, y, z] = dispatch.grid;
            pass.dispatch_workgroups(x, y, z);
        }
        drop(pass);
        if let Some(Reading { from, start, bytes }) = reading {
            let from = memory.buffer(from);
            encoder.copy_buffer_to_buffer(from, start, &self.staging, 0, bytes);
        }
        device.queue.submit([encoder.finish()]);
        self.dispatches += self.list.len() as u64;
        self.submissions += 1;
        self.list.clear();
        self.params.clear();
    }

    /// Sends what was recorded, waits, and hands bytes of a buffer to `each`, as many at a time as the
    /// staging buffer holds.
    pub(super) fn read(
        &mut self,
        device: &Device,
        memory: &Memory,
        reading: Reading,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        let first = reading.bytes.min(self.staging.size());
        self.submit(device, memory, Some(Reading { bytes: first, ..reading }));
        take(device, &self.staging, first, each)?;
        let (start, bytes) = (reading.start + first, reading.bytes - first);
        self.peek(device, memory, Reading { start, bytes, ..reading }, each)
    }

    /// The same for what is on the device already; what was recorded stays.
    pub(super) fn peek(
        &self,
        device: &Device,
        memory: &Memory,
        reading: Reading,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        let mut done = 0;
        while done < reading.bytes {
            let bytes = (reading.bytes - done).min(self.staging.size());
            let mut encoder = device.device.create_command_encoder(&Default::default());
            let from = memory.buffer(reading.from);
            encoder.copy_buffer_to_buffer(from, reading.start + done, &self.staging, 0, bytes);
            device.queue.submit([encoder.finish()]);
            take(device, &self.staging, bytes, each)?;
            done += bytes;
        }
        Ok(())
    }
}

/// Waits for the staging buffer and hands out its first `bytes`.
fn take(
    device: &Device,
    staging: &wgpu::Buffer,
    bytes: u64,
    each: &mut dyn FnMut(&[u8]),
) -> Result<()> {
    staging.map_async(wgpu::MapMode::Read, ..bytes, |_| {}); // a failure shows below
    device.wait()?;
    let mapped = staging.get_mapped_range(..bytes);
    let mapped = mapped.map_err(|e| device.failed(&e.to_string()))?;
    each(&mapped);
    drop(mapped);
    staging.unmap();
    Ok(())
}

fn bind(
    device: &Device,
    memory: &Memory,
    layout: &wgpu::BindGroupLayout,
    params: &wgpu::Buffer,
    buffers: &[Id],
) -> Result<wgpu::BindGroup> {
    let params = wgpu::BufferBinding {
        buffer: params,
        offset: 0,
        size: std::num::NonZeroU64::new(PARAMS_BYTES as u64),
    };
    let mut entries =
        vec![wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(params) }];
    entries.extend(buffers.iter().enumerate().map(|(i, id)| wgpu::BindGroupEntry {
        binding: i as u32 + 1,
        resource: memory.buffer(*id).as_entire_binding(),
    }));
    let descriptor = wgpu::BindGroupDescriptor { label: None, layout, entries: &entries };
    device.scoped("a bind group", || device.device.create_bind_group(&descriptor))
}
