//! How work is divided among threads: in rows, or in blocks of columns.
//!
//! Each thread reads its share from the front, in long runs as memory likes it; one that is done takes
//! blocks from the back of another's, so that a slow core keeps nobody waiting, and meanwhile fetches
//! what it will read next. Which thread does which block never changes what is computed: blocks are whole
//! outputs, and each output has one summation order.
#![allow(
    unsafe_code,
    reason = "parts of one slice go to several threads; the bounds are checked here"
)]

mod ahead;
#[cfg(not(feature = "std"))]
#[path = "threads/no_pool.rs"]
mod pool;
#[cfg(feature = "std")]
mod pool;

use crate::memory::{self, text};
use crate::{Error, Result};
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};
use pool::Pool;

pub(crate) use ahead::Ahead;

/// More than any machine has, few enough to count shares.
const THREADS_MAX: usize = 1024;

/// What one thread does; returns the addresses it will read next.
type Job<'a> = dyn Fn(usize) -> Range<usize> + Sync + 'a;

/// Threads that a caller lends.
///
/// # Safety
/// [`Executor::parallel_for`] calls `work` once for each number, on any threads and in any order, and
/// returns when the last call has ended.
pub unsafe trait Executor: Sync + fmt::Debug {
    /// How many calls may run at a time.
    fn threads(&self) -> usize;
    /// Calls `work(i)` for each `i` below `count`.
    fn parallel_for(&self, count: usize, work: &(dyn Fn(usize) + Sync));
}

/// The threads that share the work.
#[derive(Debug)]
pub(crate) struct Threads {
    hands: Hands,
    count: usize,
    /// One a thread: the blocks of its share that nobody has taken.
    untaken: Vec<Untaken>,
    /// What the next product reads.
    ahead: Ahead,
}

/// Whose threads they are.
#[derive(Debug)]
enum Hands {
    Caller,
    Own(Pool),
    Lent(&'static dyn Executor),
}

impl Hands {
    /// Calls `job` for each number below `count`, and returns when all calls have ended.
    fn run(&mut self, count: usize, job: &Job<'_>) {
        match self {
            Self::Caller => (0..count).for_each(|thread| _ = job(thread)),
            Self::Own(pool) => pool.run(job),
            Self::Lent(executor) => executor.parallel_for(count, &|thread| _ = job(thread)),
        }
    }
}

/// A range of numbers, taken from both ends: the upper half of the bits holds the end. Alone on its
/// cache lines, which processors fetch in pairs.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Untaken {
    range: AtomicUsize,
    _apart: [u64; 15],
}

impl Untaken {
    /// Tests have small halves, so that they have more blocks than can be counted.
    const HALF: u32 = if cfg!(test) { 3 } else { usize::BITS / 2 };
    const MAX: usize = (1 << Self::HALF) - 1;

    fn set(&self, range: Range<usize>) {
        assert!(range.end <= Self::MAX);
        self.range.store(range.end << Self::HALF | range.start, Ordering::Relaxed);
    }

    /// The first numbers, for the thread whose share this is: up to `most` at once, fewer as the end comes
    /// near. The last number for any other.
    fn take(&self, first: bool, most: usize) -> Option<Range<usize>> {
        let parts = |packed: usize| {
            let (start, end) = (packed & Self::MAX, packed >> Self::HALF);
            match first {
                true => (start, (start + ((end - start) / 2).clamp(1, most)).min(end), end),
                false => (start, end.saturating_sub(1).max(start), end),
            }
        };
        let rest = |packed| match (parts(packed), first) {
            ((start, _, end), _) if start == end => None,
            ((_, cut, end), true) => Some(end << Self::HALF | cut),
            ((start, cut, _), false) => Some(cut << Self::HALF | start),
        };
        let before = self.range.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest).ok()?;
        let (start, cut, end) = parts(before);
        Some(if first { start..cut } else { cut..end })
    }
}

