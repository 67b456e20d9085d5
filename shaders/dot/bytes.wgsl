// A unit of weights times inputs in bytes.

// What is left of OFFSET once codes of eight bits, which are 128 too large, are read as signed.
const LEFT = OFFSET % 128.0;

fn dots(codes: vec4<u32>, x: vec4<u32>) -> f32 {
    var w = codes;
    if OFFSET == 128.0 {
        w ^= vec4<u32>(0x80808080u);
    }
    return f32(
        dot4I8Packed(w.x, x.x) + dot4I8Packed(w.y, x.y) + dot4I8Packed(w.z, x.z) + dot4I8Packed(w.w, x.w),
    );
}

fn dot_unit(planes: vec4<u32>, u: u32, x: Inputs) -> f32 {
    let w = codes(planes, u);
    let s = scales(planes, u);
    let products = vec2<f32>(dots(w.a, x.a), dots(w.b, x.b)) - LEFT * x.sums;
    return x.scale * (dot(s.xy, products) - dot(s.zw, x.sums));
}
