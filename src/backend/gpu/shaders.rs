//! The shaders: one row an operation. A pipeline is a row, a format where it reads weights, and the values
//! of its constants; each is built once, when it is first needed.
#![allow(unsafe_code, reason = "our own shaders run without the checks that strangers' need")]

use super::device::Device;
use super::steps::Products;
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

macro_rules! include_shader {
    ($name:literal) => {
        include_str!(concat!("../../../shaders/", $name, ".wgsl"))
    };
}

/// A shader: its text, and its buffers from binding 1 on; binding 0 is its parameters.
pub(super) struct Shader {
    name: &'static str,
    source: &'static str,
    /// Whether binding 1 is weights of some format.
    weights: bool,
    /// Whether it sums over its workgroup; the number of its lanes is a constant then.
    reduces: bool,
    buffers: &'static [Access],
    /// The ways it has; the first is for every device.
    ways: &'static [Way],
}

/// How a shader does its work: a file that stands before it. What numbers a device multiplies best differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Way {
    /// There is one way.
    Only,
    /// Inputs of `matvec` as they are.
    Floats,
    /// Inputs of `matvec` rounded to bytes; of block formats.
    Bytes,
    /// Tiles of `matmul` in f32.
    Singles,
    /// Tiles of `matmul` in f16; of block formats.
    Halves,
    /// The same, multiplied by units for matrices.
    Matrices,
}

impl Way {
    /// What the text begins with, and the files: the second is there for each format of weights.
    fn source(self) -> [&'static str; 3] {
        let lanes = include_shader!("tile/lanes");
        match self {
            Way::Only => ["", "", ""],
            Way::Floats => ["", include_shader!("input/floats"), include_shader!("dot/floats")],
            Way::Bytes => ["", include_shader!("input/bytes"), include_shader!("dot/bytes")],
            Way::Singles => ["", include_shader!("tile/singles"), lanes],
            Way::Halves => ["enable f16;", include_shader!("tile/halves"), lanes],
            Way::Matrices => [
                "enable f16; enable wgpu_cooperative_matrix;",
                include_shader!("tile/halves"),
                include_shader!("tile/matrices"),
            ],
        }
    }

    /// Whether it is for weights of a format. Of floats nothing is rounded, on any device.
    pub(super) fn takes(self, format: Format) -> bool {
        let exact = matches!(self, Way::Only | Way::Floats | Way::Singles);
        exact || !format.info().is_float()
    }
}

macro_rules! shaders {
    ($($id:ident $name:literal $weights:literal $reduces:literal [$($access:ident)*] [$($way:ident)*],)*) => {
        /// All shaders, by the place of their row.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(super) enum Id { $($id),* }

        pub(super) const SHADERS: &[Shader] = &[$(Shader {
            name: $name,
            source: include_shader!($name),
            weights: $weights,
            reduces: $reduces,
            buffers: &[$($access),*],
            ways: &[$(Way::$way),*],
        }),*];
    };
}

shaders! {
    Embed "embed" true false [Read Read Write] [Only],
    Quantize "quantize" false true [Read Read Write] [Only],
    Matvec "matvec" true true [Read Read Read Read Write Write Write] [Floats Bytes],
    Matmul "matmul" true false [Read Read Read Read Write] [Singles Halves Matrices],
    Norm "norm" false true [Read Read Write] [Only],
    Place "place" false true [Read Read Read Read Write Write Write Write] [Only],
    Attention "attention" false true [Read Read Read Read Write Write] [Only],
    Merge "merge" false false [Read Write] [Only],
    Map "map" false false [Read Read Write] [Only],
    Route "route" false true [Write Write] [Only],
    Group "group" false false [Write] [Only],
    Combine "combine" false false [Read Read Write] [Only],
    Largest "largest" false false [Read Read Write] [Only],
}

/// How a format's weights are read: what formats share, and the format's own.
fn format_source(format: Format) -> [&'static str; 3] {
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
    match format {
        Format::F32 => ["", own, ""],
        Format::F16 | Format::BF16 => ["", own, include_shader!("halves")],
        _ => [include_shader!("blocks"), own, include_shader!("unit")],
    }
}

/// How weights of one or several formats, one a matrix, are read, and what a way does with each.
fn weights_source(formats: &[Format], way: &str) -> String {
    let mut kinds = formats.to_vec();
    kinds.sort_unstable_by_key(|format| *format as usize);
    kinds.dedup();
    let shared = kinds.iter().map(|kind| format_source(*kind)[0]).max().unwrap_or("");
    let mut text = [include_shader!("weights"), shared].join("\n");
    for (n, kind) in kinds.iter().enumerate() {
        let [_, own, unit] = format_source(*kind);
        let own = [own, unit, way].join("\n");
        text += &if kinds.len() == 1 { own } else { numbered(&own, n) };
    }
    if kinds.len() > 1 {
        text +=
            "\nfn dot_unit(planes: vec4<u32>, u: u32, x: Inputs) -> f32 {\n    switch matrix {\n";
        for (i, format) in formats.iter().enumerate() {
            let case = if i == 0 { "default".into() } else { format!("case {i}u") };
            let n = kinds.iter().position(|kind| kind == format).unwrap_or(0);
            text += &format!("        {case}: {{ return dot_unit_{n}(planes, u, x); }}\n");
        }
        text += "    }\n}\n";
    }
    text
}

/// What the files of a format and of `dot` define, so that several can stand in one text.
const OWN_NAMES: [&str; 9] =
    ["OFFSET", "LEFT", "codes", "scales", "four", "floats", "dots", "unit", "dot_unit"];

