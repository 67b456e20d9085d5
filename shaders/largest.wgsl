// The largest values of each CHUNK of a row, largest first, of equals the lower place; a few passes leave
// the largest of the row. FIRST reads the row itself, later passes what the one before left.

override FIRST: bool = false;

const LANES = 64u;
const CHUNK = 1024u;
const LOWEST = -3.402823e38;
const NOWHERE = 0xffffffffu;

struct Params {
    x: u32,
    len: u32,
    count: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> before: array<vec2<u32>>; // value, place
@group(0) @binding(3) var<storage, read_write> after: array<vec2<u32>>;

var<workgroup> values: array<f32, CHUNK>;
var<workgroup> places: array<u32, CHUNK>;
var<workgroup> best: array<u32, LANES>; // where each lane's best is

// Whether the value at `i` goes before that at `j`. Values that were taken have no place.
fn goes_first(i: u32, j: u32) -> bool {
    return values[i] > values[j] || (values[i] == values[j] && places[i] < places[j]);
}

fn own_best(lane: u32) -> u32 {
    var found = lane;
    for (var i = lane + LANES; i < CHUNK; i += LANES) {
        if goes_first(i, found) {
            found = i;
        }
    }
    return found;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    for (var i = lane; i < CHUNK; i += LANES) {
        let at = group.x * CHUNK + i;
        values[i] = LOWEST;
        places[i] = NOWHERE;
        if at < p.len {
            var value = 0.0;
            if FIRST {
                value = x[p.x + at];
                places[i] = at;
            } else {
                value = bitcast<f32>(before[at].x);
                places[i] = before[at].y;
            }
            // What is no number goes last; so does minus infinity.
            values[i] = select(LOWEST, value, value > LOWEST);
        }
    }
    var own = own_best(lane);
    for (var k = 0u; k < p.count; k++) {
        best[lane] = own;
        for (var half = LANES / 2u; half > 0u; half /= 2u) {
            workgroupBarrier();
            if lane < half && goes_first(best[lane + half], best[lane]) {
                best[lane] = best[lane + half];
            }
        }
        workgroupBarrier();
        let winner = best[0];
        if lane == 0u {
            let found = vec2<u32>(bitcast<u32>(values[winner]), places[winner]);
            after[group.x * p.count + k] = found;
        }
        workgroupBarrier();
        if winner % LANES == lane {
            values[winner] = LOWEST;
            places[winner] = NOWHERE;
            own = own_best(lane);
        }
    }
}
