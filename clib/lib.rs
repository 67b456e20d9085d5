//! The C library. `include/attar.h` says what is in it; this adds what only a finished library has: the
//! allocator, and without an operating system what happens in a panic.
#![cfg_attr(not(feature = "std"), no_std)]

use runtime::memory::Heap;

#[global_allocator]
static HEAP: Heap = Heap;

/// A defect of the library where nothing can catch it: the core stops here, for a watchdog or a
/// debugger to find.
#[cfg(not(feature = "std"))]
#[panic_handler]
fn trap(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
