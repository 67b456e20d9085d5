// Q5_1: planes of 4 low bits, of fifth bits, and of pairs of f16, scale and minimum.

const OFFSET = 0.0;

fn codes(planes: vec4<u32>, u: u32) -> Codes {
    return joined(nibbles(planes.x, u), bits(planes.y, u), 4u);
}

fn scales(planes: vec4<u32>, u: u32) -> vec4<f32> {
    let s = unpack2x16float(word(planes.z, u));
    return vec4<f32>(s.xx, -s.yy);
}
