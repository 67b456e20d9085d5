//! What a session holds, took and did, as JSON.

use super::failure::Outcome;
use super::out::Out;
use super::session::Conversation;
use core::fmt::Write;

impl Conversation {
    /// `used` is how much of its arena was in use at most.
    pub(super) fn stats(&self, used: usize, mut out: Out<'_, u8>, len: &mut usize) -> Outcome<()> {
        let session = &self.session;
        let numbers = [
            ("n_ctx", session.context_len() as u64),
            ("n_held", self.tokens.len() as u64),
            ("n_fed", session.position() as u64),
            ("n_vocab", session.vocab_len() as u64),
            ("width", session.width() as u64),
            ("arena_bytes", used as u64),
            ("kv_bytes", session.plan().cache_bytes as u64),
            ("tokens_worked", self.counts.fed),
            ("tokens_chosen", self.counts.generated),
            ("threads", session.threads() as u64),
        ];
        let _ = write!(out, "{{\"kernels\":");
        out.json_string(session.device_name().as_bytes());
        for (name, number) in numbers {
            let _ = write!(out, ",\"{name}\":{number}");
        }
        let caught = if cfg!(all(feature = "std", panic = "unwind")) { "status" } else { "trap" };
        let _ = write!(out, ",\"defects\":\"{caught}\"}}");
        out.finish_text(len)
    }
}
