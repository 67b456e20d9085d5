// Codes and scales of a block format made into a unit.

fn floats(bytes: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xU8(bytes)) - OFFSET;
}

fn unit(planes: vec4<u32>, u: u32) -> Unit {
    let c = codes(planes, u);
    let s = scales(planes, u);
    return Unit(
        mat4x4<f32>(floats(c.a.x), floats(c.a.y), floats(c.a.z), floats(c.a.w)),
        mat4x4<f32>(floats(c.b.x), floats(c.b.y), floats(c.b.z), floats(c.b.w)),
        s.xy,
        s.zw,
    );
}