impl Threads {
    /// How many threads share the work where `wanted` are wanted: up to as many as are lent, 0 meaning
    /// all; without a lender 0 means one a core, or one where there is no operating system.
    pub(crate) fn count_for(wanted: usize, lent: Option<&'static dyn Executor>) -> usize {
        match lent.map(|executor| executor.threads().max(1)) {
            Some(lent) if wanted == 0 => lent,
            Some(lent) => wanted.min(lent),
            None => Pool::threads_for(wanted),
        }
    }

    /// As many threads as [`Threads::count_for`] says, started unless they are lent.
    ///
    /// # Errors
    /// [`Error::Io`] if the system refuses a thread, [`Error::Limit`] if it never would grant as many.
    pub(crate) fn new(wanted: usize, lent: Option<&'static dyn Executor>) -> Result<Self> {
        let count = Self::count_for(wanted, lent);
        if count > THREADS_MAX {
            return Err(Error::Limit(text!("{count} threads, expected at most {THREADS_MAX}")));
        }
        let hands = match lent {
            Some(executor) => Hands::Lent(executor),
            None if count == 1 || memory::measures() => Hands::Caller,
            None => Hands::Own(Pool::start(count)?),
        };
        let untaken = memory::collect((0..count).map(|_| Untaken::default()))?;
        Ok(Self { hands, count, untaken, ahead: Ahead::default() })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Notes what the product after the coming one reads.
    pub(crate) fn look_ahead(&mut self, ahead: Ahead) {
        self.ahead = ahead;
    }

    /// Cuts `data` into rows of `row_len` and calls `f(state, row index, row)` for each, a
    /// contiguous range of rows a thread. `states` has one element a thread.
    pub(crate) fn rows<S: Send, T: Send>(
        &mut self,
        states: &mut [S],
        data: &mut [T],
        row_len: usize,
        f: impl Fn(&mut S, usize, &mut [T]) + Sync,
    ) {
        let threads = self.count;
        assert!(states.len() == threads && row_len > 0 && data.len().is_multiple_of(row_len));
        let rows = data.len() / row_len;
        if threads == 1 || rows == 1 {
            let rows = data.chunks_exact_mut(row_len).enumerate();
            return rows.for_each(|(r, row)| f(&mut states[0], r, row));
        }
        let (states, data) = (Parts::new(states), Parts::new(data));
        self.hands.run(threads, &|thread| {
            // SAFETY: each thread takes its own state.
            let state = unsafe { &mut states.get(thread, 1)[0] };
            for row in share(rows, threads, thread) {
                // SAFETY: the shares of the threads do not meet.
                f(state, row, unsafe { data.get(row * row_len, row_len) });
            }
            0..0
        });
    }

    /// Calls `f(i, item)` for each item, a contiguous range a thread.
    #[cfg(feature = "train")]
    pub(crate) fn each<T: Send>(&mut self, items: &mut [T], f: impl Fn(usize, &mut T) + Sync) {
        let mut states = [(); THREADS_MAX];
        let states = &mut states[..self.count];
        self.rows(states, items, 1, |(), i, item| f(i, &mut item[0]));
    }

    /// Cuts the columns of `matrix` into blocks of `block` and calls `f(state, first column, blocks)`
    /// for each, or for up to `run` that follow each other. The last block may be narrower.
    pub(crate) fn columns<S: Send>(
        &mut self,
        states: &mut [S],
        matrix: Matrix<'_>,
        block: usize,
        run: usize,
        f: impl Fn(&mut S, usize, Columns<'_>) + Sync,
    ) {
        let threads = self.count;
        assert!(states.len() == threads && block > 0 && run > 0);
        let Matrix { data, stride, first, width } = matrix;
        assert!(stride > 0 && data.len().is_multiple_of(stride) && first + width <= stride);
        let rows = data.len() / stride;
        let blocks = width.div_ceil(block);
        // Blocks are counted one by one, unless there are more than can be counted.
        let unit = blocks.div_ceil(Untaken::MAX).max(1);
        for (thread, untaken) in self.untaken.iter().enumerate() {
            untaken.set(share(blocks.div_ceil(unit), threads, thread));
        }
        let (states, data) = (Parts::new(states), Parts::new(data));
        let Self { hands, untaken, ahead, .. } = self;
        hands.run(threads, &|thread| {
            // SAFETY: each thread takes its own state.
            let state = unsafe { &mut states.get(thread, 1)[0] };
            for other in 0..threads {
                let untaken = &untaken[(thread + other) % threads];
                while let Some(units) = untaken.take(other == 0, run) {
                    let taken = units.start * unit..blocks.min(units.end * unit);
                    for start in taken.clone().step_by(run).map(|b| b * block) {
                        let end = width.min((start + run * block).min(taken.end * block));
                        let (first, width) = (first + start, end - start);
                        f(state, start, Columns { data: &data, rows, stride, first, width });
                    }
                }
            }
            ahead.of(threads, thread)
        });
    }
}

/// A rectangle of f32: columns `first..first + width` of rows of `stride`.
#[derive(Debug)]
pub(crate) struct Matrix<'a> {
    /// Whole rows.
    pub data: &'a mut [f32],
    /// Columns a row has.
    pub stride: usize,
    /// First column that is meant.
    pub first: usize,
    /// How many columns are meant.
    pub width: usize,
}

/// Some columns of a [`Matrix`], lent to one thread.
pub(crate) struct Columns<'a> {
    data: &'a Parts<'a, f32>,
    rows: usize,
    stride: usize,
    first: usize,
    width: usize,
}

