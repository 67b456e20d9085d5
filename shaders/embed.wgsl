// out[r] = table[ids[r]], of the rows of the table that lie here.

struct Params {
    planes: vec4<u32>,
    out: u32,
    out_stride: u32,
    first: u32, // row of the table that comes first here
    end: u32,
    units: u32, // a row
    width: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

fn put(row: u32, column: u32, values: vec4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        if column + i < p.width {
            out[p.out + row * p.out_stride + column + i] = values[i];
        }
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y;
    let u = group.x * 64u + lane;
    let id = ids[row];
    if u >= p.units || id < p.first || id >= p.end {
        return;
    }
    let w = unit(p.planes, (id - p.first) * p.units + u);
    for (var i = 0u; i < 4u; i++) {
        put(row, u * 32u + i * 4u, w.a[i] * w.scale.x - w.min.x);
        put(row, u * 32u + i * 4u + 16u, w.b[i] * w.scale.y - w.min.y);
    }
}
