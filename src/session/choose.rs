//! The next token, chosen where the logits are if the device can.

use super::Session;
use crate::Result;
use crate::sampler::Sampler;
use core::sync::atomic::Ordering;

impl Session {
    /// Appends tokens and chooses the one that follows. A device that finds the largest logits itself
    /// sends back only those the sampler looks at; otherwise all come back, into `logits`, which has a
    /// number a token of the vocabulary. The choice is the same.
    ///
    /// # Errors
    /// As [`Session::feed`].
    pub fn choose(
        &mut self,
        ids: &[u32],
        sampler: &mut Sampler,
        logits: &mut [f32],
    ) -> Result<u32> {
        let most = self.backend.largest_max();
        let Some(count) = sampler.candidates().filter(|count| *count <= most) else {
            logits.copy_from_slice(self.feed(ids)?);
            return Ok(sampler.sample(logits));
        };
        let cancel = self.cancel.clone();
        let go_on = || !cancel.load(Ordering::Relaxed);
        let last = self.append(ids, &go_on)?;
        self.ask(&go_on)?;
        let largest = self.decoder.largest(&mut *self.backend, last, count)?;
        Ok(sampler.sample_among(largest))
    }
}
