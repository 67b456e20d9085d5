// Q2_K: planes of 2-bit codes, of a byte a half (scale in its lower nibble, minimum in its upper), and of
// the f16 pair of 256 weights.

const OFFSET = 0.0;

fn codes(planes: vec4<u32>, u: u32) -> Codes {
    return pairs(planes.x, u);
}

fn scales(planes: vec4<u32>, u: u32) -> vec4<f32> {
    let d = unpack2x16float(word(planes.z, u >> 3u));
    let s = two_bytes(planes.y, u);
    return vec4<f32>(d.x * vec2<f32>(s & vec2<u32>(15u)), d.y * vec2<f32>(s >> vec2<u32>(4u)));
}
