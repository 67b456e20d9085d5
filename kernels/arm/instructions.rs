//! Instructions that stable Rust does not offer, each as a safe function.
#![allow(unsafe_code, reason = "instructions by name; each touches registers alone")]

use core::arch::asm;

/// The even and the odd bytes of a word, widened to 16 bits with their sign.
#[inline(always)]
pub(super) fn widen(word: u32) -> [u32; 2] {
    let (even, odd);
    // SAFETY: registers alone; this file is compiled where the core has the instructions.
    unsafe {
        asm!(
            "sxtb16 {even}, {word}",
            "sxtb16 {odd}, {word}, ror #8",
            word = in(reg) word, even = out(reg) even, odd = lateout(reg) odd,
            options(nomem, nostack, preserves_flags)
        );
    }
    [even, odd]
}

/// `sum` and the products of the lower and of the upper halves of two words.
#[inline(always)]
pub(super) fn add_products(a: u32, b: u32, mut sum: i32) -> i32 {
    // SAFETY: as in `widen`. Sums of bytes' products are far from the ends of 32 bits, so that the
    // flag of an overflow stays as it is.
    unsafe {
        asm!(
            "smlad {sum}, {a}, {b}, {sum}",
            a = in(reg) a, b = in(reg) b, sum = inout(reg) sum,
            options(nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// `sum` and the products of the signed bytes of `word` with what [`widen`] made of others.
#[inline(always)]
pub(super) fn add_byte_products(word: u32, [even, odd]: [u32; 2], mut sum: i32) -> i32 {
    // SAFETY: as in `add_products`.
    unsafe {
        asm!(
            "sxtb16 {a}, {word}",
            "sxtb16 {b}, {word}, ror #8",
            "smlad {sum}, {a}, {even}, {sum}",
            "smlad {sum}, {b}, {odd}, {sum}",
            word = in(reg) word, even = in(reg) even, odd = in(reg) odd,
            a = out(reg) _, b = out(reg) _, sum = inout(reg) sum,
            options(nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// The lower and the upper IEEE half of a word. A NaN stays one, in other bits perhaps.
#[inline(always)]
#[cfg(target_abi = "eabihf")]
pub(super) fn halves(word: u32) -> [f32; 2] {
    let (lower, upper): (u32, u32);
    // Through core registers, as Rust counts this FPU among none of those whose registers it lends.
    // SAFETY: as in `widen`; every FPU of a Cortex-M converts halves.
    unsafe {
        asm!(
            "vmov s0, {word}",
            "vcvtt.f32.f16 s1, s0",
            "vcvtb.f32.f16 s0, s0",
            "vmov {lower}, {upper}, s0, s1",
            word = in(reg) word, lower = lateout(reg) lower, upper = lateout(reg) upper,
            out("s0") _, out("s1") _,
            options(nomem, nostack, preserves_flags)
        );
    }
    [f32::from_bits(lower), f32::from_bits(upper)]
}

/// As above where there is no FPU.
#[inline(always)]
#[cfg(not(target_abi = "eabihf"))]
pub(super) fn halves(word: u32) -> [f32; 2] {
    let [a, b, c, d] = word.to_le_bytes();
    [crate::f16_to_f32([a, b]), crate::f16_to_f32([c, d])]
}