impl Columns<'_> {
    /// Columns in this block.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// This block's part of row `row`.
    pub(crate) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows);
        // SAFETY: blocks are disjoint, and this one is borrowed mutably.
        unsafe { self.data.get(row * self.stride + self.first, self.width) }
    }
}

/// A mutable slice of which several threads take parts that do not meet.
struct Parts<'a, T> {
    pointer: *mut T,
    len: usize,
    of: PhantomData<&'a mut [T]>,
}

// SAFETY: a part reaches one thread only, which is what `T: Send` allows.
unsafe impl<T: Send> Sync for Parts<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    fn new(slice: &'a mut [T]) -> Self {
        Self { pointer: slice.as_mut_ptr(), len: slice.len(), of: PhantomData }
    }

    /// # Safety
    /// No other part in use may overlap this one.
    #[expect(clippy::mut_from_ref, reason = "that the parts are disjoint is the caller's promise")]
    unsafe fn get(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start);
        // SAFETY: in bounds by the assertion.
        let pointer = unsafe { self.pointer.add(start) };
        // SAFETY: in bounds, and exclusive by the caller's promise.
        unsafe { core::slice::from_raw_parts_mut(pointer, len) }
    }
}

/// The part of `0..count` that `thread` of `threads` does.
fn share(count: usize, threads: usize, thread: usize) -> Range<usize> {
    let start = |thread: usize| count / threads * thread + thread.min(count % threads);
    start(thread)..start(thread + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_and_every_row_is_done_once() {
        for threads in [1, 2, 3] {
            let mut threads = Threads::new(threads, None).expect("threads");
            let mut states = vec![(); threads.count()];
            for (width, block, run) in
                [(1, 4, 1), (12, 4, 2), (13, 4, 1), (250, 3, 4), (1000, 1, 3)]
            {
                let (rows, stride, first) = (2, width + 5, 2);
                let mut data = vec![0.0; rows * stride];
                let matrix = Matrix { data: &mut data, stride, first, width };
                threads.columns(&mut states, matrix, block, run, |(), start, mut part| {
                    assert!(part.width() <= block * run);
                    for r in 0..rows {
                        let values = part.row(r).iter_mut().enumerate();
                        values.for_each(|(c, value)| *value += (start + c + 1) as f32);
                    }
                });
                threads.rows(&mut states, &mut data, stride, |(), r, row| row[0] += r as f32);
                for (i, value) in data.iter().enumerate() {
                    let (r, c) = (i / stride, i % stride);
                    let meant = (first..first + width).contains(&c);
                    let want = if meant { c - first + 1 } else { r * usize::from(c == 0) };
                    assert_eq!(*value, want as f32, "row {r}, column {c} of {width} by {block}");
                }
            }
        }
    }

    #[test]
    fn more_threads_than_a_machine_has_are_refused() {
        assert!(matches!(Threads::new(usize::MAX, None), Err(Error::Limit(_))));
    }
}
