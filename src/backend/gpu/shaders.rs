//! The shaders: one row an operation. A pipeline is a row, a format where it reads weights, and the values
//! of its constants; each is built once, when it is first needed.
#![allow(unsafe_code, reason = "our own shaders run without the checks that strangers' need")]

use super::device::Device;
use crate::Result;
use attar_kernels::Format;
use std::collections::HashMap;

/// What a shader does with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}
use Access::{Read, Write};

/// A shader: its text, and its buffers from binding 1 on; binding 0 is its parameters.
pub(super) struct Shader {
    name: &'static str,
    source: &'static str,
    /// Whether binding 1 is weights of some format.
    weights: bool,
    /// Whether it sums over its workgroup; the number of its lanes is a constant then.
    reduces: bool,
    buffers: &'static [Access],
}

macro_rules! shaders {
    ($($id:ident $name:literal $weights:literal $reduces:literal [$($access:ident)*],)*) => {
        /// All shaders, by the place of their row.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(super) enum Id { $($id),* }

        pub(super) const SHADERS: &[Shader] = &[$(Shader {
            name: $name,
            source: include_str!(concat!("../../../shaders/", $name, ".wgsl")),
            weights: $weights,
            reduces: $reduces,
            buffers: &[$($access),*],
        }),*];
    };
}

shaders! {
    Embed "embed" true false [Read Read Write],
    Matvec "matvec" true true [Read Read Read Read Write Write Write],
    Matmul "matmul" true false [Read Read Read Read Write],
    Norm "norm" false true [Read Read Write],
    Place "place" false true [Read Read Read Read Write Write Write Write],
    Attention "attention" false true [Read Read Read Read Write Write],
    Merge "merge" false false [Read Write],
    Map "map" false false [Read Read Write],
    Route "route" false true [Write Write],
    Group "group" false false [Write],
    Combine "combine" false false [Read Read Write],
    Largest "largest" false false [Read Read Write],
}

macro_rules! include_shader {
    ($name:literal) => {
        include_str!(concat!("../../../shaders/", $name, ".wgsl"))
    };
}

/// How a format's weights are read.
fn format_source(format: Format) -> [&'static str; 4] {
    let own = match format {
        Format::F32 => include_shader!("format/f32"),
        Format::F16 => include_shader!("format/f16"),
        Format::BF16 => include_shader!("format/bf16"),
        Format::Q8_0 => include_shader!("format/q8_0"),
        Format::Q4_0 => include_shader!("format/q4_0"),
        Format::Q4_1 => include_shader!("format/q4_1"),
        Format::Q5_0 => include_shader!("format/q5_0"),
        Format::Q5_1 => include_shader!("format/q5_1"),
        Format::Q2_K => include_shader!("format/q2_k"),
        Format::Q3_K => include_shader!("format/q3_k"),
        Format::Q4_K => include_shader!("format/q4_k"),
        Format::Q5_K => include_shader!("format/q5_k"),
        Format::Q6_K => include_shader!("format/q6_k"),
    };
    let weights = include_shader!("weights");
    match format {
        Format::F32 => [weights, own, "", ""],
        Format::F16 | Format::BF16 => [weights, own, include_shader!("halves"), ""],
        _ => [weights, include_shader!("blocks"), own, include_shader!("unit")],
    }
}

impl Shader {
    /// The whole text for a format.
    pub(super) fn text(&self, format: Option<Format>, subgroups: bool) -> String {
        assert!(self.weights == format.is_some());
        let reduce = match (self.reduces, subgroups) {
            (false, _) => "",
            (true, false) => include_shader!("reduce/workgroup"),
            (true, true) => include_shader!("reduce/subgroup"),
        };
        let format = format.map_or([""; 4], format_source);
        [&[reduce], &format[..], &[self.source]].concat().join("\n")
    }
}

/// Which pipeline: the shader, a format where it reads weights, and constants that are not their default.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) shader: Id,
    pub(super) format: Option<Format>,
    /// Values of constants, in the order of [`CONSTANTS`]; `None` leaves the default.
    pub(super) constants: [Option<u32>; CONSTANTS.len()],
}

/// Constants of shaders besides the number of lanes.
const CONSTANTS: [&str; 8] =
    ["OPERATION", "NORM", "GATED", "EXPERTS", "RAGGED", "CACHE", "IN_PLACE", "FIRST"];

impl Key {
    pub(super) fn new(shader: Id, format: Option<Format>) -> Self {
        Self { shader, format, constants: Default::default() }
    }

    /// The same with a constant set.
    pub(super) fn with(mut self, name: &str, value: u32) -> Self {
        let at = CONSTANTS.iter().position(|constant| *constant == name);
        self.constants[at.expect("a constant of the list")] = Some(value);
        self
    }

