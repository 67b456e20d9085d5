// Brings queries and keys to their place: normalises their heads, rotates them by their row's position,
// and puts keys and values into the cache. A workgroup has one head of one row: first those of `query`,
// then those of `key` with `value`.

override CACHE: u32 = 0u; // the cache holds f32, f16, q8_0

const F16 = 1u;
const Q8_0 = 2u;
const NONE = 0xffffffffu;

struct Params {
    query: u32,        // start and stride, as below
    query_stride: u32,
    key: u32,
    key_stride: u32,
    value: u32,
    value_stride: u32,
    query_heads: u32,
    heads: u32,
    key_len: u32,
    value_len: u32,
    pairs: u32,        // that are rotated, 0 for none
    adjacent: u32,     // values 2i and 2i + 1 are a pair, else i and i + pairs
    query_norm: u32,
    key_norm: u32,
    query_eps: f32,
    key_eps: f32,
    context_len: u32,
    store: u32,
    key_scales: u32,   // where the scales of blocks begin, in words
    value_scales: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> value: array<f32>;
@group(0) @binding(2) var<storage, read> vectors: array<f32>;
@group(0) @binding(3) var<storage, read> rows: array<vec2<u32>>; // sequence, position
@group(0) @binding(4) var<storage, read> angles: array<vec2<f32>>; // cosine, sine
@group(0) @binding(5) var<storage, read_write> query: array<f32>;
@group(0) @binding(6) var<storage, read_write> key: array<f32>;
@group(0) @binding(7) var<storage, read_write> keys: array<u32>;
@group(0) @binding(8) var<storage, read_write> values: array<u32>;

var<workgroup> head: array<f32, 512>;

fn normalize(weight: u32, eps: f32, in: Input) {
    var squares = 0.0;
    for (var i = in.lane; i < p.key_len; i += LANES) {
        squares += head[i] * head[i];
    }
    let factor = inverseSqrt(total(vec4<f32>(squares), in).x / f32(p.key_len) + eps);
    for (var i = in.lane; i < p.key_len; i += LANES) {
        head[i] *= factor * vectors[weight + i];
    }
}

fn rotate(row: u32, lane: u32) {
    for (var i = lane; i < p.pairs; i += LANES) {
        let first = select(i, 2u * i, p.adjacent != 0u);
        let second = select(i + p.pairs, 2u * i + 1u, p.adjacent != 0u);
        let turn = angles[row * p.pairs + i];
        let a = head[first];
        let b = head[second];
        head[first] = a * turn.x - b * turn.y;
        head[second] = a * turn.y + b * turn.x;
    }
}

// The scale of the 32 values of `head` that are block `b`. A value that is not finite has the greatest bits.
fn scale(b: u32) -> f32 {
    var most = 0u;
    for (var i = 32u * b; i < 32u * b + 32u; i++) {
        most = max(most, bitcast<u32>(head[i]) & 0x7fffffffu);
    }
    return bitcast<f32>(most) / 127.0;
}

// The word `i` of a line of the cache made of `head`.
fn packed(i: u32) -> u32 {
    if CACHE == F16 {
        return pack2x16float(vec2<f32>(head[2u * i], head[2u * i + 1u]));
    }
    if CACHE == Q8_0 {
        let s = scale(i / 8u);
        let inverse = select(1.0 / s, 0.0, s == 0.0);
        let v = vec4<f32>(head[4u * i], head[4u * i + 1u], head[4u * i + 2u], head[4u * i + 3u]);
        let scaled = v * inverse;
        // Half a code is rounded away from zero.
        return pack4xI8(vec4<i32>(scaled + select(vec4<f32>(-0.5), vec4<f32>(0.5), scaled >= vec4<f32>(0.0))));
    }
    return bitcast<u32>(head[i]);
}

// The scales of blocks `2 * i` and `2 * i + 1` of a line of `len` values made of `head`.
fn scales(i: u32, len: u32) -> u32 {
    let second = 2u * i + 1u;
    if second < len / 32u {
        return pack2x16float(vec2<f32>(scale(2u * i), scale(second)));
    }
    return pack2x16float(vec2<f32>(scale(2u * i), 0.0));
}

@compute @workgroup_size(LANES)
fn main(in: Input) {
    let row = in.group.y;
    let is_key = in.group.x >= p.query_heads;
    let h = in.group.x - select(0u, p.query_heads, is_key);
    let start = select(
        p.query + row * p.query_stride,
        p.key + row * p.key_stride,
        is_key,
    ) + h * p.key_len;
    for (var i = in.lane; i < p.key_len; i += LANES) {
        if is_key {
            head[i] = key[start + i];
        } else {
            head[i] = query[start + i];
        }
    }
    workgroupBarrier();
    let weight = select(p.query_norm, p.key_norm, is_key);
    if weight != NONE {
        normalize(weight, select(p.query_eps, p.key_eps, is_key), in);
        workgroupBarrier();
    }
    rotate(row, in.lane);
    workgroupBarrier();
    for (var i = in.lane; i < p.key_len; i += LANES) {
        if is_key {
            key[start + i] = head[i];
        } else {
            query[start + i] = head[i];
        }
    }
    if !is_key || p.store == 0u {
        return;
    }
    let each = 1u << CACHE; // values a word
    let place = rows[row];
    let line = (place.x * p.heads + h) * p.context_len + place.y;
    for (var i = in.lane; i < p.key_len / each; i += LANES) {
        keys[line * (p.key_len / each) + i] = packed(i);
    }
    if CACHE == Q8_0 {
        let words = (p.key_len + 63u) / 64u;
        for (var i = in.lane; i < words; i += LANES) {
            keys[p.key_scales + line * words + i] = scales(i, p.key_len);
        }
    }
    workgroupBarrier();
    for (var i = in.lane; i < p.value_len; i += LANES) {
        head[i] = value[p.value + row * p.value_stride + h * p.value_len + i];
    }
    workgroupBarrier();
    for (var i = in.lane; i < p.value_len / each; i += LANES) {
        values[line * (p.value_len / each) + i] = packed(i);
    }
    if CACHE == Q8_0 {
        let words = (p.value_len + 63u) / 64u;
        for (var i = in.lane; i < words; i += LANES) {
            values[p.value_scales + line * words + i] = scales(i, p.value_len);
        }
    }
}
