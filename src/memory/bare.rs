//! Without an operating system: one arena at a time, and no memory beside it.
//!
//! Tasks that take turns on one core may share the library if only one at a time opens, closes or
//! tokenizes; what an open session does needs no arena.
#![allow(unsafe_code, reason = "unsafe as what it stands in for")]

use super::arena::Scope;
use core::alloc::Layout;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

static SCOPE: AtomicPtr<Scope<'static>> = AtomicPtr::new(null_mut());

pub(super) fn scope() -> *const Scope<'static> {
    SCOPE.load(Ordering::Relaxed)
}

pub(super) fn set_scope(scope: *const Scope<'static>) {
    SCOPE.store(scope.cast_mut(), Ordering::Relaxed);
}

/// A panic ends the program and keeps nothing.
pub(super) fn panicking() -> bool {
    false
}

pub(super) unsafe fn alloc(_: Layout) -> *mut u8 {
    null_mut()
}

pub(super) unsafe fn alloc_zeroed(_: Layout) -> *mut u8 {
    null_mut()
}

pub(super) unsafe fn dealloc(_: *mut u8, _: Layout) {}

pub(super) unsafe fn realloc(_: *mut u8, _: Layout, _: usize) -> *mut u8 {
    null_mut()
}
