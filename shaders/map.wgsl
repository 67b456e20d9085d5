// What is done to each number by itself.

const COPY = 0u;
const ADD = 1u;
const ADD_BIAS = 2u;
const SCALE = 3u;
const SCALE_ROWS = 4u;
const SCALE_EXPERTS = 5u;
const GELU = 6u;
const SWIGLU = 7u;

override OPERATION: u32;

struct Params {
    out: u32,
    out_stride: u32,
    other: u32,
    other_stride: u32,
    width: u32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> other: array<f32>; // a buffer, or a vector of weights
@group(0) @binding(2) var<storage, read> routes: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

fn sigmoid(x: f32) -> f32 {
    return 1.0 / (1.0 + exp(-x));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y;
    let column = group.x * 64u + lane;
    if column >= p.width {
        return;
    }
    let at = p.out + row * p.out_stride + column;
    let start = p.other + row * p.other_stride;
    var y = out[at];
    switch OPERATION {
        case COPY: { y = other[start + column]; }
        case ADD: { y += other[start + column]; }
        case ADD_BIAS: { y += other[p.other + column]; }
        case SCALE: { y *= p.factor; }
        case SCALE_ROWS: { y *= sigmoid(other[start]); }
        case SCALE_EXPERTS: { y *= other[p.other + routes[row]]; }
        // By the hyperbolic tangent (arXiv 1606.08415): 2 sqrt(2 / pi) is 1.5957692.
        case GELU: { y *= sigmoid(1.5957692 * (y + 0.044715 * (y * y * y))); }
        default: { y = y * sigmoid(y) * other[start + column]; }
    }
    out[at] = y;
}