    /// The same with a constant set, if it is to be.
    pub(super) fn when(self, on: bool, name: &str) -> Self {
        if on { self.with(name, 1) } else { self }
    }
}

/// Lanes of a workgroup that sums.
const LANES: u32 = 64;

/// A pipeline and its place in the cache of bind groups.
pub(super) struct Pipeline {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
    pub(super) index: usize,
}

/// The pipelines built so far.
#[derive(Default)]
pub(super) struct Pipelines {
    built: HashMap<Key, Pipeline>,
}

impl Pipelines {
    pub(super) fn get(&mut self, device: &Device, key: &Key) -> Result<&Pipeline> {
        if !self.built.contains_key(key) {
            let index = self.built.len();
            let shader = &SHADERS[key.shader as usize];
            let what = format!("the shader '{}' for {:?}", shader.name, key.format);
            let pipeline = device.scoped(&what, || build(device, shader, key, index))?;
            self.built.insert(key.clone(), pipeline);
        }
        Ok(&self.built[key])
    }
}

fn build(device: &Device, shader: &Shader, key: &Key, index: usize) -> Pipeline {
    let text = shader.text(key.format, device.subgroups);
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(shader.name),
        source: wgpu::ShaderSource::Wgsl(text.into()),
    };
    // Counters in loops and clamped indices cost what a product saves.
    let checks = wgpu::ShaderRuntimeChecks::unchecked();
    // SAFETY: the text is ours: its loops count up to a parameter, its indices stay inside what the host
    // sized by the same numbers, and it divides by none that can be zero.
    let module = unsafe { device.device.create_shader_module_trusted(descriptor, checks) };
    let entry = |binding: usize, ty, has_dynamic_offset| wgpu::BindGroupLayoutEntry {
        binding: binding as u32,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
        count: None,
    };
    let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform, true)];
    entries.extend(shader.buffers.iter().enumerate().map(|(i, access)| {
        let read_only = *access == Read;
        entry(i + 1, wgpu::BufferBindingType::Storage { read_only }, false)
    }));
    let layout = device.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some(shader.name),
        entries: &entries,
    });
    let pipeline_layout = device.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(shader.name),
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let set = CONSTANTS.iter().zip(key.constants);
    let mut constants: Vec<(&str, f64)> =
        set.filter_map(|(name, value)| Some((*name, f64::from(value?)))).collect();
    if shader.reduces {
        constants.push(("LANES", f64::from(LANES)));
    }
    let pipeline = device.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(shader.name),
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &constants,
            zero_initialize_workgroup_memory: false, // each is written before it is read
        },
        cache: None,
    });
    Pipeline { pipeline, layout, index }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attar_kernels::FORMATS;
    use naga::valid::{Capabilities, ValidationFlags, Validator};

    /// Parses and validates without any device; says what is wrong in the shader's own lines.
    fn validate(text: &str, subgroups: bool) -> Result<(), String> {
        let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
        let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        capabilities.set(Capabilities::SUBGROUP, subgroups);
        let mut validator = Validator::new(ValidationFlags::all(), capabilities);
        validator.validate(&module).map(|_| ()).map_err(|e| e.emit_to_string(text))
    }

    #[test]
    fn every_shader_is_valid_for_every_format_with_and_without_subgroups() {
        let mut texts = 0;
        for shader in SHADERS {
            let formats: Vec<_> = match shader.weights {
                true => FORMATS.iter().map(|info| Some(info.format)).collect(),
                false => vec![None],
            };
            for (format, subgroups) in formats.iter().flat_map(|f| [(*f, false), (*f, true)]) {
                let text = shader.text(format, subgroups);
                if let Err(why) = validate(&text, subgroups) {
                    panic!("{} for {format:?}, subgroups {subgroups}:\n{why}", shader.name);
                }
                texts += 1;
            }
        }
        println!("{texts} texts are valid");
        assert!(validate("fn main() -> u32 { return 1.5f; }", false).is_err());
    }

    #[test]
    fn shaders_bind_no_more_than_every_device_allows() {
        let most = wgpu::Limits::default().max_storage_buffers_per_shader_stage as usize;
        for shader in SHADERS {
            assert!(shader.buffers.len() <= most, "{} binds more than {most}", shader.name);
            let bindings = shader.text(shader.weights.then_some(Format::F32), false);
            for (i, access) in shader.buffers.iter().enumerate() {
                let access = if *access == Write { "read_write" } else { "read" };
                let declared = format!("@binding({}) var<storage, {access}>", i + 1);
                assert!(bindings.contains(&declared), "{}: no '{declared}'", shader.name);
            }
        }
    }
}
