//! What a C caller lends besides memory: functions, each behind a safe call.
#![allow(
    unsafe_code,
    reason = "a function a C caller lends is trusted to keep the header's promises"
)]

use super::config::Config;
use super::failure::{Outcome, Status, failure, wrong};
use super::types::{AttarClock, AttarExec, AttarSource, Idle, Now, OnToken, ParallelFor};
use crate::backend::Executor;
use crate::{Gguf, Options, Result, Session, memory};
use alloc::boxed::Box;
use core::ffi::c_void;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicUsize, Ordering};

/// Time: the caller's clock, or the system's where there is one.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    lent: Option<Lent>,
}

#[derive(Clone, Copy)]
struct Lent {
    ctx: *mut c_void,
    now: Now,
    idle: Option<Idle>,
}

/// Pauses are cut in pieces of so many nanoseconds, so that a cancellation is seen.
const IDLE_NS: u64 = 5_000_000;

impl Clock {
    /// The system's, where there is one.
    pub(super) const SYSTEM: Self = Self { lent: None };

    pub(super) fn new(clock: Option<AttarClock>) -> Outcome<Self> {
        let Some(clock) = clock else { return Ok(Self::SYSTEM) };
        let now = clock.now_ns.ok_or_else(|| wrong("a clock without now_ns"))?;
        if clock.flags != 0 {
            return Err(failure(Status::Version, "unknown flags of a clock"));
        }
        Ok(Self { lent: Some(Lent { ctx: clock.ctx, now, idle: clock.idle }) })
    }

    /// Nanoseconds since some moment; `None` where there is no clock.
    pub(super) fn now(&self) -> Option<u64> {
        match &self.lent {
            // SAFETY: the caller's function with the caller's context.
            Some(lent) => Some(unsafe { (lent.now)(lent.ctx) }),
            None => system::now(),
        }
    }

    /// Whether pauses are possible.
    pub(super) fn pauses(&self) -> bool {
        self.lent.map_or(system::PAUSES, |lent| lent.idle.is_some())
    }

    /// Waits about `ns`, or until `go_on` says no.
    pub(super) fn pause(&self, ns: u64, go_on: &dyn Fn() -> bool) {
        let mut rest = ns;
        while rest > 0 && go_on() {
            let piece = rest.min(IDLE_NS);
            match self.lent {
                Some(Lent { ctx, idle: Some(idle), .. }) => {
                    // SAFETY: the caller's function with the caller's context.
                    unsafe { idle(ctx, piece) }
                }
                Some(Lent { idle: None, .. }) => return,
                None => system::pause(piece),
            }
            rest -= piece;
        }
    }
}

#[cfg(feature = "std")]
mod system {
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    pub(super) const PAUSES: bool = true;
    static START: OnceLock<Instant> = OnceLock::new();

    pub(super) fn now() -> Option<u64> {
        u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).ok()
    }

    pub(super) fn pause(ns: u64) {
        std::thread::sleep(Duration::from_nanos(ns));
    }
}

#[cfg(not(feature = "std"))]
mod system {
    pub(super) const PAUSES: bool = false;

    pub(super) fn now() -> Option<u64> {
        None
    }

    pub(super) fn pause(_: u64) {}
}

/// Threads that can work at once.
const WORKERS_MAX: u32 = 256;

/// The caller's threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exec {
    ctx: *mut c_void,
    workers: u32,
    parallel_for: ParallelFor,
}

/// Work under way on the caller's threads.
struct Work<'a> {
    share: &'a (dyn Fn(usize) + Sync),
    count: usize,
    done: AtomicUsize,
}

impl Exec {
    pub(super) fn new(exec: AttarExec) -> Outcome<Self> {
        let parallel_for =
            exec.parallel_for.ok_or_else(|| wrong("an executor without parallel_for"))?;
        match exec.n_workers {
            0 => Err(wrong("an executor without workers")),
            workers @ 1..=WORKERS_MAX => Ok(Self { ctx: exec.ctx, workers, parallel_for }),
            _ => Err(failure(Status::Limit, "more than 256 workers")),
        }
    }
}

// SAFETY: the caller's context is the caller's to guard; the library hands it over from one thread.
unsafe impl Sync for Exec {}

// SAFETY: the header asks of `parallel_for` what this trait asks, and what can be seen of it is looked
// at: every share has ended, and there were as many as there should be.
unsafe impl Executor for Exec {
    fn threads(&self) -> usize {
        self.workers as usize
    }

    fn parallel_for(&self, count: usize, share: &(dyn Fn(usize) + Sync)) {
        let work = Work { share, count, done: AtomicUsize::new(0) };
        let arg = (&raw const work).cast_mut().cast();
        // SAFETY: the caller's function with the caller's context; `work` stays until it returns.
        unsafe { (self.parallel_for)(self.ctx, count as u32, do_share, arg) }
        assert!(work.done.load(Ordering::Acquire) == count, "shares that failed or were not done");
    }
}

