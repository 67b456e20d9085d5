//! Handles: each lies at the start of the memory lent for it, before the arena it owns.
//!
//! A handle knows what it is, who uses it, and whether a defect was met: so that a wrong pointer, a
//! call from a callback or a second thread, and a handle that may be half-changed give a status.
#![allow(unsafe_code, reason = "a handle is a pointer to memory of a C caller")]

use super::failure::{Outcome, Status, failure, wrong};
use super::types::AttarMem;
use crate::memory::{self, Arena};
use core::cell::UnsafeCell;
use core::ops::Deref;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

/// What a handle can be of.
pub(super) trait Kind: 'static {
    /// Tells handles from other memory, and of each kind from the other.
    const TAG: u32;
}

/// A handle, as the caller's opaque type.
pub(super) struct Handle<T> {
    tag: AtomicU32,
    /// Readers, or -1 for a writer.
    users: AtomicI32,
    /// A call panicked half-way.
    broken: AtomicBool,
    cancel: AtomicBool,
    memory: Memory,
    arena: Arena,
    value: UnsafeCell<Option<T>>,
}

/// What a handle is opened for.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Use,
    /// To see how much memory it takes, in less: the value is never used.
    Measure,
}

/// Everything starts at multiples of this.
const ALIGN: usize = 64;

/// Memory for a handle: the caller's, or the library's own until it is dropped.
pub(super) struct Memory {
    base: *mut u8,
    len: usize,
    claimed: bool,
}

impl Memory {
    /// Memory the caller lends, from its first aligned address on; `None` if it is the library's to
    /// claim.
    pub(super) fn lent(memory: &AttarMem) -> Option<Self> {
        let base = memory.base.cast::<u8>();
        if base.is_null() {
            return None;
        }
        let skipped = base.addr().wrapping_neg() % ALIGN;
        let len = memory.size.saturating_sub(skipped);
        Some(Self { base: base.wrapping_add(skipped), len, claimed: false })
    }

    /// The same memory, of which the end may be used as long as its owner uses only the start.
    pub(super) fn rest(&self) -> Self {
        Self { claimed: false, ..*self }
    }

    /// What is left after the first `len` bytes.
    pub(super) fn after(self, len: usize) -> Self {
        let start = len.next_multiple_of(ALIGN).min(self.len);
        Self { base: self.base.wrapping_add(start), len: self.len - start, claimed: false }
    }

    /// Runs `work` within an arena in this memory.
    pub(super) fn lend<T: Copy>(self, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        // SAFETY: the memory is nobody else's until this returns.
        let arena = unsafe { Arena::new(self.base, self.len) };
        // SAFETY: neither the result nor a failure holds memory.
        unsafe { memory::within(&arena, work) }
    }

    /// Memory from the system, in one piece.
    pub(super) fn claim(len: usize) -> Outcome<Self> {
        let base = system::claim(len);
        if base.is_null() {
            return Err(failure(Status::NoMemory, "the heap has not as much memory"));
        }
        Ok(Self { base, len, claimed: true })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.claimed {
            system::release(self.base, self.len);
        }
    }
}

#[cfg(feature = "std")]
mod system {
    use super::ALIGN;
    use std::alloc::{GlobalAlloc, Layout, System};

    fn layout(len: usize) -> Option<Layout> {
        Layout::from_size_align(len.max(1), ALIGN).ok()
    }

    pub(super) fn claim(len: usize) -> *mut u8 {
        // SAFETY: the size is not zero.
        layout(len).map_or(core::ptr::null_mut(), |layout| unsafe { System.alloc(layout) })
    }

    pub(super) fn release(base: *mut u8, len: usize) {
        if let Some(layout) = layout(len) {
            // SAFETY: claimed above with the same layout.
            unsafe { System.dealloc(base, layout) }
        }
    }
}

#[cfg(not(feature = "std"))]
mod system {
    pub(super) fn claim(_: usize) -> *mut u8 {
        core::ptr::null_mut()
    }

    pub(super) fn release(_: *mut u8, _: usize) {}
}

impl<T: Kind> Handle<T> {
    /// Bytes a handle takes before its arena.
    const LEN: usize = size_of::<Self>().next_multiple_of(ALIGN);

    /// Makes a handle of what `build` makes within the arena.
    pub(super) fn open(
        memory: Memory,
        purpose: Purpose,
        build: impl FnOnce() -> Outcome<T>,
    ) -> Outcome<Opened<T>> {
        let Some(room) = memory.len.checked_sub(Self::LEN) else {
            return Err(failure(Status::NoMemory, "no memory for a handle"));
        };
        let handle = memory.base.cast::<Self>();
        let make = match purpose {
            Purpose::Use => Arena::new,
            Purpose::Measure => Arena::measuring,
        };
        // SAFETY: the rest of the memory, lent for as long as the handle lives.
        let arena = unsafe { make(memory.base.wrapping_add(Self::LEN), room) };
        let value = Self {
            tag: AtomicU32::new(T::TAG),
            users: AtomicI32::new(0),
            broken: AtomicBool::new(false),
            cancel: AtomicBool::new(false),
            memory,
            arena,
            value: UnsafeCell::new(None),
        };
        // SAFETY: aligned to more than the type asks for, and long enough.
        unsafe { handle.write(value) };
        let opened = Opened { handle };
        // SAFETY: the value is dropped within the arena by `give_up`; a failure holds no memory.
        let value = unsafe { memory::within(&opened.arena, build)? };
        // SAFETY: nobody else has the address.
        unsafe { *opened.value.get() = Some(value) };
        Ok(opened)
    }

