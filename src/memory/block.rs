//! Large memory, aligned as vectors and cache lines are.
#![allow(unsafe_code, reason = "a vector cannot be aligned beyond what its values need")]

use super::{arena, lack};
use crate::Result;
use alloc::alloc::{Layout, alloc, dealloc};
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

/// Bytes a block is aligned to and its size rounded up to.
pub(super) const ALIGN: usize = 64;

/// A fixed number of values. Where a plan is being measured it stays empty.
pub struct Block<T> {
    values: NonNull<T>,
    len: usize,
    owns: PhantomData<T>,
}

// SAFETY: a block owns its values.
unsafe impl<T: Send> Send for Block<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Block<T> {}

/// The room of `len` values; `None` where there are more than addresses.
fn layout<T>(len: usize) -> Option<Layout> {
    let bytes = len.checked_mul(size_of::<T>())?.checked_next_multiple_of(ALIGN)?;
    Layout::from_size_align(bytes, ALIGN).ok()
}

impl<T: Copy> Block<T> {
    /// `len` copies of `value`.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub fn claim(len: usize, value: T) -> Result<Self> {
        const { assert!(align_of::<T>() <= ALIGN) };
        let layout = layout::<T>(len).ok_or(lack::<T>(len))?;
        if layout.size() == 0 || arena::counted(layout.size())? {
            return Ok(Self::default());
        }
        // SAFETY: the size is not zero.
        let values = NonNull::new(unsafe { alloc(layout) }.cast::<T>()).ok_or(lack::<T>(len))?;
        for i in 0..len {
            // SAFETY: the layout has room for `len` values.
            unsafe { values.as_ptr().wrapping_add(i).write(value) };
        }
        Ok(Self { values, len, owns: PhantomData })
    }

    /// Bytes that a block of `len` values takes.
    pub fn bytes(len: usize) -> usize {
        layout::<T>(len).map_or(usize::MAX, |layout| layout.size())
    }
}

impl<T> Default for Block<T> {
    fn default() -> Self {
        Self { values: NonNull::dangling(), len: 0, owns: PhantomData }
    }
}

impl<T> Drop for Block<T> {
    fn drop(&mut self) {
        if let Some(layout) = layout::<T>(self.len).filter(|layout| layout.size() > 0) {
            // SAFETY: `claim` allocated it with this layout.
            unsafe { dealloc(self.values.as_ptr().cast(), layout) };
        }
    }
}

impl<T> Deref for Block<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `claim` wrote as many values.
        unsafe { core::slice::from_raw_parts(self.values.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Block<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above; the block is borrowed mutably.
        unsafe { core::slice::from_raw_parts_mut(self.values.as_ptr(), self.len) }
    }
}

impl<T> fmt::Debug for Block<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn blocks_are_filled_and_aligned() {
        for len in [0, 1, 15, 16, 17, 1000] {
            let mut block = Block::claim(len, 7u32).expect("little memory");
            assert_eq!((block.len(), block.as_ptr() as usize % ALIGN * len), (len, 0));
            assert!(block.iter().all(|value| *value == 7));
            block.fill(8);
            assert_eq!(Block::<u32>::bytes(len), (4 * len).next_multiple_of(64));
        }
        let lack = |len: usize| Some(Error::Memory { bytes: len.saturating_mul(4) });
        for len in [usize::MAX, usize::MAX / 4, isize::MAX as usize / 4 - 16] {
            // An allocation that nobody looks at may be optimised away, and cannot fail then.
            assert_eq!(core::hint::black_box(Block::claim(len, 0u32)).err(), lack(len));
        }
    }
}
