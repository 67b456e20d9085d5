//! A model watched while it reads sequences.

use super::parallel;
use super::sequences::{Progress, Sequences};
use crate::backend::{Observations, Watch};
use crate::gguf::Gguf;
use crate::session::{Options, Readout, Session};
use crate::{Error, Result};
use attar_kernels::Format;
use std::sync::PoisonError;

/// Sequences are dealt to as many sessions, whatever the threads are: so the sums do not depend on them.
const SHARES: usize = 16;

/// Runs a model over sequences, all its logits included, and says what was seen. `progress` is told of
/// tokens.
///
/// # Errors
/// [`Error::Cancelled`] once `progress` says so, and those of sessions.
pub fn observe(
    gguf: &Gguf,
    sequences: &Sequences,
    threads: usize,
    progress: Progress<'_>,
) -> Result<Observations> {
    let len = sequences.longest();
    let shares = parallel::map(
        threads,
        SHARES.min(sequences.len()),
        || Ok(()),
        |(), share| watched(gguf, sequences.iter().skip(share).step_by(SHARES), len, progress),
    )?;
    let mut all = Observations::default();
    shares.iter().for_each(|share| all.add(share));
    Ok(all)
}

fn watched<'a>(
    gguf: &Gguf,
    sequences: impl Iterator<Item = &'a [u32]>,
    len: usize,
    progress: Progress<'_>,
) -> Result<Observations> {
    let cache = Format::F32;
    let options =
        Options { context_len: len, batch_len: len, threads: 1, cache, ..Options::default() };
    let watch = Watch::new(options.cpu()?)?;
    let observations = watch.observations();
    let mut session = Session::open_on(gguf, &options, Box::new(watch))?;
    for ids in sequences {
        session.clear();
        session.read_each(Readout::Logits, ids, &|| progress(0), &mut |_, _| {})?;
        if !progress(ids.len()) {
            return Err(Error::Cancelled);
        }
    }
    let seen = observations.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(seen)
}
