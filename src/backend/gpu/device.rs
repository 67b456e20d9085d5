//! A graphics device: which there are, opening one, and turning its errors into values.
#![allow(unsafe_code, reason = "only the interface below says whether bytes are multiplied")]

use crate::{Error, Result};
use std::sync::{Arc, Mutex};

/// Which device, and what of it to use.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// Index into [`Gpu::devices`](super::Gpu::devices); the first that is not a program by default.
    pub index: Option<usize>,
    /// Use nothing beyond what WebGPU guarantees everywhere: its default limits, no optional feature.
    pub baseline: bool,
    /// Bind at most this many bytes of a buffer, if less than the device can.
    pub binding_bytes_max: Option<u64>,
}

/// A device that could be opened.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// Name, as its driver says.
    pub name: String,
    /// The interface it is reached by, such as "vulkan".
    pub interface: String,
    /// Discrete, integrated, virtual, a program on the CPU, or other.
    pub kind: &'static str,
    /// Driver and version.
    pub driver: String,
    /// Most bytes of a buffer that a shader can see at once.
    pub binding_bytes_max: u64,
    /// Most bytes of a buffer.
    pub buffer_bytes_max: u64,
    /// Optional features that kernels use here.
    pub features: Vec<&'static str>,
}

/// An open device.
pub(super) struct Device {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) info: DeviceInfo,
    pub(super) subgroups: bool,
    /// Whether its instructions multiply bytes four at a time.
    pub(super) byte_products: bool,
    /// Whether shaders have f16.
    pub(super) halves: bool,
    /// Whether they have units for matrices of the size that `shaders/tile/matrices.wgsl` multiplies.
    pub(super) matrices: bool,
    pub(super) binding_bytes_max: u64,
    /// The first error that came outside a scope.
    failure: Arc<Mutex<Option<String>>>,
}

/// Room is looked for in pieces of this size, and never for more than any device has.
const ROOM_STEP_BYTES: u64 = 1 << 28;
const ROOM_BYTES_MAX: u64 = 1 << 40;

/// As Vulkan numbers its versions.
const VULKAN_1_3: u32 = 1 << 22 | 3 << 12;

const MATRIX_FEATURES: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::SUBGROUP);

/// Names of features.
const BYTE_PRODUCTS: &str = "dot4I8Packed";
const HALVES: &str = "f16";
const MATRICES: &str = "cooperative matrices";

fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    // An error while there is still some memory is better than a device that pages.
    descriptor.memory_budget_thresholds.for_resource_creation = Some(95);
    wgpu::Instance::new(descriptor)
}

fn adapters() -> Vec<wgpu::Adapter> {
    pollster::block_on(instance().enumerate_adapters(wgpu::Backends::all()))
}

fn describe(adapter: &wgpu::Adapter) -> DeviceInfo {
    let (info, limits) = (adapter.get_info(), adapter.limits());
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete",
        wgpu::DeviceType::IntegratedGpu => "integrated",
        wgpu::DeviceType::VirtualGpu => "virtual",
        wgpu::DeviceType::Cpu => "program",
        wgpu::DeviceType::Other => "other",
    };
    let has = |feature| adapter.features().contains(feature);
    let features = [
        (has(wgpu::Features::SUBGROUP), "subgroups"),
        (has(wgpu::Features::SHADER_F16), HALVES),
        (has_byte_products(adapter), BYTE_PRODUCTS),
        (has(MATRIX_FEATURES) && has_matrices(adapter), MATRICES),
    ];
    DeviceInfo {
        name: info.name,
        interface: info.backend.to_string(),
        kind,
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        binding_bytes_max: limits.max_storage_buffer_binding_size,
        buffer_bytes_max: limits.max_buffer_size,
        features: features.into_iter().filter_map(|(has, name)| has.then_some(name)).collect(),
    }
}

/// Whether 16 x 16 matrices of f16 are multiplied and added to f32, by subgroups of 32 lanes and no others.
fn has_matrices(adapter: &wgpu::Adapter) -> bool {
    let info = adapter.get_info();
    let subgroups = [info.subgroup_min_size, info.subgroup_max_size];
    are_of_size(subgroups, &adapter.cooperative_matrix_properties())
}

fn are_of_size(subgroups: [u32; 2], listed: &[wgpu::CooperativeMatrixProperties]) -> bool {
    let size = wgpu::CooperativeMatrixProperties {
        m_size: 16,
        n_size: 16,
        k_size: 16,
        ab_type: wgpu::CooperativeScalarType::F16,
        cr_type: wgpu::CooperativeScalarType::F32,
        saturating_accumulation: false,
    };
    subgroups == [32; 2] && listed.contains(&size)
}

/// Whether `dot4I8Packed` is an instruction. Vulkan has it from 1.3 on; of the other interfaces nobody says,
/// and there it may be many instructions.
fn has_byte_products(adapter: &wgpu::Adapter) -> bool {
    #[cfg(any(windows, target_os = "linux", target_os = "android", target_os = "freebsd"))]
    {
        // SAFETY: the adapter is looked at and not touched.
        let vulkan = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() };
        vulkan.is_some_and(|adapter| {
            adapter.physical_device_capabilities().properties().api_version >= VULKAN_1_3
        })
    }
    #[cfg(not(any(windows, target_os = "linux", target_os = "android", target_os = "freebsd")))]
    {
        let _ = adapter;
        false
    }
}

/// All devices, in the system's order.
pub(super) fn devices() -> Vec<DeviceInfo> {
    adapters().iter().map(describe).collect()
}

