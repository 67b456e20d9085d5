// A unit of weights times inputs as they are.

fn dot_unit(planes: vec4<u32>, u: u32, x: Inputs) -> f32 {
    let w = unit(planes, u);
    let products = vec2<f32>(
        dot(w.a[0], x.a[0]) + dot(w.a[1], x.a[1]) + dot(w.a[2], x.a[2]) + dot(w.a[3], x.a[3]),
        dot(w.b[0], x.b[0]) + dot(w.b[1], x.b[1]) + dot(w.b[2], x.b[2]) + dot(w.b[3], x.b[3]),
    );
    return dot(w.scale, products) - dot(w.min, x.sums);
}
