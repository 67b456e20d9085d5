// out = bias + W x, or out += W x, for many input rows. A workgroup of 64 makes 64 rows of the matrix for
// 64 input rows, a lane 8 of 8. Both sides pass through the workgroup's memory in steps of 32 columns.
//
// A file of `tile` stands before this one and says what numbers lie in that memory, and by what they are
// multiplied on the way in:
//
//     alias Number
//     fn choose_factors(row: u32, source: u32, lane: u32)
//     fn weight_factor(lane: u32) -> f32
//     fn input_factor(lane: u32) -> f32
//     fn unscaled(sum: f32, row: u32, column: u32) -> f32
//
// With EXPERTS the matrix is a stack of one an expert, and what it multiplies are that expert's slots, which
// `group` has put in order.

override EXPERTS: bool = false;
override RAGGED: bool = false; // the width is no multiple of 32

const NONE = 0xffffffffu;

struct Params {
    planes: vec4<u32>,
    out: u32,
    out_stride: u32,
    rows: u32,     // of the matrix
    columns: u32,  // input rows
    x: u32,        // start and stride in vectors of four
    x_stride: u32,
    units: u32,    // a row
    width: u32,
    bias: u32,
    add: u32,
    stack: u32,    // rows from one expert's matrix to the next
    first: u32,    // expert whose matrix comes first here
    order: u32,    // starts in `routes`
    starts: u32,
    used: u32,     // slots that share an input row
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> vectors: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> routes: array<u32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

// [column of the step][row / 4], four rows a vector.
var<workgroup> left: array<vec4<Number>, 512>;
// [column of the step][input row / 4].
var<workgroup> right: array<vec4<Number>, 512>;

fn put_left(k: u32, lane: u32, values: vec4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        left[(k + i) * 16u + (lane >> 2u)][lane & 3u] = Number(values[i]);
    }
}

fn put_right(k: u32, lane: u32, values: vec4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        right[(k + i) * 16u + (lane >> 2u)][lane & 3u] = Number(values[i]);
    }
}

// Columns of the output are input rows, or slots.
fn slot_of(column: u32, start: u32) -> u32 {
    if EXPERTS {
        return routes[p.order + start + column];
    }
    return column;
}

fn load(row: u32, source: u32, u: u32, lane: u32) {
    let w = unit(p.planes, row * p.units + u);
    let scale = w.scale * weight_factor(lane);
    let low = w.min * weight_factor(lane);
    for (var i = 0u; i < 4u; i++) {
        put_left(i * 4u, lane, w.a[i] * scale.x - low.x);
        put_left(i * 4u + 16u, lane, w.b[i] * scale.y - low.y);
    }
    for (var i = 0u; i < 8u; i++) {
        let at = u * 8u + i;
        var v = x[p.x + source * p.x_stride + at];
        if RAGGED {
            let columns = vec4<u32>(at * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
            v = select(vec4<f32>(0.0), v, columns < vec4<u32>(p.width));
        }
        put_right(i * 4u, lane, v * input_factor(lane));
    }
}

fn put_one(row: u32, column: u32, slot: u32, value: f32) {
    if row >= p.rows {
        return;
    }
    let at = p.out + slot * p.out_stride + row;
    var sum = unscaled(value, row % 64u, column % 64u);
    if p.bias != NONE {
        let b = p.bias + row;
        sum += vectors[b >> 2u][b & 3u];
    }
    if p.add != 0u {
        sum += out[at];
    }
    out[at] = sum;
}

// The columns of a lane.
struct Columns {
    first: u32,
    count: u32, // of all
    start: u32, // of the expert's slots
}

fn put(row: u32, i: u32, columns: Columns, low: vec4<f32>, high: vec4<f32>) {
    let column = columns.first + i;
    if column >= columns.count {
        return;
    }
    let slot = slot_of(column, columns.start);
    for (var r = 0u; r < 4u; r++) {
        put_one(row + r, column, slot, low[r]);
        put_one(row + 4u + r, column, slot, high[r]);
    }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var count = p.columns;
    var start = 0u;
    var row = min(group.x * 64u + lane, p.rows - 1u);
    if EXPERTS {
        start = routes[p.starts + p.first + group.z];
        count = routes[p.starts + p.first + group.z + 1u] - start;
        row += group.z * p.stack;
    }
    if group.y * 64u >= count {
        return;
    }
    let column = min(group.y * 64u + lane, count - 1u);
    let source = slot_of(column, start) / p.used;
    let r = (lane & 7u) * 2u; // this lane's rows and input rows, in fours
    let c = (lane >> 3u) * 2u;
    var a0 = vec4<f32>(0.0); var b0 = vec4<f32>(0.0);
    var a1 = vec4<f32>(0.0); var b1 = vec4<f32>(0.0);
    var a2 = vec4<f32>(0.0); var b2 = vec4<f32>(0.0);
    var a3 = vec4<f32>(0.0); var b3 = vec4<f32>(0.0);
    var a4 = vec4<f32>(0.0); var b4 = vec4<f32>(0.0);
    var a5 = vec4<f32>(0.0); var b5 = vec4<f32>(0.0);
    var a6 = vec4<f32>(0.0); var b6 = vec4<f32>(0.0);
    var a7 = vec4<f32>(0.0); var b7 = vec4<f32>(0.0);
    choose_factors(row, source, lane);
    for (var u = 0u; u < p.units; u++) {
        workgroupBarrier();
        load(row, source, u, lane);
        workgroupBarrier();
        for (var k = 0u; k < 512u; k += 16u) {
            let low = vec4<f32>(left[k + r]);
            let high = vec4<f32>(left[k + r + 1u]);
            let x0 = vec4<f32>(right[k + c]);
            let x1 = vec4<f32>(right[k + c + 1u]);
            a0 += low * x0.x; b0 += high * x0.x;
            a1 += low * x0.y; b1 += high * x0.y;
            a2 += low * x0.z; b2 += high * x0.z;
            a3 += low * x0.w; b3 += high * x0.w;
            a4 += low * x1.x; b4 += high * x1.x;
            a5 += low * x1.y; b5 += high * x1.y;
            a6 += low * x1.z; b6 += high * x1.z;
            a7 += low * x1.w; b7 += high * x1.w;
        }
    }
    let first = group.x * 64u + r * 4u;
    let columns = Columns(group.y * 64u + c * 4u, count, start);
    put(first, 0u, columns, a0, b0);
    put(first, 1u, columns, a1, b1);
    put(first, 2u, columns, a2, b2);
    put(first, 3u, columns, a3, b3);
    put(first, 4u, columns, a4, b4);
    put(first, 5u, columns, a5, b5);
    put(first, 6u, columns, a6, b6);
    put(first, 7u, columns, a7, b7);
}
