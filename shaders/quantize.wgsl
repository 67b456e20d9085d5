// Inputs of products rounded to bytes, once for all products that read them: of each 32 their codes, the
// scale of these, and the sums of the codes of both halves. With NORM they are normalised first by their
// row's root mean square, and weighed.

override NORM: bool = false;

struct Params {
    x: u32,        // start and stride in vectors of four
    x_stride: u32,
    units: u32,    // a row
    width: u32,
    weight: u32,   // of the norm
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> vectors: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<u32>>;

// Below it all is zero for every purpose, and 127 / max might overflow.
const SMALLEST = 1e-36;

fn packed(v: vec4<f32>) -> u32 {
    return pack4xI8(vec4<i32>(round(v)));
}

fn sum(codes: vec4<u32>) -> u32 {
    let one = 0x01010101u;
    let sum = dot4I8Packed(codes.x, one) + dot4I8Packed(codes.y, one)
        + dot4I8Packed(codes.z, one) + dot4I8Packed(codes.w, one);
    return bitcast<u32>(f32(sum));
}

@compute @workgroup_size(LANES)
fn main(in: Input) {
    let row = in.group.y;
    let start = p.x + row * p.x_stride;
    var factor = 1.0;
    if NORM {
        var squares = 0.0;
        for (var i = in.lane; i < p.units * 8u; i += LANES) {
            squares += dot(x[start + i], x[start + i]);
        }
        factor = inverseSqrt(total(vec4<f32>(squares), in).x / f32(p.width) + p.eps);
    }
    let u = in.group.x * LANES + in.lane;
    if u >= p.units {
        return;
    }
    var v: array<vec4<f32>, 8>;
    // The greatest bits are those of the greatest magnitude, and of what is no number.
    var most = vec4<u32>(0u);
    for (var i = 0u; i < 8u; i++) {
        v[i] = x[start + u * 8u + i];
        if NORM {
            v[i] *= vectors[p.weight + u * 8u + i];
        }
        most = max(most, bitcast<vec4<u32>>(v[i]) & vec4<u32>(0x7fffffffu));
    }
    let largest = bitcast<f32>(max(max(most.x, most.y), max(most.z, most.w)));
    let is_zero = largest < SMALLEST;
    let inverse = select(127.0 / largest, 0.0, is_zero);
    let scale = select(largest / 127.0, 0.0, is_zero);
    let a = vec4<u32>(
        packed(v[0] * inverse), packed(v[1] * inverse), packed(v[2] * inverse), packed(v[3] * inverse),
    );
    let b = vec4<u32>(
        packed(v[4] * inverse), packed(v[5] * inverse), packed(v[6] * inverse), packed(v[7] * inverse),
    );
    let at = (row * p.units + u) * 3u;
    out[at] = a;
    out[at + 1u] = b;
    out[at + 2u] = vec4<u32>(bitcast<u32>(scale * factor), sum(a), sum(b), 0u);
}
