//! Hand-written CPU kernels: block formats, a scalar reference, one file per instruction set.
//!
//! Everything outside this crate calls [`best`] once and keeps the [`Isa`] it returns.
//!
//! # The arithmetic every kernel agrees on
//!
//! Two machines with the same model give the same logits, bit for bit, because each kernel here
//! computes one written-down expression:
//!
//! - Every product and every sum is rounded on its own: no fused multiply-add, since some targets
//!   have none.
//! - A float dot product keeps [`FLOAT_LANES`] partial sums, lane `l` adding the terms
//!   `i % FLOAT_LANES == l` in order, and adds the lanes as a [`tree`].
//! - A quantised dot product works on superblocks of 256 weights, which fall into 8 lanes of 32.
//!   Inside a group (32 weights, or 16 for some formats) the sum is an exact integer. Lane `j` adds,
//!   superblock after superblock and group after group, first
//!   `f32(integer) * (group scale * activation scale)`, then, for a format with minimums, subtracts
//!   `group minimum * (activation scale * f32(sum of activations))`. The lanes are added as a [`tree`].
//! - Elementary functions are those of [`math`].
#![no_std]
#[cfg(feature = "std")]
extern crate std;

mod activation;
mod format;
mod isa;
mod lanes;
pub mod math;
mod scalar;
mod trap;

#[cfg(arm_dsp)]
mod arm;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use activation::{ACTIVATION_BYTES, SUPERBLOCK, activation_bytes};
pub use format::{FORMATS, Format, FormatInfo, Superblock, f16_to_f32, f32_to_f16};
pub use isa::{Isa, PanelArgs, available, best, by_name, fetch};
pub use lanes::{FLOAT_LANES, tree};
pub use trap::trap;
