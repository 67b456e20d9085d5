// Tiles lie four numbers to a vector; a lane makes 8 rows for 8 input rows.

struct Input {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
}

// [column of the step][row / 4], and [column of the step][input row / 4].
var<workgroup> left: array<vec4<Number>, 512>;
var<workgroup> right: array<vec4<Number>, 512>;

fn set_left(k: u32, row: u32, value: f32) {
    left[k * 16u + (row >> 2u)][row & 3u] = Number(value);
}

fn set_right(k: u32, column: u32, value: f32) {
    right[k * 16u + (column >> 2u)][column & 3u] = Number(value);
}

// Of each input row four rows and the next four.
struct Sums {
    a0: vec4<f32>, b0: vec4<f32>,
    a1: vec4<f32>, b1: vec4<f32>,
    a2: vec4<f32>, b2: vec4<f32>,
    a3: vec4<f32>, b3: vec4<f32>,
    a4: vec4<f32>, b4: vec4<f32>,
    a5: vec4<f32>, b5: vec4<f32>,
    a6: vec4<f32>, b6: vec4<f32>,
    a7: vec4<f32>, b7: vec4<f32>,
}

fn multiply(sums: ptr<function, Sums>, in: Input) {
    let r = (in.lane & 7u) * 2u;
    let c = (in.lane >> 3u) * 2u;
    for (var k = 0u; k < 512u; k += 16u) {
        let low = vec4<f32>(left[k + r]);
        let high = vec4<f32>(left[k + r + 1u]);
        let x0 = vec4<f32>(right[k + c]);
        let x1 = vec4<f32>(right[k + c + 1u]);
        (*sums).a0 += low * x0.x; (*sums).b0 += high * x0.x;
        (*sums).a1 += low * x0.y; (*sums).b1 += high * x0.y;
        (*sums).a2 += low * x0.z; (*sums).b2 += high * x0.z;
        (*sums).a3 += low * x0.w; (*sums).b3 += high * x0.w;
        (*sums).a4 += low * x1.x; (*sums).b4 += high * x1.x;
        (*sums).a5 += low * x1.y; (*sums).b5 += high * x1.y;
        (*sums).a6 += low * x1.z; (*sums).b6 += high * x1.z;
        (*sums).a7 += low * x1.w; (*sums).b7 += high * x1.w;
    }
}

fn put_eight(tile: Tile, row: u32, column: u32, low: vec4<f32>, high: vec4<f32>) {
    if tile.column + column >= tile.count {
        return;
    }
    let slot = slot_of(tile.column + column, tile.start);
    for (var r = 0u; r < 4u; r++) {
        put(tile, row + r, column, slot, low[r]);
        put(tile, row + 4u + r, column, slot, high[r]);
    }
}

fn put_sums(sums: ptr<function, Sums>, tile: Tile, in: Input) {
    let row = (in.lane & 7u) * 8u;
    let column = (in.lane >> 3u) * 8u;
    put_eight(tile, row, column, (*sums).a0, (*sums).b0);
    put_eight(tile, row, column + 1u, (*sums).a1, (*sums).b1);
    put_eight(tile, row, column + 2u, (*sums).a2, (*sums).b2);
    put_eight(tile, row, column + 3u, (*sums).a3, (*sums).b3);
    put_eight(tile, row, column + 4u, (*sums).a4, (*sums).b4);
    put_eight(tile, row, column + 5u, (*sums).a5, (*sums).b5);
    put_eight(tile, row, column + 6u, (*sums).a6, (*sums).b6);
    put_eight(tile, row, column + 7u, (*sums).a7, (*sums).b7);
}
