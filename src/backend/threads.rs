//! A pool of threads that divides rows, or blocks of columns, in contiguous shares.
//!
//! Threads spin between the operations of a token (a wake-up costs a thousand times more than a
//! spinning barrier) and park when nothing has come for a while. Each reads its share from the front,
//! as memory likes it; one that is done takes blocks from the back of another's, so that a slow core
//! keeps nobody waiting. Which thread does which block never changes what is computed: blocks are
//! whole outputs, and each output has one summation order.
#![allow(
    unsafe_code,
    reason = "parts of one slice go to several threads; the bounds are checked here"
)]

use crate::{Error, Result};
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::vec::Vec;

/// Pauses before a waiting thread gives up its core: some 200 microseconds.
const SPINS_MAX: usize = 8_000;

type Job<'a> = dyn Fn(usize) + Sync + 'a;

/// The threads. One of them is the caller's.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Counts jobs; a change tells the workers that `job` is new.
    generation: AtomicUsize,
    /// Workers that have not finished the current job.
    remaining: AtomicUsize,
    stop: AtomicBool,
    panicked: AtomicBool,
    /// One flag a worker, set while it is parked or about to park.
    parked: Vec<AtomicBool>,
    job: UnsafeCell<Option<*const Job<'static>>>,
    /// One a thread: the blocks of its share that nobody has taken.
    untaken: Vec<Blocks>,
}

/// A range of block numbers, taken from both ends; alone on its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Blocks(AtomicU64);

impl Blocks {
    fn set(&self, range: Range<usize>) {
        self.0.store((range.end as u64) << 32 | range.start as u64, Ordering::Relaxed);
    }

    /// The first block, for the thread whose share this is, or the last one, for any other.
    fn take(&self, first: bool) -> Option<usize> {
        let split = |packed: u64| (packed & 0xffff_ffff, packed >> 32);
        let rest = |packed| match (split(packed), first) {
            ((start, end), _) if start == end => None,
            ((start, end), true) => Some(end << 32 | (start + 1)),
            ((start, end), false) => Some((end - 1) << 32 | start),
        };
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest).ok()?;
        let (start, end) = split(before);
        Some(if first { start } else { end - 1 } as usize)
    }
}

