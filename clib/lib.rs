//! The C library. `include/attar.h` says what is in it; this adds what only a finished library has: the
//! allocator, and without an operating system what happens in a panic.
#![cfg_attr(not(feature = "std"), no_std)]

use runtime::memory::Heap;

#[global_allocator]
static HEAP: Heap = Heap;

/// A defect of the library where nothing can catch it.
#[cfg(not(feature = "std"))]
#[panic_handler]
fn defect(_: &core::panic::PanicInfo<'_>) -> ! {
    runtime::kernels::trap()
}
