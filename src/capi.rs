//! The C interface: `include/attar.h` says what every function does, this is how.
//!
//! `calls/` has the functions a C program sees: they turn pointers into references, slices and
//! handles, and hand them to safe code. No panic crosses them where the standard library can catch
//! one; elsewhere a panic is the end, in the handler of the C library.
#![allow(clippy::result_large_err, reason = "an error is told once and never kept")]

mod calls;
mod config;
#[cfg(feature = "gpu")]
#[path = "capi/gpu.rs"]
mod device;
#[cfg(not(feature = "gpu"))]
#[path = "capi/no_gpu.rs"]
mod device;
mod failure;
mod generate;
mod handle;
mod identity;
mod lent;
mod model;
mod out;
mod plan;
mod raw;
mod session;
mod source;
mod state;
mod stats;
mod stops;
mod text;
mod types;
