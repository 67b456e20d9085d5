//! Generating: tokens until something says stop, text as it becomes certain.

use super::failure::{Outcome, Status, failure, wrong};
use super::lent::Listener;
use super::session::{Conversation, RECENT_MAX, Watch};
use super::stops::{Cut, Stops};
use super::types::AttarSampling;
use crate::SamplerOptions;

/// No token.
const TOKEN_NONE: i32 = -1;
/// Recent tokens unless asked otherwise.
const RECENT_DEFAULT: usize = 64;

/// Why generation ended, as the header numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Stop {
    End = 1,
    Length = 2,
    String = 3,
    Callback = 4,
    Deadline = 5,
    Cancelled = 6,
    ContextFull = 7,
}

/// What to generate.
pub(super) struct Plan<'a> {
    /// 0 for no limit.
    pub(super) tokens_max: usize,
    /// Share of time to work, 1 to 100.
    pub(super) duty_percent: u64,
    pub(super) stops: Stops<'a>,
    pub(super) listener: Listener,
    /// Whether anybody looks at log probabilities.
    pub(super) logprobs: bool,
}

/// What was generated.
pub(super) struct Report {
    pub(super) tokens: u32,
    pub(super) logprob: f64,
    pub(super) stop: Stop,
}

/// How tokens are chosen.
pub(super) fn sampling(sampling: Option<&AttarSampling>) -> Outcome<SamplerOptions> {
    let plain = SamplerOptions {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        penalty_last_n: RECENT_DEFAULT,
        ..SamplerOptions::default()
    };
    let Some(asked) = sampling else { return Ok(plain) };
    if asked.flags != 0 {
        return Err(failure(Status::Version, "unknown flags of a sampling"));
    }
    let or = |value: f32, none: f32| if value == 0.0 { none } else { value };
    let recent = asked.repeat_last_n as usize;
    if recent > RECENT_MAX {
        return Err(wrong("repeat_last_n is at most 256"));
    }
    Ok(SamplerOptions {
        temperature: asked.temp,
        top_k: usize::try_from(asked.top_k).map_err(|_| wrong("top_k is negative"))?,
        top_p: or(asked.top_p, 1.0),
        min_p: asked.min_p,
        repeat_penalty: or(asked.repeat_penalty, 1.0),
        penalty_last_n: if recent == 0 { RECENT_DEFAULT } else { recent },
        ..plain
    })
}

impl Conversation {
    /// Generates; text that waits in the end is handed out unless it was a stop string.
    pub(super) fn generate(&mut self, plan: &Plan<'_>, watch: &Watch<'_>) -> Outcome<Report> {
        if self.tokens.is_empty() {
            return Err(failure(Status::State, "no token is held"));
        }
        let _ = self.stream.finish(); // a character another call left unfinished
        self.waiting.clear();
        let mut report = Report { tokens: 0, logprob: 0.0, stop: Stop::Length };
        report.stop = loop {
            if plan.tokens_max != 0 && report.tokens as usize == plan.tokens_max {
                break Stop::Length;
            }
            if let Some(stop) = self.generate_one(plan, watch, &mut report)? {
                break stop;
            }
        };
        if !matches!(report.stop, Stop::String | Stop::Callback) {
            self.stream.finish().bytes().for_each(|byte| self.waiting.push(byte));
            if !self.waiting.is_empty() && !plan.listener.tell(TOKEN_NONE, &self.waiting, &[], 0.0)
            {
                report.stop = Stop::Callback;
            }
        }
        Ok(report)
    }

    fn generate_one(
        &mut self,
        plan: &Plan<'_>,
        watch: &Watch<'_>,
        report: &mut Report,
    ) -> Outcome<Option<Stop>> {
        let start = if plan.duty_percent < 100 { self.clock.now() } else { None };
        let (id, logprob) = match self.step(watch, plan.logprobs) {
            Err(failure) if failure.status == Status::ContextFull => {
                return Ok(Some(Stop::ContextFull));
            }
            Err(failure) if failure.status == Status::Cancelled => {
                let cancelled = watch.take_cancel();
                return Ok(Some(if cancelled { Stop::Cancelled } else { Stop::Deadline }));
            }
            other => other?,
        };
        report.tokens += 1;
        report.logprob += f64::from(logprob);
        if self.model.tokenizer.is_end_of_text(id) {
            return Ok(Some(Stop::End));
        }
        if let Some(stop) = self.hand_out(plan, id, logprob)? {
            return Ok(Some(stop));
        }
        if let Some((start, end)) = start.zip(self.clock.now()) {
            let work = end.saturating_sub(start);
            let pause = work.saturating_mul(100 - plan.duty_percent) / plan.duty_percent;
            self.clock.pause(pause, &|| watch.go_on());
        }
        Ok(None)
    }

    /// Tells of a token, with the text that is certain by now.
    fn hand_out(&mut self, plan: &Plan<'_>, id: u32, logprob: f32) -> Outcome<Option<Stop>> {
        let tokenizer = &self.model.tokenizer;
        self.piece.clear();
        tokenizer.spell(id, false, &mut |part| {
            part.iter().for_each(|byte| self.piece.push(*byte));
        });
        let text = self.stream.push(tokenizer, id)?;
        text.bytes().for_each(|byte| self.waiting.push(byte));
        let cut = plan.stops.cut(&self.waiting);
        let (Cut::Safe(len) | Cut::Stop(len)) = cut;
        if !plan.listener.tell(id as i32, &self.waiting[..len], &self.piece, logprob) {
            return Ok(Some(Stop::Callback));
        }
        self.waiting.copy_within(len.., 0);
        self.waiting.truncate(self.waiting.len() - len);
        Ok(matches!(cut, Cut::Stop(_)).then_some(Stop::String))
    }
}
