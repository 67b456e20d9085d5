// Attention of one query head of one row to a part of the positions it sees, as in FlashAttention
// (arXiv 2205.14135): positions pass in blocks of LANES, a running maximum keeps exponentials finite.
// Where there are several parts, `merge` joins them.

override CACHE: u32 = 0u; // the cache holds f32, f16, q8_0

const F32 = 0u;
const F16 = 1u;
const Q8_0 = 2u;

struct Params {
    query: u32,
    query_stride: u32,
    out: u32,
    out_stride: u32,
    heads: u32,        // of the cache
    shared_by: u32,    // query heads that read one head
    key_len: u32,
    value_len: u32,
    context_len: u32,
    part_len: u32,     // positions of a part
    parts: u32,
    scale: f32,
    key_scales: u32,   // where the scales of blocks begin, in words
    value_scales: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> query: array<f32>;
@group(0) @binding(2) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> values: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> rows: array<vec2<u32>>; // sequence, position
@group(0) @binding(5) var<storage, read_write> out: array<f32>;
@group(0) @binding(6) var<storage, read_write> partials: array<f32>; // results, then maximum and sum

var<workgroup> q: array<f32, 512>;
var<workgroup> weights: array<f32, LANES>;
var<workgroup> low: array<vec4<f32>, LANES>;
var<workgroup> high: array<vec4<f32>, LANES>;

// Numbers that are read together.
fn each() -> u32 {
    return select(8u, 4u, CACHE == F32);
}

struct Eight {
    a: vec4<f32>,
    b: vec4<f32>, // zero where only four are read together
}

fn eight(v: vec4<u32>) -> Eight {
    if CACHE == F16 {
        return Eight(
            vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y)),
            vec4<f32>(unpack2x16float(v.z), unpack2x16float(v.w)),
        );
    }
    return Eight(bitcast<vec4<f32>>(v), vec4<f32>(0.0));
}

// Eight values of q8_0: the first or the second half of a vector of codes, and the word their block's
// scale is half of.
fn eight_of_block(codes: vec4<u32>, scales: u32, i: u32) -> Eight {
    let own = select(codes.xy, codes.zw, i % 2u == 1u);
    let scale = unpack2x16float(scales)[i / 4u % 2u];
    return Eight(scale * vec4<f32>(unpack4xI8(own.x)), scale * vec4<f32>(unpack4xI8(own.y)));
}

// The `i`-th eight, or four, numbers of a key.
fn key(line: u32, i: u32) -> Eight {
    if CACHE == Q8_0 {
        let at = p.key_scales + line * ((p.key_len + 63u) / 64u) + i / 8u;
        let scales = keys[at / 4u][at % 4u];
        return eight_of_block(keys[line * (p.key_len / 16u) + i / 2u], scales, i);
    }
    return eight(keys[line * (p.key_len / each()) + i]);
}

fn value(line: u32, i: u32) -> Eight {
    if CACHE == Q8_0 {
        let at = p.value_scales + line * ((p.value_len + 63u) / 64u) + i / 8u;
        let scales = values[at / 4u][at % 4u];
        return eight_of_block(values[line * (p.value_len / 16u) + i / 2u], scales, i);
    }
    return eight(values[line * (p.value_len / each()) + i]);
}

fn four(i: u32) -> vec4<f32> {
    return vec4<f32>(q[i], q[i + 1u], q[i + 2u], q[i + 3u]);
}

// Query times key of the `line`-th line of the cache.
fn score(line: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < p.key_len / each(); i++) {
        let k = key(line, i);
        sum += dot(k.a, four(i * each()));
        if CACHE != F32 {
            sum += dot(k.b, four(i * each() + 4u));
        }
    }
    return sum * p.scale;
}

@compute @workgroup_size(LANES)
fn main(in: Input) {
    let part = in.group.x;
    let head = in.group.y;
    let row = in.group.z;
    let place = rows[row];
    let lines = (place.x * p.heads + head / p.shared_by) * p.context_len;
    let first = part * p.part_len;
    let end = min(first + p.part_len, place.y + 1u);
    for (var i = in.lane; i < p.key_len; i += LANES) {
        q[i] = query[p.query + row * p.query_stride + head * p.key_len + i];
    }
    // A lane adds one vector of values of every `steps`-th position.
    let len = p.value_len / each();
    let steps = LANES / len;
    let own = in.lane % len;
    let step = in.lane / len;
    var most = -3.0e38;
    var sum = 0.0;
    var a = vec4<f32>(0.0);
    var b = vec4<f32>(0.0);
    workgroupBarrier();
    for (var start = first; start < end; start += LANES) {
        let position = start + in.lane;
        var s = -3.0e38;
        if position < end {
            s = score(lines + position);
        }
        let before = most;
        most = max(most, greatest(s, in));
        let w = select(0.0, exp(s - most), position < end);
        weights[in.lane] = w;
        let keep = exp(before - most);
        sum = sum * keep + total(vec4<f32>(w), in).x;
        a *= keep;
        b *= keep;
        workgroupBarrier();
        if step < steps {
            let count = min(LANES, end - start);
            for (var j = step; j < count; j += steps) {
                let v = value(lines + start + j, own);
                a += weights[j] * v.a;
                b += weights[j] * v.b;
            }
        }
        workgroupBarrier();
    }
    low[in.lane] = a;
    high[in.lane] = b;
    workgroupBarrier();
    if in.lane >= len {
        return;
    }
    for (var j = 1u; j < steps; j++) {
        a += low[j * len + in.lane];
        b += high[j * len + in.lane];
    }
    let column = in.lane * each();
    if p.parts == 1u {
        let at = p.out + row * p.out_stride + head * p.value_len + column;
        for (var i = 0u; i < 4u; i++) {
            out[at + i] = a[i] / sum;
            if CACHE != F32 {
                out[at + 4u + i] = b[i] / sum;
            }
        }
        return;
    }
    let at = ((row * p.heads * p.shared_by + head) * p.parts + part) * (p.value_len + 2u);
    for (var i = 0u; i < 4u; i++) {
        partials[at + column + i] = a[i];
        if CACHE != F32 {
            partials[at + column + 4u + i] = b[i];
        }
    }
    if in.lane == 0u {
        partials[at + p.value_len] = most;
        partials[at + p.value_len + 1u] = sum;
    }
}
