//! Our own threads, which wait for work.
//!
//! They spin between the operations of a token (a wake-up costs a thousand times more than a
//! spinning barrier), fetching what they will read next, and park when nothing has come for a while.
#![allow(unsafe_code, reason = "a job on the caller's stack is lent to other threads")]
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "threads of the system")]

use super::{Job, ahead};
use crate::{Error, Result, memory};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::vec::Vec;

/// Pauses before a waiting thread gives up its core: some 200 microseconds.
const SPINS_MAX: usize = 8_000;

/// The threads. One of them is the caller's.
#[derive(Debug)]
pub(super) struct Pool {
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
}

// SAFETY: `job` is written only by `Pool::run` while no worker reads it: before the generation
// changes and after `remaining` has come down to zero. The pointee is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing in it belongs to one thread.
unsafe impl Send for Shared {}

impl Pool {
    /// How many threads to start where `wanted` are wanted, the caller's included; 0 means as many as
    /// there are cores.
    pub(super) fn threads_for(wanted: usize) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        if wanted == 0 { cores() } else { wanted }
    }

    /// A pool of `threads` threads, the caller's included.
    ///
    /// # Errors
    /// [`Error::Io`] if the system refuses a thread, [`Error::Unsupported`] in an arena, whose memory
    /// threads of the system cannot have.
    pub(super) fn start(threads: usize) -> Result<Self> {
        if memory::is_lent() {
            return Err(Error::Unsupported("threads of our own where memory is lent".into()));
        }
        let shared = Arc::new(Shared {
            generation: AtomicUsize::new(0),
            remaining: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            parked: (1..threads).map(|_| AtomicBool::new(false)).collect(),
            job: UnsafeCell::new(None),
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

    /// Calls `job(thread)` once on every thread and returns when all have finished.
    pub(super) fn run(&mut self, job: &Job<'_>) {
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
        let (mut spins, mut next) = (0, own.as_ref().cloned().unwrap_or_default());
        while self.shared.remaining.load(Ordering::Acquire) != 0 {
            ahead::fetch(&mut next);
            pause(&mut spins, std::thread::yield_now);
        }
        if let Err(panic) = own {
            std::panic::resume_unwind(panic);
        }
        assert!(!self.shared.panicked.load(Ordering::Relaxed), "a worker thread panicked");
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

fn work(shared: &Shared, thread: usize) {
    let (mut seen, mut next) = (0, 0..0);
    loop {
        let mut spins = 0;
        while shared.generation.load(Ordering::SeqCst) == seen {
            ahead::fetch(&mut next);
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
            match catch_unwind(AssertUnwindSafe(|| job(thread))) {
                Ok(read_next) => next = read_next,
                Err(_) => shared.panicked.store(true, Ordering::Relaxed),
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
