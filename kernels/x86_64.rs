//! x86-64: what AVX2 and AVX-512 share.
#![allow(unsafe_code, reason = "a hint to the memory takes a pointer")]

mod avx2;
mod avx2_blocks;
mod avx2_matvec;
mod avx2_panel;
mod avx512_k_quants;
mod avx512_matvec;
mod avx512_panel;
mod avx512_sum;
mod avx512_vnni;
mod lanes;
mod panel;
mod quantize;
mod unpack;

pub(crate) use avx2::AVX2;
pub(crate) use avx512_vnni::AVX512_VNNI;

/// See [`crate::fetch`]: into the second-level cache.
pub(crate) fn fetch(address: usize) {
    use core::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    // SAFETY: every CPU of this architecture has the instruction, which never faults.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(address as *const i8) };
}

/// Whether this CPU, and the operating system, offer a feature.
macro_rules! has {
    ($($feature:tt),*) => {{
        #[cfg(feature = "std")]
        { $(std::arch::is_x86_feature_detected!($feature))&&* }
        #[cfg(not(feature = "std"))]
        { $(cfg!(target_feature = $feature))&&* }
    }};
}
pub(crate) use has;
