// Q6_K: planes of 4 low bits, of 2 high bits, of a signed scale a half, and of the f16 of 256 weights.

const OFFSET = 32.0;

fn codes(planes: vec4<u32>, u: u32) -> Codes {
    return joined(nibbles(planes.x, u), pairs(planes.y, u), 4u);
}

fn scales(planes: vec4<u32>, u: u32) -> vec4<f32> {
    return vec4<f32>(half_float(planes.w, u >> 3u) * two_signed(planes.z, u), 0.0, 0.0);
}
