// Slots in the order of their experts, so that each expert's matrix is read once for all of its slots:
// `order` has the slots, `starts` where each expert's begin, and, last, their number.

const LANES = 256u;
const EXPERTS_MAX = 1024u;

struct Params {
    slots: u32,
    experts: u32,
    order: u32,
    starts: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> routes: array<u32>;

var<workgroup> places: array<atomic<u32>, EXPERTS_MAX>;

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32) {
    for (var e = lane; e < p.experts; e += LANES) {
        atomicStore(&places[e], 0u);
    }
    workgroupBarrier();
    for (var slot = lane; slot < p.slots; slot += LANES) {
        atomicAdd(&places[routes[slot]], 1u);
    }
    workgroupBarrier();
    if lane == 0u {
        var start = 0u;
        for (var e = 0u; e < p.experts; e++) {
            let count = atomicExchange(&places[e], start);
            routes[p.starts + e] = start;
            start += count;
        }
        routes[p.starts + p.experts] = start;
    }
    workgroupBarrier();
    for (var slot = lane; slot < p.slots; slot += LANES) {
        let place = atomicAdd(&places[routes[slot]], 1u);
        routes[p.order + place] = slot;
    }
}
