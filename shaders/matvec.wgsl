// Up to three products of one input row: out = bias + W x, or out += W x. A workgroup makes four rows of
// one matrix. In front of the products the input may be normalised by its root mean square (NORM), behind
// two of them the first may gate the second (GATED): silu(W0 x) * W1 x.
//
// A file of `input` stands before this one and says what the input is, one of `dot` how it is multiplied:
//
//     fn inputs(row: u32, u: u32) -> Inputs
//     fn dot_unit(planes: vec4<u32>, u: u32, x: Inputs) -> f32
//
// Where the matrices have several formats there is a `dot_unit` for each, and one that looks at `matrix`.
//
// With EXPERTS the matrices are stacks of one matrix an expert, and a slot's route says which it takes.

override NORM: bool = false;
override GATED: bool = false;
override EXPERTS: bool = false;
override RAGGED: bool = false; // the width is no multiple of 32

const NONE = 0xffffffffu;

struct Product {
    planes: vec4<u32>,
    out: u32,        // start
    out_stride: u32,
    rows: u32,       // of a matrix, as far as they lie here
    stack: u32,      // rows from one expert's matrix to the next
    first: u32,      // expert whose matrix comes first here
    end: u32,        // and after the last
    bias: u32,       // start in `vectors`, or NONE
    blocks: u32,     // of four rows
}

struct Params {
    products: array<Product, 3>,
    x: u32,          // start and stride in vectors of four
    x_stride: u32,
    units: u32,      // a row
    width: u32,
    weight: u32,     // of the norm
    eps: f32,
    add: u32,
    used: u32,       // slots that share an input row
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(3) var<storage, read> vectors: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> routes: array<u32>;
@group(0) @binding(5) var<storage, read_write> out0: array<f32>;
@group(0) @binding(6) var<storage, read_write> out1: array<f32>;
@group(0) @binding(7) var<storage, read_write> out2: array<f32>;

var<private> square: f32;
var<private> matrix: u32; // at work

// This lane's part of four rows from `row` on, none beyond `last`.
fn four_rows(planes: vec4<u32>, row: u32, last: u32, source: u32, lane: u32) -> vec4<f32> {
    let rows = min(vec4<u32>(row) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(last)) * p.units;
    var sum = vec4<f32>(0.0);
    square = 0.0;
    for (var u = lane; u < p.units; u += LANES) {
        let x = inputs(source, u);
        sum += vec4<f32>(
            dot_unit(planes, rows.x + u, x),
            dot_unit(planes, rows.y + u, x),
            dot_unit(planes, rows.z + u, x),
            dot_unit(planes, rows.w + u, x),
        );
    }
    return sum;
}

fn with_bias(value: f32, bias: u32, row: u32) -> f32 {
    if bias == NONE {
        return value;
    }
    let at = bias + row;
    return value + vectors[at >> 2u][at & 3u];
}

fn put(which: u32, at: u32, value: f32) {
    switch which {
        case 0u: { out0[at] = value + select(0.0, out0[at], p.add != 0u); }
        case 1u: { out1[at] = value + select(0.0, out1[at], p.add != 0u); }
        default: { out2[at] = value + select(0.0, out2[at], p.add != 0u); }
    }
}

@compute @workgroup_size(LANES)
fn main(in: Input) {
    var block = in.group.x + in.group.y * in.groups.x;
    var which = 0u;
    if !GATED {
        while which < 2u && block >= p.products[which].blocks {
            block -= p.products[which].blocks;
            which++;
        }
    }
    let m = p.products[which];
    if block >= m.blocks {
        return;
    }
    let slot = in.group.z;
    var source = slot;
    var base = 0u;
    if EXPERTS {
        let expert = routes[slot];
        if expert < m.first || expert >= m.end {
            return;
        }
        source = slot / p.used;
        base = (expert - m.first) * m.stack;
    }
    matrix = which;
    let row = base + block * 4u;
    let last = base + m.rows - 1u;
    let sum = total(four_rows(m.planes, row, last, source, in.lane), in);
    var up = vec4<f32>(0.0);
    if GATED {
        matrix = 1u;
        up = total(four_rows(p.products[1].planes, row, last, source, in.lane), in);
    }
    var factor = 1.0;
    if NORM {
        let squares = total(vec4<f32>(square, 0.0, 0.0, 0.0), in).x;
        factor = inverseSqrt(squares / f32(p.width) + p.eps);
    }
    let own = block * 4u + in.lane;
    if in.lane >= 4u || own >= m.rows {
        return;
    }
    var value = with_bias(sum[in.lane] * factor, m.bias, own);
    if GATED {
        let other = with_bias(up[in.lane] * factor, p.products[1].bias, own);
        value = value / (1.0 + exp(-value)) * other;
    }
    put(which, m.out + slot * m.out_stride + own, value);
}
