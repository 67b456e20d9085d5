// Q4_1: planes of 4-bit codes and of pairs of f16, scale and minimum.

const OFFSET = 0.0;

fn codes(planes: vec4<u32>, u: u32) -> Codes {
    return nibbles(planes.x, u);
}

fn scales(planes: vec4<u32>, u: u32) -> vec4<f32> {
    let s = unpack2x16float(word(planes.y, u));
    return vec4<f32>(s.xx, -s.yy);
}
