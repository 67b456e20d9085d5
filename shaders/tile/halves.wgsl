// Tiles of f16, which end at 65504 and have few bits below 2^-14: each row of the matrix and of the input is
// multiplied by a power of two that brings its largest number between 2^14 and 2^15.

alias Number = f16;

var<workgroup> weight_factors: array<f32, 64>;
var<workgroup> input_factors: array<f32, 64>;

fn power(largest: f32) -> f32 {
    let exponent = clamp(bitcast<u32>(largest) >> 23u, 20u, 254u);
    return bitcast<f32>((268u - exponent) << 23u);
}

fn choose_factors(row: u32, source: u32, lane: u32) {
    var most_w = vec4<f32>(0.0);
    var most_x = vec4<f32>(0.0);
    for (var u = 0u; u < p.units; u++) {
        most_w = max(most_w, abs(scales(p.planes, row * p.units + u)));
        for (var i = 0u; i < 8u; i++) {
            most_x = max(most_x, abs(x[p.x + source * p.x_stride + u * 8u + i]));
        }
    }
    // No code is beyond 255, so this is more than the largest weight.
    weight_factors[lane] = power(256.0 * max(most_w.x, most_w.y) + max(most_w.z, most_w.w));
    input_factors[lane] = power(max(max(most_x.x, most_x.y), max(most_x.z, most_x.w)));
}

fn weight_factor(lane: u32) -> f32 {
    return weight_factors[lane];
}

fn input_factor(lane: u32) -> f32 {
    return input_factors[lane];
}

fn unscaled(sum: f32, row: u32, column: u32) -> f32 {
    return sum / weight_factors[row] / input_factors[column];
}
