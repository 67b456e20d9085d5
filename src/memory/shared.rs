//! Values on the heap, with one owner or many, whose making may fail.
#![allow(unsafe_code, reason = "the standard ones cannot fail on a stable compiler")]

use super::lack;
use crate::Result;
use alloc::alloc::{Layout, alloc};
use alloc::boxed::Box;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering, fence};

/// A value on the heap; the type must have a size.
///
/// # Errors
/// [`Error::Memory`](crate::Error::Memory).
pub fn boxed<T>(value: T) -> Result<Box<T>> {
    let layout = Layout::new::<T>();
    const { assert!(size_of::<T>() > 0) };
    // SAFETY: the size is not zero.
    let pointer = unsafe { alloc(layout) }.cast::<T>();
    if pointer.is_null() {
        return Err(lack::<T>(1));
    }
    // SAFETY: the pointer is to fresh memory of the type's layout.
    unsafe { pointer.write(value) };
    // SAFETY: it was allocated as a box is, and holds a value.
    Ok(unsafe { Box::from_raw(pointer) })
}

/// A value with several owners, on any thread; the last to go drops it.
pub struct Shared<T> {
    counted: NonNull<Counted<T>>,
    owns: PhantomData<Counted<T>>,
}

struct Counted<T> {
    owners: AtomicUsize,
    value: T,
}

// SAFETY: owners on two threads lend the value to both, and any of them may be the one to drop it.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// A value with one owner.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub fn new(value: T) -> Result<Self> {
        let counted = boxed(Counted { owners: AtomicUsize::new(1), value })?;
        Ok(Self { counted: NonNull::from(Box::leak(counted)), owns: PhantomData })
    }

    fn counted(&self) -> &Counted<T> {
        // SAFETY: it lives as long as it has an owner, and `self` is one.
        unsafe { self.counted.as_ref() }
    }

    /// The value, if this is its only owner.
    pub fn into_inner(self) -> Option<T> {
        if self.counted().owners.load(Ordering::Acquire) != 1 {
            return None;
        }
        let counted = self.counted;
        core::mem::forget(self);
        // SAFETY: it was leaked from a box by `new`, and its only owner is gone.
        Some(unsafe { Box::from_raw(counted.as_ptr()) }.value)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        let before = self.counted().owners.fetch_add(1, Ordering::Relaxed);
        assert!(before < isize::MAX as usize, "owners that were forgotten");
        Self { counted: self.counted, owns: PhantomData }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        if self.counted().owners.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire); // what others did with the value came before
            // SAFETY: it was leaked from a box by `new`, and this was its last owner.
            drop(unsafe { Box::from_raw(self.counted.as_ptr()) });
        }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.counted().value
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts how often it is dropped.
    struct Dropped<'a>(&'a AtomicUsize);

    impl Drop for Dropped<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_last_owner_drops_the_value() {
        let drops = AtomicUsize::new(0);
        let count = || drops.load(Ordering::Relaxed);
        let first = Shared::new(Dropped(&drops)).expect("little memory");
        let second = first.clone();
        std::thread::scope(|scope| {
            scope.spawn(move || drop(first));
        });
        assert_eq!(count(), 0);
        let third = second.clone();
        assert!(second.into_inner().is_none() && count() == 0);
        let value = third.into_inner().expect("its only owner");
        assert_eq!(count(), 0);
        drop(value);
        assert_eq!(count(), 1);
    }
}