/// The same text, its own names with a number.
fn numbered(text: &str, n: usize) -> String {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = String::new();
    for word in text.split_inclusive(|c| !is_part(c)) {
        let name = word.trim_end_matches(|c| !is_part(c));
        out += name;
        if OWN_NAMES.contains(&name) {
            out += &format!("_{n}");
        }
        out += &word[name.len()..];
    }
    out
}

impl Shader {
    /// The whole text for the formats of its matrices and one of its ways.
    fn text(&self, formats: &[Format], way: Way, subgroups: bool) -> String {
        assert!(self.weights != formats.is_empty() && self.ways.contains(&way));
        let reduce = match (self.reduces, subgroups) {
            (false, _) => "",
            (true, false) => include_shader!("reduce/workgroup"),
            (true, true) => include_shader!("reduce/subgroup"),
        };
        let [directive, way, more] = way.source();
        let weights = if self.weights { weights_source(formats, more) } else { String::new() };
        [directive, reduce, &weights, way, self.source].join("\n")
    }
}

/// Which pipeline: the shader, formats where it reads weights, the way, and constants that are not their
/// default.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) shader: Id,
    /// Of each matrix, or one for all.
    formats: [Option<Format>; Products::MAX],
    way: Way,
    /// Values of constants, in the order of [`CONSTANTS`]; `None` leaves the default.
    pub(super) constants: [Option<u32>; CONSTANTS.len()],
}

/// Constants of shaders besides the number of lanes.
const CONSTANTS: [&str; 8] =
    ["OPERATION", "NORM", "GATED", "EXPERTS", "RAGGED", "CACHE", "IN_PLACE", "FIRST"];

impl Key {
    /// `formats` of the matrices it reads.
    pub(super) fn new(shader: Id, formats: &[Format]) -> Self {
        let way = SHADERS[shader as usize].ways[0];
        let alike = formats.windows(2).all(|pair| pair[0] == pair[1]);
        let formats = if alike { &formats[..formats.len().min(1)] } else { formats };
        let formats = std::array::from_fn(|i| formats.get(i).copied());
        Self { shader, formats, way, constants: Default::default() }
    }

    fn formats(&self) -> Vec<Format> {
        self.formats.into_iter().flatten().collect()
    }

    /// The same in another way.
    pub(super) fn by(self, way: Way) -> Self {
        Self { way, ..self }
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
pub(super) const LANES: u32 = 64;

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
            let what = format!("the shader '{}' for {:?}", shader.name, key.formats());
            let pipeline = device.scoped(&what, || build(device, shader, key, index))?;
            self.built.insert(key.clone(), pipeline);
        }
        Ok(&self.built[key])
    }
}

fn build(device: &Device, shader: &Shader, key: &Key, index: usize) -> Pipeline {
    let text = shader.text(&key.formats(), key.way, device.subgroups);
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
    fn validate(text: &str, way: Way, subgroups: bool) -> Result<(), String> {
        let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        capabilities.set(Capabilities::SUBGROUP, subgroups || way == Way::Matrices);
        let halves = matches!(way, Way::Halves | Way::Matrices);
        capabilities.set(Capabilities::SHADER_FLOAT16, halves);
        capabilities.set(Capabilities::COOPERATIVE_MATRIX, way == Way::Matrices);
        let options =
            naga::front::wgsl::Options { capabilities, ..naga::front::wgsl::Options::new() };
        let module = naga::front::wgsl::Frontend::new_with_options(options).parse(text);
        let module = module.map_err(|e| e.emit_to_string(text))?;
        let mut validator = Validator::new(ValidationFlags::all(), capabilities);
        validator.validate(&module).map(|_| ()).map_err(|e| e.emit_to_string(text))
    }

    #[test]
    fn every_shader_is_valid_for_every_format_in_every_way() {
        let mut texts = 0;
        for (shader, way) in SHADERS.iter().flat_map(|s| s.ways.iter().map(move |way| (s, *way))) {
            let formats = FORMATS.iter().filter(|info| way.takes(info.format));
            let formats: Vec<_> = match shader.weights {
                true => formats.map(|info| info.format).collect(),
                false => Vec::new(),
            };
            let mut lists: Vec<&[Format]> = formats.chunks(1).collect();
            match shader.name {
                "matvec" => lists.extend(formats.windows(2).chain(formats.windows(3))),
                _ if lists.is_empty() => lists.push(&[]),
                _ => {}
            }
            for (formats, subgroups) in lists.iter().flat_map(|f| [(*f, false), (*f, true)]) {
                let text = shader.text(formats, way, subgroups);
                if let Err(why) = validate(&text, way, subgroups) {
                    let name = shader.name;
                    panic!("{name} for {formats:?}, {way:?}, subgroups {subgroups}:\n{why}");
                }
                texts += 1;
            }
        }
        println!("{texts} texts are valid");
        assert!(validate("fn main() -> u32 { return 1.5f; }", Way::Only, false).is_err());
    }

    #[test]
    fn shaders_bind_no_more_than_every_device_allows() {
        let most = wgpu::Limits::default().max_storage_buffers_per_shader_stage as usize;
        for (shader, way) in SHADERS.iter().flat_map(|s| s.ways.iter().map(move |way| (s, *way))) {
            assert!(shader.buffers.len() <= most, "{} binds more than {most}", shader.name);
            let formats: &[Format] = if shader.weights { &[Format::Q4_0] } else { &[] };
            let bindings = shader.text(formats, way, false);
            for (i, access) in shader.buffers.iter().enumerate() {
                let access = if *access == Write { "read_write" } else { "read" };
                let declared = format!("@binding({}) var<storage, {access}>", i + 1);
                assert!(bindings.contains(&declared), "{}: no '{declared}'", shader.name);
            }
        }
    }
}
