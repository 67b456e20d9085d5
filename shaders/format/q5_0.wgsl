// Q5_0: planes of 4 low bits, of fifth bits, and of f16 scales.

const OFFSET = 16.0;

fn codes(planes: vec4<u32>, u: u32) -> Codes {
    return joined(nibbles(planes.x, u), bits(planes.y, u), 4u);
}

fn scales(planes: vec4<u32>, u: u32) -> vec4<f32> {
    return vec4<f32>(both(half_float(planes.z, u)), 0.0, 0.0);
}
