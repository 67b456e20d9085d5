//! What a thread that waits fetches from memory: the beginning of what it will read next.

use super::share;
use core::ops::Range;

/// Bytes fetched ahead at most: a part of a core's own cache that leaves room for what is at work.
const BYTES_MAX: usize = 128 * 1024;
/// Bytes fetched between two looks at whether the wait is over.
const STEP: usize = 512;
const CACHE_LINE: usize = 64;

/// A matrix whose blocks of rows will be divided among the threads, by address: it may be gone when its
/// turn comes, and a hint to the memory does not mind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ahead {
    /// Address of the first block.
    pub start: usize,
    /// How many there are.
    pub blocks: usize,
    /// Bytes of one.
    pub block_bytes: usize,
}

impl Ahead {
    /// What `thread` of `threads` will read first.
    pub(super) fn of(self, threads: usize, thread: usize) -> Range<usize> {
        let blocks = share(self.blocks, threads, thread);
        let start = self.start + blocks.start * self.block_bytes;
        start..start + (blocks.len() * self.block_bytes).min(BYTES_MAX)
    }
}

/// Asks memory for the next bytes of `ahead`.
#[cfg_attr(not(feature = "std"), allow(dead_code, reason = "nobody waits without threads"))]
pub(super) fn fetch(ahead: &mut Range<usize>) {
    let end = ahead.end.min(ahead.start + STEP);
    (ahead.start..end).step_by(CACHE_LINE).for_each(attar_kernels::fetch);
    ahead.start = end;
}
