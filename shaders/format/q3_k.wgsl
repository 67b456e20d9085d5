// Q3_K: planes of 2 low bits, of third bits, of a signed scale a half, and of the f16 of 256 weights.

const OFFSET = 4.0;

fn codes(planes: vec4<u32>, u: u32) -> Codes {
    return joined(pairs(planes.x, u), bits(planes.y, u), 2u);
}

fn scales(planes: vec4<u32>, u: u32) -> vec4<f32> {
    return vec4<f32>(half_float(planes.w, u >> 3u) * two_signed(planes.z, u), 0.0, 0.0);
}
