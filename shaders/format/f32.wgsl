// F32: eight vectors of four.

fn four(at: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(weights[at]);
}

fn unit(planes: vec4<u32>, u: u32) -> Unit {
    let at = planes.x + u * 8u;
    return Unit(
        mat4x4<f32>(four(at), four(at + 1u), four(at + 2u), four(at + 3u)),
        mat4x4<f32>(four(at + 4u), four(at + 5u), four(at + 6u), four(at + 7u)),
        vec2<f32>(1.0),
        vec2<f32>(0.0),
    );
}
