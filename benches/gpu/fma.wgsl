// Eight chains of multiply-adds a lane that do not wait for each other.

const STEPS: u32 = 512;

@group(0) @binding(0) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    // Not known before it runs, so that no compiler shortens the chains.
    let x = f32(id.x) * 1e-9;
    let m = vec4(0.5 + x);
    var a = vec4(x);
    var b = a + 0.1;
    var c = a + 0.2;
    var d = a + 0.3;
    var e = a + 0.4;
    var f = a + 0.5;
    var g = a + 0.6;
    var h = a + 0.7;
    for (var step = 0u; step < STEPS; step++) {
        a = fma(a, m, m);
        b = fma(b, m, m);
        c = fma(c, m, m);
        d = fma(d, m, m);
        e = fma(e, m, m);
        f = fma(f, m, m);
        g = fma(g, m, m);
        h = fma(h, m, m);
    }
    out[id.x] = dot(a + b + c + d + e + f + g + h, vec4(1.0));
}