    /// Bytes of memory used at most since the handle was opened.
    pub(super) fn used_max(&self) -> usize {
        Self::LEN + self.arena.peak()
    }

    /// Set when the call at work, or the next, is to end.
    pub(super) fn cancel_flag(&self) -> &AtomicBool {
        &self.cancel
    }

    /// Asks the call at work, or the next, to end.
    pub(super) fn cancel(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }

    /// The handle at an address.
    ///
    /// # Safety
    /// `pointer` is NULL, or names a handle or other readable memory of its size.
    pub(super) unsafe fn at<'a>(pointer: *const Self) -> Outcome<&'a Self> {
        if pointer.is_null() {
            return Err(wrong("a handle is NULL"));
        }
        if !pointer.is_aligned() {
            return Err(wrong("not a handle"));
        }
        // SAFETY: readable, and any bits are a tag.
        let tag = unsafe { &(*pointer).tag };
        if tag.load(Ordering::Acquire) != T::TAG {
            return Err(wrong("not a handle of this kind, or a closed one"));
        }
        // SAFETY: a handle, as its tag says.
        Ok(unsafe { &*pointer })
    }

    /// The value, to look at; others may look at it too.
    pub(super) fn share(&self) -> Outcome<Shared<'_, T>> {
        self.enter(|users| (users >= 0).then(|| users + 1))?;
        let _leave = Leave { handle: self, count: 1 };
        // SAFETY: counted as a reader, so there is no writer.
        let value = unsafe { &*self.value.get() };
        value.as_ref().map(|value| Shared { value, _leave }).ok_or_else(busy)
    }

    /// Works on the value, alone.
    pub(super) fn work<R>(&self, work: impl FnOnce(&mut T) -> Outcome<R>) -> Outcome<R> {
        self.enter(|users| (users == 0).then_some(-1))?;
        let _leave = Leave { handle: self, count: -1 };
        // SAFETY: counted as the writer, so there is nobody else.
        let value = unsafe { &mut *self.value.get() };
        let value = value.as_mut().ok_or_else(busy)?;
        // A panic drops what it passes, which may lie in the arena. Where panics end the program, tasks
        // may work at the same time, and only one could be within an arena.
        if cfg!(feature = "std") {
            // SAFETY: nothing that runs allocates; a failure holds no memory.
            unsafe { memory::within(&self.arena, || work(value)) }
        } else {
            work(value)
        }
    }

    fn enter(&self, count: impl Fn(i32) -> Option<i32>) -> Outcome<()> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(failure(Status::State, "the handle met a defect before"));
        }
        let entered = self.users.fetch_update(Ordering::Acquire, Ordering::Relaxed, count);
        entered.map(drop).map_err(|_| busy())
    }

    /// The model of a session outlives it, by the header's contract.
    pub(super) fn lasting(&self) -> Outcome<&'static T> {
        let shared = self.share()?;
        let value: *const T = shared.value;
        // SAFETY: a shared value is never changed, and stays until its handle is closed.
        Ok(unsafe { &*value })
    }
}

fn busy() -> super::failure::Failure {
    failure(Status::State, "the handle is at work")
}

/// A handle that is given up unless it is kept.
pub(super) struct Opened<T: Kind> {
    handle: *mut Handle<T>,
}

impl<T: Kind> Opened<T> {
    /// The handle, to be closed by [`close`].
    pub(super) fn keep(self) -> *mut Handle<T> {
        let handle = self.handle;
        core::mem::forget(self);
        handle
    }
}

impl<T: Kind> Deref for Opened<T> {
    type Target = Handle<T>;

    fn deref(&self) -> &Handle<T> {
        // SAFETY: a handle from when it was opened on.
        unsafe { &*self.handle }
    }
}

impl<T: Kind> Drop for Opened<T> {
    fn drop(&mut self) {
        // SAFETY: its only owner gives it up.
        unsafe { give_up(self.handle) }
    }
}

/// Closes a handle; one at work stays.
///
/// # Safety
/// `pointer` is NULL or names a handle, which nobody uses afterwards.
pub(super) unsafe fn close<T: Kind>(pointer: *mut Handle<T>) {
    // SAFETY: the caller's promise.
    let Ok(handle) = (unsafe { Handle::at(pointer) }) else { return };
    let free = handle.users.compare_exchange(0, -1, Ordering::Acquire, Ordering::Relaxed);
    if free.is_ok() {
        // SAFETY: a handle, and this is its only user.
        unsafe { give_up(pointer) }
    }
}

/// # Safety
/// `pointer` names a handle nobody else uses.
unsafe fn give_up<T>(pointer: *mut Handle<T>) {
    // SAFETY: moved out once: the tag says so from now on.
    let Handle { memory, arena, value, .. } = unsafe { pointer.read() };
    // SAFETY: the place is still there.
    unsafe { (*pointer).tag = AtomicU32::new(0) };
    // SAFETY: nothing is allocated.
    unsafe { memory::within(&arena, || drop(value)) };
    drop(memory);
}

/// Counts a user out.
struct Leave<'a, T: Kind> {
    handle: &'a Handle<T>,
    count: i32,
}

impl<T: Kind> Drop for Leave<'_, T> {
    fn drop(&mut self) {
        #[cfg(feature = "std")]
        if std::thread::panicking() {
            self.handle.broken.store(true, Ordering::Relaxed);
        }
        self.handle.users.fetch_sub(self.count, Ordering::Release);
    }
}

/// A value nobody changes meanwhile.
pub(super) struct Shared<'a, T: Kind> {
    value: &'a T,
    _leave: Leave<'a, T>,
}

impl<T: Kind> Deref for Shared<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
    }
}
