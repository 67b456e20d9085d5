//! x86-64: what AVX2 and AVX-512 share.

mod avx2;
mod avx2_matvec;
mod avx2_panel;
mod avx512_matvec;
mod avx512_panel;
mod avx512_sum;
mod avx512_vnni;
mod lanes;
mod panel;
mod unpack;

pub(crate) use avx2::AVX2;
pub(crate) use avx512_vnni::AVX512_VNNI;

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
