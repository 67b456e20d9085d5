// Joins the parts of attention: results and sums of each are brought to the greatest maximum.

struct Params {
    out: u32,
    out_stride: u32,
    heads: u32,
    value_len: u32,
    parts: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> partials: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = group.x;
    let row = group.y;
    let len = p.value_len + 2u;
    let first = (row * p.heads + head) * p.parts * len;
    var most = -3.0e38;
    for (var i = 0u; i < p.parts; i++) {
        most = max(most, partials[first + i * len + p.value_len]);
    }
    for (var column = lane; column < p.value_len; column += 64u) {
        var value = 0.0;
        var sum = 0.0;
        for (var i = 0u; i < p.parts; i++) {
            let at = first + i * len;
            let factor = exp(partials[at + p.value_len] - most);
            value += factor * partials[at + column];
            sum += factor * partials[at + p.value_len + 1u];
        }
        out[p.out + row * p.out_stride + head * p.value_len + column] = value / sum;
    }
}
