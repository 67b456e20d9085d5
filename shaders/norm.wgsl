// out = weight * x over its root mean square, or over its deviation from its mean, for each group of
// columns of each row. IN_PLACE: x is what out holds.

override IN_PLACE: bool = false;

const NONE = 0xffffffffu;

struct Params {
    out: u32,
    out_stride: u32,
    x: u32,
    x_stride: u32,
    len: u32,    // columns of a group
    weight: u32,
    eps: f32,
    layer: u32,  // by mean and variance
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> vectors: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

fn value(in: Input, i: u32) -> f32 {
    let column = in.group.x * p.len + i;
    if IN_PLACE {
        return out[p.out + in.group.y * p.out_stride + column];
    }
    return x[p.x + in.group.y * p.x_stride + column];
}

@compute @workgroup_size(LANES)
fn main(in: Input) {
    var mean = 0.0;
    if p.layer != 0u {
        var sum = 0.0;
        for (var i = in.lane; i < p.len; i += LANES) {
            sum += value(in, i);
        }
        mean = total(vec4<f32>(sum), in).x / f32(p.len);
    }
    var squares = 0.0;
    for (var i = in.lane; i < p.len; i += LANES) {
        let deviation = value(in, i) - mean;
        squares += deviation * deviation;
    }
    let factor = inverseSqrt(total(vec4<f32>(squares), in).x / f32(p.len) + p.eps);
    for (var i = in.lane; i < p.len; i += LANES) {
        var y = (value(in, i) - mean) * factor;
        if p.weight != NONE {
            y *= vectors[p.weight + i];
        }
        out[p.out + in.group.y * p.out_stride + in.group.x * p.len + i] = y;
    }
}
