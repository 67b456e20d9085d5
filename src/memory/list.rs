//! Lists that never grow beyond the room they were given.

use super::Block;
use crate::Result;
use core::ops::{Deref, DerefMut};

/// Values in room for a fixed number of them.
#[derive(Debug)]
pub struct List<T> {
    room: Block<T>,
    len: usize,
}

impl<T: Copy> List<T> {
    /// An empty list with room for `room` values; `blank` is what the room holds meanwhile.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub fn claim(room: usize, blank: T) -> Result<Self> {
        Ok(Self { room: Block::claim(room, blank)?, len: 0 })
    }

    /// How many values there is room for.
    pub fn room(&self) -> usize {
        self.room.len()
    }

    /// Appends a value. A full list stays as it is: whoever pushes knows the room.
    pub fn push(&mut self, value: T) {
        if let Some(place) = self.room.get_mut(self.len) {
            *place = value;
            self.len += 1;
        }
    }

    /// Becomes the values of an iterator, as many as there is room for.
    pub fn set(&mut self, values: impl IntoIterator<Item = T>) {
        self.len = 0;
        for (place, value) in self.room.iter_mut().zip(values) {
            *place = value;
            self.len += 1;
        }
    }

    /// Empties the list.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Leaves the first `len` values, if there are more.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { room: Block::default(), len: 0 }
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.room[..self.len]
    }
}

impl<T> DerefMut for List<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.room[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_list_stays_as_it_is() {
        let mut list = List::claim(2, 0u8).expect("little memory");
        assert!(list.is_empty());
        (1..4).for_each(|value| list.push(value));
        assert_eq!(*list, [1, 2]);
        list.set(5..9);
        assert_eq!(*list, [5, 6]);
        list.truncate(1);
        assert_eq!(*list, [5]);
        list.clear();
        assert!(list.is_empty());
    }
}
