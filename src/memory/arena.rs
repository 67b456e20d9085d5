//! Regions of memory that a caller lends.
//!
//! An arena is filled from its start. The last piece may grow, shrink and go; any other piece that
//! goes leaves a gap until the arena itself is given up. Where pieces lie depends on what was asked
//! for and on nothing else, so that the same steps take the same bytes again.
//!
//! An arena can measure: blocks then only advance a count and get no memory, everything small gets
//! some. The steps of opening a session, taken so, say how many bytes they need before there are as many.
#![allow(unsafe_code, reason = "an allocator is unsafe to implement and to use")]

#[cfg(not(feature = "std"))]
use super::bare as system;
use super::block::ALIGN;
#[cfg(feature = "std")]
use super::hosted as system;
use super::reserved;
use crate::{Error, Result};
use alloc::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use core::ptr::null_mut;

/// What every piece is rounded up to, so that no gaps arise between small ones.
const GRAIN: usize = 2 * size_of::<usize>();

/// A region of memory.
#[derive(Debug)]
pub struct Arena {
    base: *mut u8,
    size: usize,
    /// Bytes in use from the start.
    used: Cell<usize>,
    /// Bytes counted besides these, a multiple of [`ALIGN`].
    counted: Cell<usize>,
    /// What lies below has a counted block after it and is not the last piece.
    floor: Cell<usize>,
    /// The most bytes that were in use, counted ones included.
    peak: Cell<usize>,
    /// Whether a piece found no room.
    refused: Cell<bool>,
    measures: bool,
}

impl Arena {
    /// An arena in `size` bytes at `base`; up to 63 at its start are lost if it is not aligned to 64.
    ///
    /// # Safety
    /// Nothing else may use the region while the arena, or anything in it, is in use.
    pub unsafe fn new(base: *mut u8, size: usize) -> Self {
        let lost = base.align_offset(ALIGN).min(size);
        Self {
            base: base.wrapping_add(lost),
            size: size - lost,
            used: Cell::new(0),
            counted: Cell::new(0),
            floor: Cell::new(0),
            peak: Cell::new(0),
            refused: Cell::new(false),
            measures: false,
        }
    }

    /// An arena that measures. It needs room for what is small, some ten kilobytes for a small
    /// model, and gives [`Error::Memory`] where that lacks.
    ///
    /// # Safety
    /// As [`Arena::new`].
    pub unsafe fn measuring(base: *mut u8, size: usize) -> Self {
        // SAFETY: the caller's promise.
        Self { measures: true, ..unsafe { Self::new(base, size) } }
    }

    /// Bytes in use, from the first of the region that is aligned to 64.
    pub fn used(&self) -> usize {
        self.used.get().saturating_add(self.counted.get())
    }

    /// The most bytes that were in use at a time: what an arena must have for the same steps.
    pub fn peak(&self) -> usize {
        self.peak.get()
    }

    fn contains(&self, pointer: *mut u8) -> bool {
        (pointer as usize).wrapping_sub(self.base as usize) < self.size
    }

    fn set_used(&self, used: usize) {
        self.used.set(used);
        self.peak.set(self.peak.get().max(self.used()));
    }

    /// A piece of memory; null where it lacks.
    fn alloc(&self, layout: Layout) -> *mut u8 {
        let place = || {
            let start = self.used.get().checked_next_multiple_of(layout.align().max(GRAIN))?;
            let end = start.checked_add(rounded(layout.size())?)?;
            (end <= self.size && layout.align() <= ALIGN).then_some((start, end))
        };
        let Some((start, end)) = place() else { return self.refuse() };
        self.set_used(end);
        self.base.wrapping_add(start)
    }

    fn refuse(&self) -> *mut u8 {
        self.refused.set(true);
        null_mut()
    }

    /// Whether a piece that starts at `start` and is `size` long is the last.
    fn is_last(&self, start: usize, size: usize) -> bool {
        let end = rounded(size).map(|size| start + size);
        end == Some(self.used.get()) && start >= self.floor.get()
    }

    fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let start = pointer as usize - self.base as usize;
        if self.is_last(start, layout.size()) {
            self.set_used(start);
        }
    }

    /// Changes the size of the last piece where it lies; other pieces move.
    ///
    /// # Safety
    /// As [`GlobalAlloc::realloc`], the piece being one of this arena's.
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let start = pointer as usize - self.base as usize;
        if self.is_last(start, layout.size()) {
            let end = rounded(size).and_then(|size| start.checked_add(size));
            let Some(end) = end.filter(|end| *end <= self.size) else { return self.refuse() };
            self.set_used(end);
            return pointer;
        }
        let Ok(new) = Layout::from_size_align(size, layout.align()) else { return null_mut() };
        let moved = self.alloc(new);
        if !moved.is_null() {
            // SAFETY: both pieces are as long, and the new one lies where nothing else is.
            unsafe { moved.copy_from_nonoverlapping(pointer, size.min(layout.size())) };
        }
        moved
    }

    /// Counts a block of `bytes`, a multiple of [`ALIGN`].
    fn count(&self, bytes: usize) -> Result<()> {
        let start = self.used.get().next_multiple_of(ALIGN);
        let counted = self.counted.get().checked_add(bytes);
        self.counted.set(counted.ok_or(Error::Memory { bytes })?);
        self.floor.set(start);
        self.set_used(start);
        Ok(())
    }
}

fn rounded(size: usize) -> Option<usize> {
    size.checked_next_multiple_of(GRAIN)
}

/// Where memory comes from for a while, and where it came from before.
pub(super) struct Scope<'a> {
    /// `None`: from the system.
    arena: Option<&'a Arena>,
    outer: *const Scope<'a>,
}

