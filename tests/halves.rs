//! Conversions of halves against a well-kept library's.

use attar::kernels::{f16_to_f32, f32_to_f16};
use half::f16;

#[test]
fn halves_are_those_of_the_library() {
    for bits in 0..=u16::MAX {
        let (own, other) = (f16_to_f32(bits.to_le_bytes()), f16::from_bits(bits).to_f32());
        assert!(own.to_bits() == other.to_bits() || own.is_nan() && other.is_nan(), "{bits:#x}");
    }
    // Every 4099th float: more than a million, of all sizes.
    for bits in (0..u32::MAX).step_by(4099) {
        let x = f32::from_bits(bits);
        let (own, other) = (u16::from_le_bytes(f32_to_f16(x)), f16::from_f32(x).to_bits());
        assert!(own == other || x.is_nan(), "{x:e}: {own:#x} and {other:#x}");
    }
}
