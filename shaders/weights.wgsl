// Weights on a device: rows of units of 32, a format's parts in planes of their own. A plane starts at a
// multiple of 16 bytes; `planes` has their starts, in 16 bytes. A format file follows this one and says
// what a unit is:
//
//     fn unit(planes: vec4<u32>, u: u32) -> Unit

@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;

// Codes of weights 0 to 15 and 16 to 31, four a column, and the scales and minimums of both halves: a
// weight is scale * code - min.
struct Unit {
    a: mat4x4<f32>,
    b: mat4x4<f32>,
    scale: vec2<f32>,
    min: vec2<f32>,
}

fn word(plane: u32, i: u32) -> u32 {
    return weights[plane + (i >> 2u)][i & 3u];
}

fn half_word(plane: u32, i: u32) -> u32 {
    return (word(plane, i >> 1u) >> ((i & 1u) * 16u)) & 0xffffu;
}

fn half_float(plane: u32, i: u32) -> f32 {
    return unpack2x16float(half_word(plane, i)).x;
}
