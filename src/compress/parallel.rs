//! Many pieces of work on some threads, each with a state of its own, such as a session.

use crate::Result;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Results of `work` on `0..count`, in that order. Each of at most `threads` threads makes its state
/// and takes the next piece until there is none; an error stops them all.
pub(super) fn map<S, R: Send>(
    threads: usize,
    count: usize,
    make: impl Fn() -> Result<S> + Sync,
    work: impl Fn(&mut S, usize) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let share = || -> Result<Vec<(usize, R)>> {
        let mut state = make()?;
        let mut done = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                break;
            }
            done.push((i, work(&mut state, i)?));
        }
        Ok(done)
    };
    let stopping = || share().inspect_err(|_| stop.store(true, Ordering::Relaxed));
    let shares: Vec<Result<Vec<(usize, R)>>> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(count)).map(|_| scope.spawn(stopping)).collect();
        let own = stopping();
        let others = others
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        std::iter::once(own).chain(others).collect()
    });
    let mut all = Vec::with_capacity(count);
    for share in shares {
        all.extend(share?);
    }
    all.sort_unstable_by_key(|(i, _)| *i);
    Ok(all.into_iter().map(|(_, result)| result).collect())
}
