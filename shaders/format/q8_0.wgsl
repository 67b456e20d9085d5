// Q8_0: planes of bytes and of f16 scales.

const OFFSET = 128.0;

fn codes(planes: vec4<u32>, u: u32) -> Codes {
    return Codes(weights[planes.x + u * 2u], weights[planes.x + u * 2u + 1u]);
}

fn scales(planes: vec4<u32>, u: u32) -> vec4<f32> {
    return vec4<f32>(both(half_float(planes.y, u)), 0.0, 0.0);
}
