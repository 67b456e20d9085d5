//! Our own threads, which wait for work.
//!
//! They spin between the operations of a token (a wake-up costs a thousand times more than a
//! spinning barrier), fetching what they will read next, and park when nothing has come for a while.
//!
//! Each thread has a share of a job. The caller's thread, when its own is done, does those that nobody
//! has begun: a thread that sleeps, or whose core does something else, holds nobody up.
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

/// Turns of waiting: pauses first, some 10 microseconds; then other threads of this core go first, which
/// takes some 200 more if there are none; then the thread gives up. One that still waits can be moved to
/// an idle core, one that sleeps cannot.
const PAUSES: usize = 400;
const YIELDS: usize = 400;
/// Turns before the caller does what no worker has begun: half a microsecond. A worker that is awake has
/// seen a job by then, and asking it costs a cache line.
const LATE: usize = 20;

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
    /// Shares of the current job that have not ended, the caller's own aside.
    remaining: AtomicUsize,
    stop: AtomicBool,
    panicked: AtomicBool,
    /// One a worker.
    seats: Vec<Seat>,
    job: UnsafeCell<Option<*const Job<'static>>>,
}

/// What a worker and the caller tell each other. Alone on its cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Seat {
    /// The last job whose share here was begun.
    begun: AtomicUsize,
    /// Set while the worker is parked or about to park.
    parked: AtomicBool,
}

impl Seat {
    /// Takes the share of a job, unless it was taken before. The job stays until the share has ended.
    fn begin(&self, generation: usize) -> bool {
        let before = generation.wrapping_sub(1);
        let (taken, not) = (Ordering::Acquire, Ordering::Relaxed);
        self.begun.compare_exchange(before, generation, taken, not).is_ok()
    }
}

// SAFETY: `job` is written only by `Pool::run` while nobody reads it: after all shares of the job before
// have ended, and before the generation changes. Nobody reads it who has not begun a share of that
// generation. The pointee is `Sync`.
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
            seats: (1..threads).map(|_| Seat::default()).collect(),
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

    /// Calls `job(thread)` once for every thread and returns when all calls have ended.
    pub(super) fn run(&mut self, job: &Job<'_>) {
        let shared = &*self.shared;
        let job_pointer: *const Job<'_> = job;
        // SAFETY: only the lifetime changes, and this function does not return before every share has
        // ended.
        let job_pointer =
            unsafe { core::mem::transmute::<*const Job<'_>, *const Job<'static>>(job_pointer) };
        // SAFETY: `remaining` is zero, so no worker looks at the cell.
        unsafe { *shared.job.get() = Some(job_pointer) };
        shared.remaining.store(self.workers.len(), Ordering::Relaxed);
        let generation = shared.generation.load(Ordering::Relaxed).wrapping_add(1);
        shared.generation.store(generation, Ordering::SeqCst);
        for (worker, seat) in self.workers.iter().zip(&shared.seats) {
            if seat.parked.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
        // A panic of a share must not leave while others still use the job.
        let share = |thread| catch_unwind(AssertUnwindSafe(|| job(thread)));
        let own = share(0);
        let (mut turns, mut next) = (0, own.as_ref().cloned().unwrap_or_default());
        while shared.remaining.load(Ordering::Acquire) != 0 {
            if turns == LATE {
                let late = shared.seats.iter().zip(1..).filter(|(seat, _)| seat.begin(generation));
                late.for_each(|(_, thread)| shared.end(share(thread).is_ok()));
            }
            ahead::fetch(&mut next);
            wait(&mut turns, std::thread::yield_now);
        }
        if let Err(panic) = own {
            std::panic::resume_unwind(panic);
        }
        assert!(!shared.panicked.load(Ordering::Relaxed), "a share of the work panicked");
    }
}

impl Shared {
    /// A share has ended, well or in a panic.
    fn end(&self, well: bool) {
        if !well {
            self.panicked.store(true, Ordering::Relaxed);
        }
        self.remaining.fetch_sub(1, Ordering::Release);
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
    let seat = &shared.seats[thread - 1];
    let (mut seen, mut next) = (0, 0..0);
    loop {
        let mut turns = 0;
        while shared.generation.load(Ordering::SeqCst) == seen {
            ahead::fetch(&mut next);
            wait(&mut turns, || {
                seat.parked.store(true, Ordering::SeqCst);
                // The job may have come before the flag was seen; then nobody wakes this thread.
                if shared.generation.load(Ordering::SeqCst) == seen {
                    std::thread::park();
                }
                seat.parked.store(false, Ordering::SeqCst);
            });
        }
        seen = shared.generation.load(Ordering::SeqCst);
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        if !seat.begin(seen) {
            continue; // the caller was faster
        }
        // SAFETY: the caller wrote the cell before it changed the generation, and writes it again only
        // when the share just begun has ended.
        let job = unsafe { *shared.job.get() };
        // SAFETY: `Pool::run` keeps the job alive until then.
        let job = job.map(|job| unsafe { &*job });
        let done = catch_unwind(AssertUnwindSafe(|| job.map_or(0..0, |job| job(thread))));
        shared.end(done.is_ok());
        next = done.unwrap_or_default();
    }
}

/// One turn of waiting.
fn wait(turns: &mut usize, give_up: impl FnOnce()) {
    if *turns == PAUSES + YIELDS {
        return give_up();
    }
    *turns += 1;
    if *turns <= PAUSES {
        core::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More threads than most machines have cores, so that some are late.
    const THREADS: usize = 9;

    #[test]
    fn every_share_is_done_once_whoever_does_it() {
        let mut pool = Pool::start(THREADS).expect("threads");
        let counts = [const { AtomicUsize::new(0) }; THREADS];
        for job in 1..=3000 {
            pool.run(&|thread| {
                counts[thread].fetch_add(1, Ordering::Relaxed);
                0..0
            });
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == job));
            if job % 1000 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(5)); // they park
            }
        }
    }

    #[test]
    fn a_share_is_begun_once_and_in_its_turn() {
        let seat = Seat::default();
        assert_eq!(
            [1, 1, 3, 2, 1, 3].map(|job| seat.begin(job)),
            [true, false, false, true, false, true]
        );
    }

    #[test]
    fn a_panic_of_any_share_reaches_the_caller_when_all_have_ended() {
        for culprit in 0..3 {
            let mut pool = Pool::start(3).expect("threads");
            let ended = AtomicUsize::new(0);
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|thread| {
                    ended.fetch_add(1, Ordering::SeqCst);
                    assert!(thread != culprit, "on purpose");
                    0..0
                });
            }));
            assert!(caught.is_err() && ended.load(Ordering::SeqCst) == 3);
        }
    }
}
