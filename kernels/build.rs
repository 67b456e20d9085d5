//! Says whether the target multiplies packed 16-bit numbers: stable Rust does not tell.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(arm_dsp)");
    let variable = |name| std::env::var(name).unwrap_or_default();
    let named = variable("CARGO_CFG_TARGET_FEATURE").split(',').any(|feature| feature == "dsp");
    if variable("CARGO_CFG_TARGET_ARCH") == "arm"
        && (named || variable("TARGET").starts_with("thumbv7em"))
    {
        println!("cargo::rustc-cfg=arm_dsp");
    }
}