// SAFETY: `job` is written only by `Pool::run` while no worker reads it: before the generation
// changes and after `remaining` has come down to zero. The pointee is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing in it belongs to one thread.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of `threads` threads, the caller's included; 0 means as many as there are cores.
    ///
    /// # Errors
    /// [`Error::Io`] if the system refuses a thread.
    pub(crate) fn new(threads: usize) -> Result<Self> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if threads == 0 { cores() } else { threads };
        let shared = Arc::new(Shared {
            generation: AtomicUsize::new(0),
            remaining: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            parked: (1..threads).map(|_| AtomicBool::new(false)).collect(),
            job: UnsafeCell::new(None),
            untaken: (0..threads).map(|_| Blocks::default()).collect(),
        });
        let mut pool = Self { shared, workers: Vec::new() };
        for thread in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let worker = std::thread::Builder::new()
                .name(std::format!("attar-{thread}"))
                .spawn(move || work(&shared, thread))
                .map_err(|e| Error::io("start a worker thread", e))?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Threads, the caller's included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `job(thread)` once on every thread and returns when all have finished.
    fn run(&mut self, job: &Job<'_>) {
        let job_pointer: *const Job<'_> = job;
        // SAFETY: only the lifetime changes, and this function does not return before every
        // worker has left the job.
        let job_pointer =
            unsafe { core::mem::transmute::<*const Job<'_>, *const Job<'static>>(job_pointer) };
        // SAFETY: `remaining` is zero, so no worker looks at the cell.
        unsafe { *self.shared.job.get() = Some(job_pointer) };
        self.shared.remaining.store(self.workers.len(), Ordering::Relaxed);
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
        for (worker, parked) in self.workers.iter().zip(&self.shared.parked) {
            if parked.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
        // A panic of this thread's share must not leave while others still use the job.
        let own = catch_unwind(AssertUnwindSafe(|| job(0)));
        let mut spins = 0;
        while self.shared.remaining.load(Ordering::Acquire) != 0 {
            pause(&mut spins, std::thread::yield_now);
        }
        if let Err(panic) = own {
            std::panic::resume_unwind(panic);
        }
        assert!(!self.shared.panicked.load(Ordering::Relaxed), "a worker thread panicked");
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
        let threads = self.threads();
        assert!(states.len() == threads && row_len > 0 && data.len().is_multiple_of(row_len));
        let rows = data.len() / row_len;
        if threads == 1 || rows == 1 {
            let rows = data.chunks_exact_mut(row_len).enumerate();
            return rows.for_each(|(r, row)| f(&mut states[0], r, row));
        }
        let (states, data) = (Parts::new(states), Parts::new(data));
        self.run(&|thread| {
            // SAFETY: each thread takes its own state.
            let state = unsafe { &mut states.get(thread, 1)[0] };
            for row in share(rows, threads, thread) {
                // SAFETY: the shares of the threads do not meet.
                f(state, row, unsafe { data.get(row * row_len, row_len) });
            }
        });
    }

    /// Cuts the columns of `matrix` into blocks of `block` and calls `f(state, first column, block)`
    /// for each. The last block may be narrower.
    pub(crate) fn columns<S: Send>(
        &mut self,
        states: &mut [S],
        matrix: Matrix<'_>,
        block: usize,
        f: impl Fn(&mut S, usize, Columns<'_>) + Sync,
    ) {
        let threads = self.threads();
        assert!(states.len() == threads && block > 0);
        let Matrix { data, stride, first, width } = matrix;
        assert!(stride > 0 && data.len().is_multiple_of(stride) && first + width <= stride);
        let rows = data.len() / stride;
        let blocks = width.div_ceil(block);
        assert!(u32::try_from(blocks).is_ok());
        let shared = Arc::clone(&self.shared);
        for (thread, untaken) in shared.untaken.iter().enumerate() {
            untaken.set(share(blocks, threads, thread));
        }
        let (states, data) = (Parts::new(states), Parts::new(data));
        self.run(&|thread| {
            // SAFETY: each thread takes its own state.
            let state = unsafe { &mut states.get(thread, 1)[0] };
            for other in 0..threads {
                while let Some(b) = shared.untaken[(thread + other) % threads].take(other == 0) {
                    let start = b * block;
                    let width = block.min(width - start);
                    let first = first + start;
                    f(state, start, Columns { data: &data, rows, stride, first, width });
                }
            }
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker that panicked has said so already.
            let _ = worker.join();
        }
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
    count * thread / threads..count * (thread + 1) / threads
}

fn work(shared: &Shared, thread: usize) {
    let mut seen = 0;
    loop {
        let mut spins = 0;
        while shared.generation.load(Ordering::SeqCst) == seen {
            pause(&mut spins, || {
                let parked = &shared.parked[thread - 1];
                parked.store(true, Ordering::SeqCst);
                // The job may have come before the flag was seen; then nobody wakes this thread.
                if shared.generation.load(Ordering::SeqCst) == seen {
                    std::thread::park();
                }
                parked.store(false, Ordering::SeqCst);
            });
        }
        seen += 1;
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        // SAFETY: the caller wrote the cell before it changed the generation and writes it again
        // only after this worker has counted itself out.
        if let Some(job) = unsafe { *shared.job.get() } {
            // SAFETY: `Pool::run` keeps the job alive until `remaining` is zero.
            let job = unsafe { &*job };
            if catch_unwind(AssertUnwindSafe(|| job(thread))).is_err() {
                shared.panicked.store(true, Ordering::Relaxed);
            }
        }
        shared.remaining.fetch_sub(1, Ordering::Release);
    }
}

fn pause(spins: &mut usize, give_up: impl FnOnce()) {
    if *spins < SPINS_MAX {
        *spins += 1;
        core::hint::spin_loop();
    } else {
        give_up();
    }
}