impl Device {
    /// `experimental`: with what may turn out not to work.
    pub(super) fn open(options: &GpuOptions, experimental: bool) -> Result<Self> {
        let mut adapters = adapters();
        let count = adapters.len();
        let is_hardware = |a: &wgpu::Adapter| a.get_info().device_type != wgpu::DeviceType::Cpu;
        let index =
            options.index.unwrap_or_else(|| adapters.iter().position(is_hardware).unwrap_or(0));
        if index >= count {
            let what = match count {
                0 => "no graphics device: no driver was found".to_owned(),
                _ => format!("graphics device {index}, expected one below {count}"),
            };
            return Err(failed(&what));
        }
        let adapter = adapters.swap_remove(index);
        let mut info = describe(&adapter);
        let (mut limits, mut features) =
            (adapter.limits(), wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16);
        if options.baseline {
            (limits, features) = (wgpu::Limits::default(), wgpu::Features::empty());
            info.features.clear();
        }
        info.features.retain(|feature| experimental || *feature != MATRICES);
        let [byte_products, halves, matrices] =
            [BYTE_PRODUCTS, HALVES, MATRICES].map(|name| info.features.contains(&name));
        let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
        if matrices {
            features |= MATRIX_FEATURES;
            // SAFETY: of the experimental features this one is used, and not before its results were right.
            experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
        }
        let features = features & adapter.features();
        let descriptor = wgpu::DeviceDescriptor {
            required_features: features,
            required_limits: limits.clone(),
            experimental_features,
            ..Default::default()
        };
        let opened = pollster::block_on(adapter.request_device(&descriptor));
        let (device, queue) =
            opened.map_err(|e| failed(&format!("cannot open {}: {e}", info.name)))?;
        let failure = Arc::new(Mutex::new(None));
        let (uncaptured, lost) = (Arc::clone(&failure), Arc::clone(&failure));
        device
            .on_uncaptured_error(Arc::new(move |e: wgpu::Error| note(&uncaptured, &e.to_string())));
        device.set_device_lost_callback(move |_, why| note(&lost, &format!("device lost: {why}")));
        let most = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let binding_bytes_max = options.binding_bytes_max.map_or(most, |bytes| bytes.min(most));
        let subgroups = features.contains(wgpu::Features::SUBGROUP);
        Ok(Self {
            device,
            queue,
            info,
            subgroups,
            byte_products,
            halves,
            matrices,
            binding_bytes_max,
            failure,
        })
    }

    /// Runs what makes something on the device; an error there is this function's.
    pub(super) fn scoped<T>(&self, what: &str, make: impl FnOnce() -> T) -> Result<T> {
        let scopes = [
            wgpu::ErrorFilter::Validation,
            wgpu::ErrorFilter::OutOfMemory,
            wgpu::ErrorFilter::Internal,
        ]
        .map(|filter| self.device.push_error_scope(filter));
        let made = make();
        let mut error = None;
        for scope in scopes.into_iter().rev() {
            error = pollster::block_on(scope.pop()).or(error);
        }
        match error {
            None => Ok(made),
            Some(e) => Err(failed(&format!("cannot make {what} on {}: {e}", self.info.name))),
        }
    }

    /// Whether the device has room for `bytes` more; claims and gives back as much to find out.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        if bytes > ROOM_BYTES_MAX {
            return false;
        }
        let mut taken = Vec::new();
        let mut left = bytes;
        while left > 0 {
            let size = left.min(self.binding_bytes_max).min(ROOM_STEP_BYTES).next_multiple_of(16);
            let usage = wgpu::BufferUsages::STORAGE;
            let descriptor =
                wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
            let made = self.scoped("room", || self.device.create_buffer(&descriptor));
            let Ok(buffer) = made else { return false };
            taken.push(buffer);
            left = left.saturating_sub(size);
        }
        true
    }

    /// The first error of work that was not waited for, if there was one.
    pub(super) fn check(&self) -> Result<()> {
        match &*self.failure.lock().unwrap_or_else(|e| e.into_inner()) {
            None => Ok(()),
            Some(why) => Err(self.failed(why)),
        }
    }

    /// An error of this device.
    pub(super) fn failed(&self, why: &str) -> Error {
        failed(&format!("{} failed: {why}", self.info.name))
    }

    /// Notes an error of work that cannot return one.
    pub(super) fn note(&self, error: &Error) {
        note(&self.failure, &error.to_string());
    }

    /// Waits until all work is done.
    pub(super) fn wait(&self) -> Result<()> {
        let waited = self.device.poll(wgpu::PollType::wait_indefinitely());
        waited.map_err(|e| self.failed(&e.to_string()))?;
        self.check()
    }
}

fn note(failure: &Mutex<Option<String>>, why: &str) {
    failure.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert_with(|| why.to_owned());
}

fn failed(why: &str) -> Error {
    Error::Device(why.to_owned().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgpu::CooperativeScalarType::{F16, F32};

    #[test]
    fn matrices_of_another_size_or_kind_are_left_alone() {
        let right = wgpu::CooperativeMatrixProperties {
            m_size: 16,
            n_size: 16,
            k_size: 16,
            ab_type: F16,
            cr_type: F32,
            saturating_accumulation: false,
        };
        let mut others = [right; 6];
        (others[0].m_size, others[1].n_size, others[2].k_size) = (8, 8, 8);
        (others[3].ab_type, others[4].cr_type) = (F32, F16);
        others[5].saturating_accumulation = true;
        assert!(!are_of_size([32; 2], &[]) && !are_of_size([32; 2], &others));
        assert!(are_of_size([32; 2], &[others[0], right]));
        for subgroups in [[8, 8], [16, 32], [32, 64], [64, 64]] {
            assert!(!are_of_size(subgroups, &[right]), "{subgroups:?}");
        }
    }
}
