// Tiles are multiplied by units for matrices of 16 x 16, which a subgroup of 32 lanes shares. Each of the two
// subgroups makes 32 rows for 64 input rows.

struct Input {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
}

alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;

// [column of the step][row], and [column of the step][input row].
var<workgroup> left: array<f16, 2048>;
var<workgroup> right: array<f16, 2048>;
// [input row of 16][row]: what leaves the units at a time.
var<workgroup> block: array<f32, 1024>;

fn set_left(k: u32, row: u32, value: f32) {
    left[k * 64u + row] = f16(value);
}

fn set_right(k: u32, column: u32, value: f32) {
    right[k * 64u + column] = f16(value);
}

// 16 rows and the next 16, of each 16 input rows.
struct Sums {
    a0: Sum, b0: Sum,
    a1: Sum, b1: Sum,
    a2: Sum, b2: Sum,
    a3: Sum, b3: Sum,
}

fn multiply(sums: ptr<function, Sums>, in: Input) {
    for (var k = 0u; k < 2048u; k += 1024u) {
        let low = coopLoad<Left>(&left[k + in.subgroup * 32u], 64u);
        let high = coopLoad<Left>(&left[k + in.subgroup * 32u + 16u], 64u);
        let x0 = coopLoadT<Right>(&right[k], 64u);
        let x1 = coopLoadT<Right>(&right[k + 16u], 64u);
        let x2 = coopLoadT<Right>(&right[k + 32u], 64u);
        let x3 = coopLoadT<Right>(&right[k + 48u], 64u);
        (*sums).a0 = coopMultiplyAdd(low, x0, (*sums).a0);
        (*sums).b0 = coopMultiplyAdd(high, x0, (*sums).b0);
        (*sums).a1 = coopMultiplyAdd(low, x1, (*sums).a1);
        (*sums).b1 = coopMultiplyAdd(high, x1, (*sums).b1);
        (*sums).a2 = coopMultiplyAdd(low, x2, (*sums).a2);
        (*sums).b2 = coopMultiplyAdd(high, x2, (*sums).b2);
        (*sums).a3 = coopMultiplyAdd(low, x3, (*sums).a3);
        (*sums).b3 = coopMultiplyAdd(high, x3, (*sums).b3);
    }
}

fn put_block(low: Sum, high: Sum, first: u32, tile: Tile, in: Input) {
    workgroupBarrier();
    coopStore(low, &block[in.subgroup * 32u], 64u);
    coopStore(high, &block[in.subgroup * 32u + 16u], 64u);
    workgroupBarrier();
    let own = in.lane % 16u;
    let column = first + own;
    if tile.column + column < tile.count {
        let slot = slot_of(tile.column + column, tile.start);
        let row = in.lane / 16u * 16u;
        for (var r = row; r < row + 16u; r++) {
            put(tile, r, column, slot, block[own * 64u + r]);
        }
    }
}

fn put_sums(sums: ptr<function, Sums>, tile: Tile, in: Input) {
    put_block((*sums).a0, (*sums).b0, 0u, tile, in);
    put_block((*sums).a1, (*sums).b1, 16u, tile, in);
    put_block((*sums).a2, (*sums).b2, 32u, tile, in);
    put_block((*sums).a3, (*sums).b3, 48u, tile, in);
}
