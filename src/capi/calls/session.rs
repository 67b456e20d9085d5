//! Calls on sessions.

use super::super::failure::{Outcome, Status, failure, wrong};
use super::super::generate::{self, Plan, Stop};
use super::super::handle::{self, Handle};
use super::super::lent::{Clock, Listener};
use super::super::session::Watch;
use super::super::stops::{STOPS_MAX, Stops};
use super::super::types::{
    AttarConfig, AttarError, AttarMem, AttarRequest, AttarResult, AttarSampling,
};
use super::super::{plan, raw};
use super::model::{config, room};
use super::{AttarModel, AttarSession, absent, border, lent};
use core::ffi::c_char;

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_session_open(
    model: *const AttarModel,
    config: *const AttarConfig,
    arena: *const AttarMem,
    out: *mut *mut AttarSession,
    error: *mut AttarError,
) -> i32 {
    let call = || {
        // SAFETY: the header's contract.
        let out = unsafe { raw::place(out)? };
        *out = core::ptr::null_mut();
        // SAFETY: the header's contract.
        let model = unsafe { Handle::at(model)? };
        // SAFETY: the header's contract.
        let config = unsafe { self::config(config)? };
        // SAFETY: the header's contract.
        let arena = unsafe { lent(arena)? };
        *out = plan::open_session(model, &config, arena)?;
        Ok(())
    };
    // SAFETY: the header's contract.
    unsafe { border(error, call) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_session_close(session: *mut AttarSession) {
    let call = || {
        // SAFETY: the header's contract.
        unsafe { handle::close(session) };
        Ok(())
    };
    // SAFETY: no error is asked for.
    unsafe { border(core::ptr::null_mut(), call) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_session_rewind(session: *mut AttarSession, n_keep: u32) -> i32 {
    // SAFETY: the header's contract.
    let call = || unsafe { Handle::at(session)? }.work(|inner| inner.rewind(n_keep as usize));
    // SAFETY: no error is asked for.
    unsafe { border(core::ptr::null_mut(), call) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_cancel(session: *mut AttarSession) {
    // Nothing but one store: this may be a signal handler.
    // SAFETY: the header's contract.
    if let Ok(session) = unsafe { Handle::at(session) } {
        session.cancel();
    }
}

/// A watch without a deadline.
fn watch(session: &AttarSession) -> Watch<'_> {
    Watch { cancel: session.cancel_flag(), clock: Clock::SYSTEM, deadline: None }
}

/// A call the caller cancelled uses the cancellation up.
fn settle<T>(watch: &Watch<'_>, result: Outcome<T>) -> Outcome<T> {
    if let Err(failure) = &result
        && failure.status == Status::Cancelled
    {
        watch.take_cancel();
    }
    result
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_prefill(
    session: *mut AttarSession,
    tokens: *const i32,
    n: usize,
    n_done: *mut usize,
) -> i32 {
    let call = || {
        // SAFETY: the header's contract.
        let n_done = unsafe { raw::maybe_place(n_done)? };
        // SAFETY: the header's contract.
        let session = unsafe { Handle::at(session)? };
        // SAFETY: the header's contract; a negative token becomes one beyond the vocabulary.
        let ids = unsafe { raw::slice(tokens.cast::<u32>(), n)? };
        let watch = watch(session);
        let (done, result) = session.work(|inner| Ok(inner.prefill(ids, &watch)))?;
        if let Some(n_done) = n_done {
            *n_done = done;
        }
        settle(&watch, result)
    };
    // SAFETY: no error is asked for.
    unsafe { border(core::ptr::null_mut(), call) }
}

/// A request and its sampling.
///
/// # Safety
/// The header's contract.
unsafe fn request(request: *const AttarRequest) -> Outcome<(AttarRequest, Option<AttarSampling>)> {
    // SAFETY: the caller's promise.
    let request = unsafe { raw::read(request)? }.unwrap_or(AttarRequest::DEFAULT);
    if !request.adapter.is_null() {
        return Err(absent("adapters"));
    }
    if !request.constraint.is_null() {
        return Err(absent("constraints"));
    }
    if request.draft_ngram != 0 {
        return Err(absent("drafts"));
    }
    // SAFETY: the caller's promise.
    let sampling = unsafe { raw::read(request.sampling)? };
    Ok((request, sampling))
}

/// When a call that starts now must end.
fn deadline(clock: Clock, request: &AttarRequest) -> Outcome<Option<u64>> {
    if request.deadline_ns == 0 {
        return Ok(None);
    }
    let now = clock.now().ok_or_else(|| absent("a deadline without a clock"))?;
    Ok(Some(now.saturating_add(request.deadline_ns)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_step(
    session: *mut AttarSession,
    request: *const AttarRequest,
    out: *mut i32,
    logprob: *mut f32,
) -> i32 {
    let call = || {
        // SAFETY: the header's contract.
        let session = unsafe { Handle::at(session)? };
        // SAFETY: the header's contract.
        let out = unsafe { raw::place(out)? };
        // SAFETY: the header's contract.
        let logprob = unsafe { raw::maybe_place(logprob)? };
        // SAFETY: the header's contract.
        let (request, sampling) = unsafe { self::request(request)? };
        let options = generate::sampling(sampling.as_ref())?;
        let (id, likely) = session.work(|inner| {
            let clock = inner.clock;
            let watch = Watch { clock, deadline: deadline(clock, &request)?, ..watch(session) };
            inner.sampler.configure(&options)?;
            settle(&watch, inner.step(&watch, logprob.is_some()))
        })?;
        *out = id as i32;
        logprob.into_iter().for_each(|place| *place = likely);
        Ok(())
    };
    // SAFETY: no error is asked for.
    unsafe { border(core::ptr::null_mut(), call) }
}

/// The share of time to work, in percent.
fn duty(clock: Clock, percent: u32) -> Outcome<u64> {
    match percent {
        0 | 100 => Ok(100),
        1..100 if clock.now().is_some() && clock.pauses() => Ok(percent.into()),
        1..100 => Err(absent("pauses without a clock")),
        _ => Err(wrong("duty_percent is 1 to 100")),
    }
}

/// The stop strings of a request.
///
/// # Safety
/// The header's contract.
unsafe fn stops<'a>(request: &AttarRequest) -> Outcome<Stops<'a>> {
    let mut stops = Stops::default();
    if request.n_stop as usize > STOPS_MAX {
        return Err(failure(Status::Limit, "more than 16 stop strings"));
    }
    // SAFETY: the caller's promise.
    let texts = unsafe { raw::slice::<'a>(request.stop, request.n_stop as usize)? };
    for text in texts {
        // SAFETY: the caller's promise.
        stops.push(unsafe { raw::text::<'a>(*text)? })?;
    }
    Ok(stops)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_generate(
    session: *mut AttarSession,
    request: *const AttarRequest,
    out: *mut AttarResult,
    error: *mut AttarError,
) -> i32 {
    let call = || {
        // SAFETY: the header's contract.
        let session = unsafe { Handle::at(session)? };
        let out = if out.is_null() {
            None
        } else {
            // SAFETY: the header's contract.
            Some(unsafe { raw::output(out)? })
        };
        // SAFETY: the header's contract.
        let (request, sampling) = unsafe { self::request(request)? };
        // SAFETY: the header's contract.
        let stops = unsafe { stops(&request)? };
        let options = generate::sampling(sampling.as_ref())?;
        let listener = Listener { tell: request.on_token, user: request.user };
        let tokens_max = request.max_tokens as usize;
        let logprobs = listener.tell.is_some() || out.is_some();
        let (held, report) = session.work(|inner| {
            let clock = inner.clock;
            let duty_percent = duty(clock, request.duty_percent)?;
            let watch = Watch { clock, deadline: deadline(clock, &request)?, ..watch(session) };
            inner.sampler.configure(&options)?;
            if let Some(seed) = sampling.map(|sampling| sampling.seed).filter(|seed| *seed != 0) {
                inner.sampler.reseed(seed);
            }
            let plan = Plan { tokens_max, duty_percent, stops, listener, logprobs };
            Ok((inner.tokens.len(), inner.generate(&plan, &watch)?))
        })?;
        if let Some(out) = out {
            out.n_prompt = held as u32;
            out.n_generated = report.tokens;
            out.stop_reason = report.stop as i32;
            out.logprob_sum = report.logprob;
        }
        match report.stop {
            Stop::Cancelled => Err(failure(Status::Cancelled, "cancelled")),
            Stop::ContextFull => Err(failure(Status::ContextFull, "the context is full")),
            _ => Ok(()),
        }
    };
    // SAFETY: the header's contract.
    unsafe { border(error, call) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_score(
    session: *mut AttarSession,
    tokens: *const i32,
    n: usize,
    n_given: usize,
    logprobs: *mut f32,
    sum: *mut f64,
) -> i32 {
    let call = || {
        // SAFETY: the header's contract.
        let session = unsafe { Handle::at(session)? };
        // SAFETY: the header's contract; a negative token becomes one beyond the vocabulary.
        let ids = unsafe { raw::slice(tokens.cast::<u32>(), n)? };
        let logprobs = if logprobs.is_null() {
            None
        } else {
            // SAFETY: the header's contract.
            Some(unsafe { raw::slice_mut(logprobs, n.saturating_sub(n_given))? })
        };
        // SAFETY: the header's contract.
        let sum = unsafe { raw::maybe_place(sum)? };
        let watch = watch(session);
        let scored = session.work(|inner| inner.score(ids, n_given, logprobs, &watch));
        let total = settle(&watch, scored)?;
        sum.into_iter().for_each(|place| *place = total);
        Ok(())
    };
    // SAFETY: no error is asked for.
    unsafe { border(core::ptr::null_mut(), call) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_logits(session: *mut AttarSession, out: *mut f32, n: *mut usize) -> i32 {
    let call = || {
        // SAFETY: the header's contract.
        let session = unsafe { Handle::at(session)? };
        // SAFETY: the header's contract.
        let (out, n) = unsafe { room(out, n)? };
        let watch = watch(session);
        session.work(|inner| {
            let out = out.take(inner.vocab_len(), n)?;
            settle(&watch, inner.logits(&watch).map(|logits| out.copy_from_slice(logits)))
        })
    };
    // SAFETY: no error is asked for.
    unsafe { border(core::ptr::null_mut(), call) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_embed(
    session: *mut AttarSession,
    tokens: *const i32,
    n: usize,
    pooling: u32,
    out: *mut f32,
    dim: *mut usize,
) -> i32 {
    let call = || {
        // SAFETY: the header's contract.
        let session = unsafe { Handle::at(session)? };
        // SAFETY: the header's contract; a negative token becomes one beyond the vocabulary.
        let ids = unsafe { raw::slice(tokens.cast::<u32>(), n)? };
        // SAFETY: the header's contract.
        let (room, len) = unsafe { room(out, dim)? };
        if pooling > 1 {
            return Err(wrong("pooling is 0 or 1"));
        }
        let watch = watch(session);
        session.work(|inner| {
            let room = room.take(inner.session.width(), len)?;
            settle(&watch, inner.embed(ids, pooling == 0, room, &watch))
        })
    };
    // SAFETY: no error is asked for.
    unsafe { border(core::ptr::null_mut(), call) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_state_save(
    session: *const AttarSession,
    buffer: *mut core::ffi::c_void,
    n: *mut usize,
) -> i32 {
    let call = || {
        // SAFETY: the header's contract.
        let session = unsafe { Handle::at(session)? }.share()?;
        // SAFETY: the header's contract.
        let (room, len) = unsafe { room(buffer.cast::<u8>(), n)? };
        session.save(room, len)
    };
    // SAFETY: no error is asked for.
    unsafe { border(core::ptr::null_mut(), call) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_state_load(
    session: *mut AttarSession,
    buffer: *const core::ffi::c_void,
    n: usize,
    error: *mut AttarError,
) -> i32 {
    let call = || {
        // SAFETY: the header's contract.
        let session = unsafe { Handle::at(session)? };
        // SAFETY: the header's contract.
        let bytes = unsafe { raw::slice(buffer.cast::<u8>(), n)? };
        session.work(|inner| inner.load(bytes))
    };
    // SAFETY: the header's contract.
    unsafe { border(error, call) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_stats(
    session: *const AttarSession,
    json: *mut c_char,
    len: *mut usize,
) -> i32 {
    let call = || {
        // SAFETY: the header's contract.
        let handle = unsafe { Handle::at(session)? };
        // SAFETY: the header's contract.
        let (out, len) = unsafe { room(json.cast(), len)? };
        handle.share()?.stats(handle.used_max(), out, len)
    };
    // SAFETY: no error is asked for.
    unsafe { border(core::ptr::null_mut(), call) }
}
