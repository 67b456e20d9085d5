// Q5_K: planes of 4 low bits, of fifth bits, of a byte of scale and one of minimum, and of the f16 pair of
// 256 weights.

const OFFSET = 0.0;

fn codes(planes: vec4<u32>, u: u32) -> Codes {
    return joined(nibbles(planes.x, u), bits(planes.y, u), 4u);
}

fn scales(planes: vec4<u32>, u: u32) -> vec4<f32> {
    let s = unpack2x16float(word(planes.w, u >> 3u)) * vec2<f32>(two_bytes(planes.z, u));
    return s.xxyy;
}
