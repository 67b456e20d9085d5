// Units of the block formats: codes as bytes, taken apart. A format file follows and has
//
//     const OFFSET: f32;                                       what a code is too large by
//     fn codes(planes: vec4<u32>, u: u32) -> Codes             bytes, four a word
//     fn scales(planes: vec4<u32>, u: u32) -> vec4<f32>        scales of both halves, minimums of both

struct Codes {
    a: vec4<u32>,
    b: vec4<u32>,
}

// 4-bit codes: 16 bytes, weights 0 to 15 in their lower halves.
fn nibbles(plane: u32, u: u32) -> Codes {
    let packed = weights[plane + u];
    let mask = vec4<u32>(0x0f0f0f0fu);
    return Codes(packed & mask, (packed >> vec4<u32>(4u)) & mask);
}

// 2-bit codes: two words, their lowest pairs weights 0 to 7, and so on.
fn pairs(plane: u32, u: u32) -> Codes {
    let even = word(plane, u * 2u);
    let odd = word(plane, u * 2u + 1u);
    let mask = vec4<u32>(0x03030303u);
    return Codes(
        vec4<u32>(even, odd, even >> 2u, odd >> 2u) & mask,
        vec4<u32>(even >> 4u, odd >> 4u, even >> 6u, odd >> 6u) & mask,
    );
}

// 1-bit codes: a word, its lowest bits weights 0 to 3, and so on.
fn bits(plane: u32, u: u32) -> Codes {
    let packed = word(plane, u);
    let mask = vec4<u32>(0x01010101u);
    return Codes(
        vec4<u32>(packed, packed >> 1u, packed >> 2u, packed >> 3u) & mask,
        vec4<u32>(packed >> 4u, packed >> 5u, packed >> 6u, packed >> 7u) & mask,
    );
}

// `high` in the bits above `shift`.
fn joined(low: Codes, high: Codes, shift: u32) -> Codes {
    let by = vec4<u32>(shift);
    return Codes(low.a | (high.a << by), low.b | (high.b << by));
}

fn both(value: f32) -> vec2<f32> {
    return vec2<f32>(value, value);
}

// Two bytes of a plane that has two a unit.
fn two_bytes(plane: u32, u: u32) -> vec2<u32> {
    let packed = half_word(plane, u);
    return vec2<u32>(packed & 255u, packed >> 8u);
}

// The same, signed.
fn two_signed(plane: u32, u: u32) -> vec2<f32> {
    let bytes = vec2<i32>(two_bytes(plane, u) << vec2<u32>(24u));
    return vec2<f32>(bytes >> vec2<u32>(24u));
}