impl Scope<'_> {
    /// Runs `f` with this scope as the current one.
    fn run<T>(&self, f: impl FnOnce() -> T) -> T {
        /// Goes back to the outer scope also where `f` panics.
        struct Restore(*const Scope<'static>);

        impl Drop for Restore {
            fn drop(&mut self) {
                system::set_scope(self.0);
            }
        }

        let _restore = Restore(self.outer.cast());
        system::set_scope((&raw const *self).cast());
        f()
    }
}

/// The innermost scope.
fn innermost<'a>() -> Option<&'a Scope<'a>> {
    // SAFETY: a scope is current only while `Scope::run`, whose caller's stack it lies on, runs.
    unsafe { system::scope().as_ref() }
}

/// The current arena.
fn current<'a>() -> Option<&'a Arena> {
    innermost().and_then(|scope| scope.arena)
}

/// The current arena or one around it that a piece lies in.
fn owner<'a>(pointer: *mut u8) -> Option<&'a Arena> {
    let mut scope = innermost();
    while let Some(Scope { arena, outer }) = scope {
        if let Some(arena) = arena.filter(|arena| arena.contains(pointer)) {
            return Some(arena);
        }
        // SAFETY: scopes around a current one are alive.
        scope = unsafe { outer.as_ref() };
    }
    None
}

/// Runs `f` with `arena` as the current one of this thread, or, without an operating system, of the
/// program: what it allocates comes from there, where [`Heap`] is the program's allocator.
///
/// # Safety
/// What `f` allocates and keeps must be dropped within the same arena or not at all, and not be used
/// once the arena's memory is. In particular a panic's payload that `f` catches must not leave.
pub unsafe fn within<T>(arena: &Arena, f: impl FnOnce() -> T) -> T {
    Scope { arena: Some(arena), outer: system::scope().cast() }.run(f)
}

/// Runs `f` without a current arena: what it allocates comes from the system and may outlive every
/// arena. For drivers, which keep what they allocate and hand it from thread to thread.
#[cfg(feature = "gpu")]
pub(crate) fn outside<T>(f: impl FnOnce() -> T) -> T {
    Scope { arena: None, outer: system::scope().cast() }.run(f)
}

/// Runs `f` and says how many bytes of the current arena it took at most; `None` without an arena.
pub(crate) fn taken<T>(f: impl FnOnce() -> T) -> (T, Option<usize>) {
    let Some(arena) = current() else { return (f(), None) };
    let (start, peak) = (arena.used(), arena.peak());
    arena.peak.set(start);
    let result = f();
    let bytes = arena.peak() - start;
    arena.peak.set(arena.peak().max(peak));
    (result, Some(bytes))
}

/// Runs `f` in an arena that measures and has room enough for what is small.
///
/// # Errors
/// What `f` returns; [`Error::Memory`] where even what is small finds no room.
pub(crate) fn measure<T: Copy>(f: impl Fn() -> Result<T>) -> Result<T> {
    let mut size = 1 << 16;
    loop {
        let mut room = reserved::<u8>(size)?;
        // SAFETY: the region is this function's own and nothing else uses it.
        let arena = unsafe { Arena::measuring(room.as_mut_ptr(), size) };
        // SAFETY: the result is plain data, and an error is dropped below.
        let error = match unsafe { within(&arena, &f) } {
            Ok(result) => return Ok(result),
            Err(error) => error,
        };
        let copy = error.clone();
        // SAFETY: nothing is allocated.
        unsafe { within(&arena, || drop(error)) };
        if !arena.refused.get() {
            return Err(copy);
        }
        size = size.saturating_mul(4);
    }
}

/// Whether memory comes from an arena, or would, if [`Heap`] is the program's allocator.
#[cfg(feature = "std")]
pub(crate) fn is_lent() -> bool {
    current().is_some()
}

/// Whether the current arena measures.
pub(crate) fn measures() -> bool {
    current().is_some_and(|arena| arena.measures)
}

/// Whether the current arena measures; it has counted a block of `bytes` then.
pub(super) fn counted(bytes: usize) -> Result<bool> {
    match current() {
        Some(arena) if arena.measures => arena.count(bytes).map(|()| true),
        _ => Ok(false), // the block gets memory
    }
}

/// An allocator that takes from the current arena, see [`within`]. Without one it takes from the
/// system, or, where there is none, gives nothing.
#[derive(Clone, Copy, Debug)]
pub struct Heap;

// SAFETY: pieces of an arena do not overlap and stay until they are given back; those of the system
// are as its allocator's contract says, and go back to it.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match current() {
            Some(arena) if !system::panicking() => arena.alloc(layout),
            // SAFETY: the caller's promise.
            _ => unsafe { system::alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match current() {
            Some(arena) if !system::panicking() => {
                let piece = arena.alloc(layout);
                if !piece.is_null() {
                    // SAFETY: the piece is fresh and as long.
                    unsafe { piece.write_bytes(0, layout.size()) };
                }
                piece
            }
            // SAFETY: the caller's promise.
            _ => unsafe { system::alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        match owner(pointer) {
            Some(arena) => arena.dealloc(pointer, layout),
            // SAFETY: no arena's, so the system's, with the caller's promise.
            None => unsafe { system::dealloc(pointer, layout) },
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match owner(pointer) {
            // SAFETY: the caller's promise; the piece is this arena's.
            Some(arena) => unsafe { arena.realloc(pointer, layout, size) },
            // SAFETY: no arena's, so the system's, with the caller's promise.
            None => unsafe { system::realloc(pointer, layout, size) },
        }
    }
}
