// Units of the formats of two bytes a weight: four vectors of eight. A format file stands before this one and has
//
//     fn four(low: u32, high: u32) -> vec4<f32>    the weights of two words

fn unit(planes: vec4<u32>, u: u32) -> Unit {
    let at = planes.x + u * 4u;
    let p = weights[at];
    let q = weights[at + 1u];
    let r = weights[at + 2u];
    let s = weights[at + 3u];
    return Unit(
        mat4x4<f32>(four(p.x, p.y), four(p.z, p.w), four(q.x, q.y), four(q.z, q.w)),
        mat4x4<f32>(four(r.x, r.y), four(r.z, r.w), four(s.x, s.y), four(s.z, s.w)),
        vec2<f32>(1.0),
        vec2<f32>(0.0),
    );
}
