//! Where a program cannot go on and nothing can catch it.
#![allow(unsafe_code, reason = "instructions by name; each ends what runs")]

/// Executes the instruction that every core of its kind refuses, so that a fault handler, a debugger or
/// the system sees the place; where none is known, waits for a watchdog.
pub fn trap() -> ! {
    #[cfg(any(target_arch = "arm", target_arch = "aarch64"))]
    // SAFETY: it touches nothing, and nothing comes after it.
    unsafe {
        core::arch::asm!("udf #0", options(noreturn, nomem, nostack));
    }
    #[cfg(any(target_arch = "riscv32", target_arch = "riscv64"))]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!("unimp", options(noreturn, nomem, nostack));
    }
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!("ud2", options(noreturn, nomem, nostack));
    }
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(any(
        target_arch = "arm",
        target_arch = "aarch64",
        target_arch = "riscv32",
        target_arch = "riscv64",
        target_arch = "x86",
        target_arch = "x86_64",
        target_arch = "wasm32"
    )))]
    loop {
        core::hint::spin_loop();
    }
}
