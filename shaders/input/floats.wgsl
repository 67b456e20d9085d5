// Inputs of products as they are. With NORM they are weighed, and their squares added up on the way.

@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

// Inputs 0 to 15 and 16 to 31 of a unit, and the sums of both.
struct Inputs {
    a: mat4x4<f32>,
    b: mat4x4<f32>,
    sums: vec2<f32>,
}

fn input(row: u32, i: u32) -> vec4<f32> {
    var v = x[p.x + row * p.x_stride + i];
    if RAGGED {
        let columns = vec4<u32>(i * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
        v = select(vec4<f32>(0.0), v, columns < vec4<u32>(p.width));
    }
    if NORM {
        square += dot(v, v);
        return v * vectors[p.weight + i];
    }
    return v;
}

fn inputs(row: u32, u: u32) -> Inputs {
    let i = u * 8u;
    let a = mat4x4<f32>(input(row, i), input(row, i + 1u), input(row, i + 2u), input(row, i + 3u));
    let b = mat4x4<f32>(input(row, i + 4u), input(row, i + 5u), input(row, i + 6u), input(row, i + 7u));
    let one = vec4<f32>(1.0);
    let sums = vec2<f32>(dot(a[0] + a[1] + a[2] + a[3], one), dot(b[0] + b[1] + b[2] + b[3], one));
    return Inputs(a, b, sums);
}
