// Inputs of products as `quantize` leaves them: bytes, which hardware multiplies four at a time.

@group(0) @binding(2) var<storage, read> x: array<vec4<u32>>;

// Codes of inputs 0 to 15 and 16 to 31 of a unit, the sums of both, and what a code is worth.
struct Inputs {
    a: vec4<u32>,
    b: vec4<u32>,
    sums: vec2<f32>,
    scale: f32,
}

fn inputs(row: u32, u: u32) -> Inputs {
    let at = p.x + row * p.x_stride + u * 3u;
    let rest = bitcast<vec4<f32>>(x[at + 2u]);
    return Inputs(x[at], x[at + 1u], rest.yz, rest.x);
}
