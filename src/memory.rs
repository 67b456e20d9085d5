//! Memory that may lack: vectors, boxes and texts that give an error where others end the program,
//! and regions that a caller lends.
//!
//! Nothing in this crate's core allocates in any other way. What is large (a cache, a buffer, a
//! scratch) is a [`Block`] or a [`List`]; what is small is a `Vec` made by the functions here.
#![allow(clippy::disallowed_methods, reason = "made fallible here")]

mod arena;
#[cfg(not(feature = "std"))]
mod bare;
mod block;
#[cfg(feature = "std")]
mod hosted;
mod list;
mod shared;
mod text;

pub use arena::{Arena, Heap, within};
pub use block::Block;
pub use list::List;
pub use shared::{Shared, boxed};
pub use text::Text;

#[cfg(feature = "std")]
pub(crate) use arena::is_lent;
#[cfg(feature = "gpu")]
pub(crate) use arena::outside;
pub(crate) use arena::{measure, measures, taken};
pub(crate) use text::{Name, name, text};

use crate::{Error, Result};
use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// How an error says that `len` values found no room.
fn lack<T>(len: usize) -> Error {
    Error::Memory { bytes: len.saturating_mul(size_of::<T>()) }
}

/// An empty vector with room for exactly `len` values.
pub(crate) fn reserved<T>(len: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| lack::<T>(len))?;
    Ok(values)
}

/// A vector of `len` copies of `value`.
pub(crate) fn filled<T: Clone>(len: usize, value: T) -> Result<Vec<T>> {
    let mut values = reserved(len)?;
    values.resize(len, value);
    Ok(values)
}

/// The values of an iterator, as many at once as it promises.
pub(crate) fn collect<T>(values: impl IntoIterator<Item = T>) -> Result<Vec<T>> {
    let values = values.into_iter();
    let mut all = reserved(values.size_hint().0)?;
    for value in values {
        push(&mut all, value)?;
    }
    Ok(all)
}

/// Appends one value.
pub(crate) fn push<T>(values: &mut Vec<T>, value: T) -> Result<()> {
    values.try_reserve(1).map_err(|_| lack::<T>(values.len() + 1))?;
    values.push(value);
    Ok(())
}

/// Puts one value into a heap.
pub(crate) fn push_heap<T: Ord>(values: &mut BinaryHeap<T>, value: T) -> Result<()> {
    values.try_reserve(1).map_err(|_| lack::<T>(values.len() + 1))?;
    values.push(value);
    Ok(())
}

/// Appends many values.
pub(crate) fn append<T: Copy>(values: &mut Vec<T>, more: &[T]) -> Result<()> {
    values.try_reserve(more.len()).map_err(|_| lack::<T>(values.len() + more.len()))?;
    values.extend_from_slice(more);
    Ok(())
}

/// Sorts indices by what they stand for.
pub(crate) fn sort_by_key<K: Ord>(indices: &mut [u32], key: impl Fn(u32) -> K) {
    sort(indices, &|a, b| key(*a).cmp(&key(*b)));
}

/// Not generic: each copy of the sort takes 4 KB.
fn sort(indices: &mut [u32], order: &dyn Fn(&u32, &u32) -> Ordering) {
    indices.sort_unstable_by(order);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_there_is_gives_an_error() {
        let most = isize::MAX as usize / 4;
        assert_eq!(reserved::<u32>(most + 1).err(), Some(Error::Memory { bytes: 4 * (most + 1) }));
        assert_eq!(filled(usize::MAX, 0u64).err(), Some(Error::Memory { bytes: usize::MAX }));
        let endless = core::iter::repeat_n(0u8, usize::MAX);
        assert_eq!(collect(endless).err(), Some(Error::Memory { bytes: usize::MAX }));
    }

    #[test]
    fn vectors_hold_what_was_put_in() {
        let mut values = filled(2, 7u8).expect("little memory");
        append(&mut values, &[1, 2]).expect("little memory");
        push(&mut values, 3).expect("little memory");
        assert_eq!(values, [7, 7, 1, 2, 3]);
        assert_eq!(collect(3..6).expect("little memory"), [3, 4, 5]);
    }
}
