//! Under an operating system: an arena belongs to a thread, and beside it is the system's allocator.
#![allow(unsafe_code, reason = "an allocator is unsafe to call")]

use super::arena::Scope;
use core::cell::Cell;
use core::ptr::null;
use std::alloc::{GlobalAlloc, Layout, System};

std::thread_local! {
    /// Plain data, so that reading it allocates nothing, also while the thread ends.
    static SCOPE: Cell<*const Scope<'static>> = const { Cell::new(null()) };
}

pub(super) fn scope() -> *const Scope<'static> {
    SCOPE.get()
}

pub(super) fn set_scope(scope: *const Scope<'static>) {
    SCOPE.set(scope);
}

/// A panic's message outlives the arena it arose in, and must not find it full.
pub(super) fn panicking() -> bool {
    std::thread::panicking()
}

/// # Safety
/// As [`GlobalAlloc::alloc`].
pub(super) unsafe fn alloc(layout: Layout) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { System.alloc(layout) }
}

/// # Safety
/// As [`GlobalAlloc::alloc_zeroed`].
pub(super) unsafe fn alloc_zeroed(layout: Layout) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { System.alloc_zeroed(layout) }
}

/// # Safety
/// As [`GlobalAlloc::dealloc`].
pub(super) unsafe fn dealloc(pointer: *mut u8, layout: Layout) {
    // SAFETY: the caller's promise.
    unsafe { System.dealloc(pointer, layout) }
}

/// # Safety
/// As [`GlobalAlloc::realloc`].
pub(super) unsafe fn realloc(pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { System.realloc(pointer, layout, size) }
}
