// out = bias + W x, or out += W x, for many input rows. A workgroup of 64 makes 64 rows of the matrix for
// 64 input rows. Both sides pass through the workgroup's memory in steps of 32 columns.
//
// Files of `tile` stand before this one. One says what numbers the tiles have, and by what rows are multiplied
// on the way in:
//
//     alias Number
//     fn choose_factors(row: u32, source: u32, lane: u32)
//     fn weight_factor(lane: u32) -> f32
//     fn input_factor(lane: u32) -> f32
//     fn unscaled(sum: f32, row: u32, column: u32) -> f32
//
// The other says how tiles lie and who multiplies them:
//
//     struct Input, struct Sums
//     fn set_left(k: u32, row: u32, value: f32)
//     fn set_right(k: u32, column: u32, value: f32)
//     fn multiply(sums: ptr<function, Sums>, in: Input)
//     fn put_sums(sums: ptr<function, Sums>, tile: Tile, in: Input)
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

// Where the workgroup's results go.
struct Tile {
    row: u32,
    column: u32, // input row, or slot in order
    count: u32,  // of all columns
    start: u32,  // of the expert's slots
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
        let a = w.a[i] * scale.x - low.x;
        let b = w.b[i] * scale.y - low.y;
        for (var k = 0u; k < 4u; k++) {
            set_left(i * 4u + k, lane, a[k]);
            set_left(i * 4u + k + 16u, lane, b[k]);
        }
    }
    for (var i = 0u; i < 8u; i++) {
        let at = u * 8u + i;
        var v = x[p.x + source * p.x_stride + at];
        if RAGGED {
            let columns = vec4<u32>(at * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
            v = select(vec4<f32>(0.0), v, columns < vec4<u32>(p.width));
        }
        for (var k = 0u; k < 4u; k++) {
            set_right(i * 4u + k, lane, v[k] * input_factor(lane));
        }
    }
}

// Of a row and a column of the tile, whose slot is known to be there.
fn put(tile: Tile, row: u32, column: u32, slot: u32, value: f32) {
    if tile.row + row >= p.rows {
        return;
    }
    let at = p.out + slot * p.out_stride + tile.row + row;
    var sum = unscaled(value, row, column);
    if p.bias != NONE {
        let b = p.bias + tile.row + row;
        sum += vectors[b >> 2u][b & 3u];
    }
    if p.add != 0u {
        sum += out[at];
    }
    out[at] = sum;
}

@compute @workgroup_size(64)
fn main(in: Input) {
    var tile = Tile(in.group.x * 64u, in.group.y * 64u, p.columns, 0u);
    var row = min(tile.row + in.lane, p.rows - 1u);
    if EXPERTS {
        tile.start = routes[p.starts + p.first + in.group.z];
        tile.count = routes[p.starts + p.first + in.group.z + 1u] - tile.start;
        row += in.group.z * p.stack;
    }
    if tile.column >= tile.count {
        return;
    }
    let column = min(tile.column + in.lane, tile.count - 1u);
    let source = slot_of(column, tile.start) / p.used;
    choose_factors(row, source, in.lane);
    var sums: Sums;
    for (var u = 0u; u < p.units; u++) {
        workgroupBarrier();
        load(row, source, u, in.lane);
        workgroupBarrier();
        multiply(&sums, in);
    }
    put_sums(&sums, tile, in);
}
