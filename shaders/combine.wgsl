// out[r] = sum of what the experts of row r gave, by their weights.

struct Params {
    out: u32,
    out_stride: u32,
    x: u32,
    x_stride: u32,
    width: u32,
    used: u32,
    weights: u32, // start in `routes`
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> routes: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y;
    let column = group.x * 64u + lane;
    if column >= p.width {
        return;
    }
    var sum = 0.0;
    for (var k = 0u; k < p.used; k++) {
        let slot = row * p.used + k;
        sum += bitcast<f32>(routes[p.weights + slot]) * x[p.x + slot * p.x_stride + column];
    }
    out[p.out + row * p.out_stride + column] = sum;
}
