//! Elementary functions in plain arithmetic, so that `core` suffices and every platform
//! computes the same bits. Accurate to about one unit in the last place of f32.

use core::f64::consts::{FRAC_2_PI, LN_2, LOG2_E, PI};

/// Adding and subtracting 1.5 * 2^23 rounds a small float to an integer, ties to even.
const ROUND: f32 = 12_582_912.0;

/// e to the `x`, within 2 units in the last place; 0 below -87.3, the largest finite power above 88.3.
///
/// Branch-free, so that a loop over it vectorises: `e^x = 2^n e^r`, `|r| <= ln 2 / 2`, with the
/// polynomial for `e^r` of Cephes' `expf` (S. L. Moshier).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let clamped = if x > 88.3 { 88.3 } else { x };
    let biased = clamped * core::f32::consts::LOG2_E + ROUND;
    let n = biased - ROUND;
    let r = clamped - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4f32;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let power = f32::from_bits((biased.to_bits() << 23).wrapping_add(0x3f80_0000));
    let y = (p * (r * r) + r + 1.0) * power;
    if x < -87.3 { 0.0 } else { y }
}

/// Natural logarithm of a positive normal `x`.
pub fn ln(x: f32) -> f32 {
    ln64(f64::from(x)) as f32
}

/// `base` to the `power`, for positive `base`.
pub fn pow(base: f32, power: f32) -> f32 {
    exp64(f64::from(power) * ln64(f64::from(base))) as f32
}

/// Sine and cosine of an angle of up to 2^31 quarter turns. The angle is an f64 because that of a
/// late position times a frequency needs more digits than an f32 has.
pub fn sin_cos(x: f64) -> (f32, f32) {
    let quarter = (x * FRAC_2_PI + 0.5f64.copysign(x)) as i64;
    let r = x - quarter as f64 * (PI / 2.0);
    let r2 = r * r;
    let sin = r
        * (1.0
            - r2 / 6.0
                * (1.0 - r2 / 20.0 * (1.0 - r2 / 42.0 * (1.0 - r2 / 72.0 * (1.0 - r2 / 110.0)))));
    let cos = 1.0
        - r2 / 2.0
            * (1.0
                - r2 / 12.0
                    * (1.0
                        - r2 / 30.0 * (1.0 - r2 / 56.0 * (1.0 - r2 / 90.0 * (1.0 - r2 / 132.0)))));
    let (sin, cos) = match quarter & 3 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    };
    (sin as f32, cos as f32)
}

/// Square root of a finite `x >= 0`.
pub fn sqrt(x: f32) -> f32 {
    let x = f64::from(x);
    let mut y = f64::from_bits((x.to_bits() >> 1) + 0x1ff7_a3be_a91d_9b1b);
    for _ in 0..4 {
        y = 0.5 * (y + x / y);
    }
    y as f32
}

/// e to the `x`, in double precision, for `x` within -700..=700.
pub fn exp64(x: f64) -> f64 {
    let n = (x * LOG2_E + 0.5f64.copysign(x)) as i64;
    let r = x - n as f64 * LN_2;
    let mut sum = 1.0;
    let mut k = 13.0;
    while k > 0.0 {
        sum = 1.0 + r / k * sum;
        k -= 1.0;
    }
    sum * f64::from_bits(((n + 1023) as u64) << 52)
}

/// Natural logarithm of a positive normal `x`, in double precision.
pub fn ln64(x: f64) -> f64 {
    let exponent = (x.to_bits() >> 52) as i64 - 1023;
    let m = f64::from_bits(x.to_bits() & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000);
    let t = (m - 1.0) / (m + 1.0);
    let (mut sum, mut power, mut k) = (0.0, t, 1.0);
    while k < 40.0 {
        sum += power / k;
        power *= t * t;
        k += 2.0;
    }
    2.0 * sum + exponent as f64 * LN_2
}
