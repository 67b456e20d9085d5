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

// What is left of OFFSET once codes of eight bits, which are 128 too large, are read as signed.
const LEFT = OFFSET % 128.0;

fn dots(codes: vec4<u32>, x: vec4<u32>) -> f32 {
    var w = codes;
    if OFFSET == 128.0 {
        w ^= vec4<u32>(0x80808080u);
    }
    return f32(
        dot4I8Packed(w.x, x.x) + dot4I8Packed(w.y, x.y) + dot4I8Packed(w.z, x.z) + dot4I8Packed(w.w, x.w),
    );
}

fn dot_unit(planes: vec4<u32>, u: u32, x: Inputs) -> f32 {
    let w = codes(planes, u);
    let s = scales(planes, u);
    let products = vec2<f32>(dots(w.a, x.a), dots(w.b, x.b)) - LEFT * x.sums;
    return x.scale * (dot(s.xy, products) - dot(s.zw, x.sums));
}
