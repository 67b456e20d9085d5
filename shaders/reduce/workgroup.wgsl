// Sums and maxima over a workgroup, by a tree in its memory.

override LANES: u32;

struct Input {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
}

var<workgroup> partial: array<vec4<f32>, LANES>;

fn total(value: vec4<f32>, in: Input) -> vec4<f32> {
    workgroupBarrier(); // the last result has been read
    partial[in.lane] = value;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if in.lane < half {
            partial[in.lane] += partial[in.lane + half];
        }
    }
    workgroupBarrier();
    return partial[0];
}

fn greatest(value: f32, in: Input) -> f32 {
    workgroupBarrier();
    partial[in.lane].x = value;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if in.lane < half {
            partial[in.lane].x = max(partial[in.lane].x, partial[in.lane + half].x);
        }
    }
    workgroupBarrier();
    return partial[0].x;
}
