// Softmax of a row's scores, in place, and choice of the largest; of equals the lower number. `routes` has
// the experts of all slots, then, from `weights` on, their weights.

struct Params {
    scores: u32,
    stride: u32,
    experts: u32,
    used: u32,
    normalize: u32,
    scale: f32,
    weights: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> scores: array<f32>;
@group(0) @binding(2) var<storage, read_write> routes: array<u32>;

var<workgroup> chances: array<f32, 1024>;

@compute @workgroup_size(LANES)
fn main(in: Input) {
    let row = in.group.x;
    let start = p.scores + row * p.stride;
    var most = -3.0e38;
    for (var i = in.lane; i < p.experts; i += LANES) {
        most = max(most, scores[start + i]);
    }
    most = greatest(most, in);
    var sum = 0.0;
    for (var i = in.lane; i < p.experts; i += LANES) {
        chances[i] = exp(scores[start + i] - most);
        sum += chances[i];
    }
    sum = total(vec4<f32>(sum), in).x;
    for (var i = in.lane; i < p.experts; i += LANES) {
        chances[i] /= sum;
        scores[start + i] = chances[i];
    }
    workgroupBarrier();
    // The choices are few, and one lane makes them.
    if in.lane > 0u {
        return;
    }
    var whole = 0.0;
    for (var k = 0u; k < p.used; k++) {
        var best = 0u;
        for (var i = 1u; i < p.experts; i++) {
            if chances[i] > chances[best] {
                best = i;
            }
        }
        let weight = chances[best];
        chances[best] = -1.0;
        whole += weight;
        routes[row * p.used + k] = best;
        routes[p.weights + row * p.used + k] = bitcast<u32>(weight);
    }
    let factor = select(p.scale, p.scale / whole, p.normalize != 0u && whole > 0.0);
    for (var k = 0u; k < p.used; k++) {
        let at = p.weights + row * p.used + k;
        routes[at] = bitcast<u32>(bitcast<f32>(routes[at]) * factor);
    }
}
