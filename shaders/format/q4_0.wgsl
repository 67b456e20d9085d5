// Q4_0: planes of 4-bit codes and of f16 scales.

const OFFSET = 8.0;

fn codes(planes: vec4<u32>, u: u32) -> Codes {
    return nibbles(planes.x, u);
}

fn scales(planes: vec4<u32>, u: u32) -> vec4<f32> {
    return vec4<f32>(both(half_float(planes.y, u)), 0.0, 0.0);
}