/// Does one share. A panic must not run into the caller's code: it only is not counted as done.
unsafe extern "C" fn do_share(arg: *mut c_void, i: u32) {
    // SAFETY: `parallel_for` above put it there, and waits.
    let work = unsafe { &*arg.cast::<Work<'_>>() };
    if (i as usize) < work.count && completes(|| (work.share)(i as usize)) {
        work.done.fetch_add(1, Ordering::Release);
    }
}

#[cfg(feature = "std")]
fn completes(share: impl FnOnce()) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(share)).is_ok()
}

#[cfg(not(feature = "std"))]
fn completes(share: impl FnOnce()) -> bool {
    share();
    true
}

/// A session, and the caller's threads it works with.
pub(super) struct Working {
    /// Dropped first.
    session: Session,
    _exec: Option<Box<Exec>>,
}

impl Working {
    pub(super) fn open(gguf: &Gguf, config: &Config) -> Result<Self> {
        let exec = config.exec.map(memory::boxed).transpose()?;
        let executor = exec.as_deref().map(|exec| {
            let exec: *const Exec = exec;
            // SAFETY: the box does not move its contents, and is dropped after the session.
            unsafe { &*exec as &'static dyn Executor }
        });
        // Without a lender the calling thread does all work.
        let threads = usize::from(executor.is_none());
        let options = Options { threads, executor, ..config.options };
        let session = match config.graphics {
            Some(graphics) => graphics.open(gguf, &options)?,
            None => Session::open(gguf, &options)?,
        };
        Ok(Self { session, _exec: exec })
    }
}

impl Deref for Working {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl DerefMut for Working {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

/// A source's function that reads.
pub(super) fn read_at(source: &AttarSource, offset: u64, room: &mut [u8]) -> Outcome<()> {
    let read = source.read_at.ok_or_else(|| wrong("a source without read_at"))?;
    let at = source.start.checked_add(offset).ok_or_else(|| wrong("a source without end"))?;
    // SAFETY: the caller's function with the caller's context, and as much room as is said.
    let code = unsafe { read(source.ctx, at, room.as_mut_ptr().cast(), room.len()) };
    if code == 0 { Ok(()) } else { Err(failure(Status::Io, "read_at of the source failed")) }
}

/// A whole file where it lies, if the source can say where.
///
/// The bytes live until the model is closed: that is the caller's promise, and no view of them leaves
/// a model.
pub(super) fn map(source: &AttarSource, len: usize) -> Option<&'static [u8]> {
    let map = source.map?;
    // SAFETY: the caller's function with the caller's context.
    let address = unsafe { map(source.ctx, source.start, len) };
    if address.is_null() {
        return None;
    }
    // SAFETY: so many bytes lie there unchanged, by the contract of `map`.
    Some(unsafe { core::slice::from_raw_parts(address.cast(), len) })
}

/// Gives back what [`map`] found.
pub(super) fn unmap(source: &AttarSource, bytes: &'static [u8]) {
    if let Some(unmap) = source.unmap {
        // SAFETY: the caller's function, context, address and length.
        unsafe { unmap(source.ctx, bytes.as_ptr().cast(), bytes.len()) }
    }
}

/// Who wants to hear how far an opening is.
pub(super) struct Progress {
    pub(super) tell: Option<unsafe extern "C" fn(*mut c_void, u32) -> i32>,
    pub(super) user: *mut c_void,
}

impl Progress {
    pub(super) const NONE: Self = Self { tell: None, user: core::ptr::null_mut() };

    pub(super) fn tell(&self, permille: u32) -> Outcome<()> {
        let Some(tell) = self.tell else { return Ok(()) };
        // SAFETY: the caller's function with the caller's context.
        match unsafe { tell(self.user, permille) } {
            0 => Ok(()),
            _ => Err(failure(Status::Cancelled, "the progress callback asked to stop")),
        }
    }
}

/// Who wants to hear of tokens.
pub(super) struct Listener {
    pub(super) tell: Option<OnToken>,
    pub(super) user: *mut c_void,
}

impl Listener {
    /// Whether to go on.
    pub(super) fn tell(&self, id: i32, text: &[u8], raw: &[u8], logprob: f32) -> bool {
        let Some(tell) = self.tell else { return true };
        let (text, text_len) = (text.as_ptr().cast(), text.len());
        // SAFETY: the caller's function with the caller's context, lent two slices.
        unsafe { tell(self.user, id, text, text_len, raw.as_ptr(), raw.len(), logprob) == 0 }
    }
}
