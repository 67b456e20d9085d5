// Sums and maxima over a workgroup: within subgroups by the hardware, then over the subgroups.

override LANES: u32;

struct Input {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) invocation: u32,
}

var<workgroup> partial: array<vec4<f32>, LANES>;

fn total(value: vec4<f32>, in: Input) -> vec4<f32> {
    let own = subgroupAdd(value);
    workgroupBarrier(); // the last result has been read
    if in.invocation == 0u {
        partial[in.subgroup] = own;
    }
    workgroupBarrier();
    var sum = partial[0];
    for (var i = 1u; i < in.subgroups; i++) {
        sum += partial[i];
    }
    return sum;
}

fn greatest(value: f32, in: Input) -> f32 {
    let own = subgroupMax(value);
    workgroupBarrier();
    if in.invocation == 0u {
        partial[in.subgroup].x = own;
    }
    workgroupBarrier();
    var most = partial[0].x;
    for (var i = 1u; i < in.subgroups; i++) {
        most = max(most, partial[i].x);
    }
    return most;
}
