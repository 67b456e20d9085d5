// BF16: the upper half of a single.

fn four(low: u32, high: u32) -> vec4<f32> {
    let words = vec4<u32>(low << 16u, low, high << 16u, high) & vec4<u32>(0xffff0000u);
    return bitcast<vec4<f32>>(words);
}
