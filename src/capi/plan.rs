//! Opening, and how much memory it takes: one is the other, done in memory that is given back.

use super::config::Config;
use super::failure::{Outcome, Status, failure};
use super::handle::{Handle, Memory, Opened, Purpose};
use super::lent::Progress;
use super::model::{self, Model};
use super::out::Out;
use super::session::Conversation;
use super::source;
use super::types::{AttarLimits, AttarPlanInfo, AttarSource};

/// Scratch from the heap: grown from this until it suffices.
const SCRATCH_LEN: usize = 1 << 20;

/// Calls `work` with memory lent, or with memory from the heap, twice as much each time it is too
/// little.
pub(super) fn with_scratch<T>(
    lent: Option<Memory>,
    mut work: impl FnMut(Memory) -> Outcome<T>,
) -> Outcome<T> {
    if let Some(memory) = lent {
        return work(memory);
    }
    let mut len = SCRATCH_LEN;
    loop {
        match work(Memory::claim(len)?) {
            Err(failure) if failure.status == Status::NoMemory => len = len.saturating_mul(2),
            other => return other,
        }
    }
}

/// What a file is.
pub(super) fn probe(
    source: &AttarSource,
    limits: Option<&AttarLimits>,
    scratch: Option<Memory>,
    mut out: Out<'_, u8>,
    len: &mut usize,
) -> Outcome<()> {
    with_scratch(scratch, |memory| {
        memory.lend(|| {
            let file = source::Opened::open(source, false, &Progress::NONE)?;
            if let Some(limits) = limits {
                model::check(&file, limits)?;
            }
            out.restart();
            model::probe(&file, &mut out);
            Ok(())
        })
    })?;
    out.finish_text(len)
}

/// Opens a model for good.
pub(super) fn open_model(
    source: &AttarSource,
    config: &Config,
    lent: Option<Memory>,
    progress: &Progress,
) -> Outcome<*mut Handle<Model>> {
    let memory = match lent {
        Some(memory) => memory,
        None => Memory::claim(with_scratch(None, |memory| {
            Ok(model_in(source, config, memory, &Progress::NONE)?.used_max())
        })?)?,
    };
    let model = model_in(source, config, memory, progress)?;
    check_ram(config, model.used_max())?;
    Ok(model.keep())
}

fn model_in(
    source: &AttarSource,
    config: &Config,
    memory: Memory,
    progress: &Progress,
) -> Outcome<Opened<Model>> {
    Handle::open(memory, Purpose::Use, || Model::open(source, config, progress))
}

/// Opens a session for good.
pub(super) fn open_session(
    model: &Handle<Model>,
    config: &Config,
    lent: Option<Memory>,
) -> Outcome<*mut Handle<Conversation>> {
    let memory = match lent {
        Some(memory) => memory,
        None => Memory::claim(with_scratch(None, |memory| {
            Ok(session_in(model, config, memory, Purpose::Measure)?.used_max())
        })?)?,
    };
    let session = session_in(model, config, memory, Purpose::Use)?;
    check_ram(config, model.used_max().saturating_add(session.used_max()))?;
    Ok(session.keep())
}

fn session_in(
    model: &Handle<Model>,
    config: &Config,
    memory: Memory,
    purpose: Purpose,
) -> Outcome<Opened<Conversation>> {
    let model = model.lasting()?;
    Handle::open(memory, purpose, || Conversation::open(model, config))
}

fn check_ram(config: &Config, bytes: usize) -> Outcome<()> {
    if config.fits(bytes as u64) {
        return Ok(());
    }
    Err(failure(Status::Limit, "more memory than max_ram"))
}

/// What a model and a session take.
pub(super) fn plan(
    source: &AttarSource,
    config: &Config,
    scratch: Option<Memory>,
) -> Outcome<AttarPlanInfo> {
    with_scratch(scratch, |memory| {
        let rest = memory.rest();
        let model = model_in(source, config, memory, &Progress::NONE)?;
        let rest = rest.after(model.used_max());
        let session = session_in(&model, config, rest, Purpose::Measure)?;
        let (model_arena, session_arena) = (model.used_max() as u64, session.used_max() as u64);
        let plan = session.share()?.session.plan();
        let kv_bytes = plan.cache_bytes as u64;
        // With a device nobody says how many of them lie in the arena.
        let kv_in_arena = if config.graphics.is_some() { 0 } else { kv_bytes };
        Ok(AttarPlanInfo {
            size: 0,
            fits: config.fits(model_arena.saturating_add(session_arena)).into(),
            model_arena,
            session_arena,
            mapped_file: model.share()?.file.mapped_len() as u64,
            device_bytes: plan.device_bytes as u64,
            kv_bytes,
            scratch_bytes: session_arena - kv_in_arena,
        })
    })
}
