//! A configuration, checked: what this build cannot do is refused here.

use super::device::Graphics;
use super::failure::{Outcome, Status, failure, wrong};
use super::lent::{Clock, Exec};
use super::types::{AttarClock, AttarConfig, AttarExec, AttarLimits};
use crate::{Format, Options};

/// How to open a model and a session.
pub(super) struct Config {
    /// Whether weights are copied.
    pub(super) copy: bool,
    /// What runs the model instead of the CPU.
    pub(super) graphics: Option<Graphics>,
    pub(super) limits: Option<AttarLimits>,
    pub(super) options: Options,
    pub(super) exec: Option<Exec>,
    pub(super) clock: Clock,
    pub(super) seed: u64,
}

impl Config {
    /// What is asked if nothing is.
    pub(super) const fn default() -> Self {
        let cache = Format::F16;
        let (context_len, batch_len) = (0, 0); // the model's, the library's
        let options =
            Options { context_len, batch_len, threads: 1, executor: None, cache, isa: None };
        Self {
            copy: false,
            graphics: None,
            limits: None,
            options,
            exec: None,
            clock: Clock::SYSTEM,
            seed: 0,
        }
    }

    pub(super) fn new(
        config: &AttarConfig,
        exec: Option<AttarExec>,
        limits: Option<AttarLimits>,
        clock: Option<AttarClock>,
    ) -> Outcome<Self> {
        let plain = Self::default();
        if config.flags != 0 {
            return Err(failure(Status::Version, "unknown flags of a configuration"));
        }
        if !config.trust_key.is_null() || config.trust_key_len != 0 {
            return Err(failure(Status::Unsupported, "signed weights"));
        }
        if config.numeric_mode > 1 {
            return Err(wrong("numeric_mode is 0 or 1"));
        }
        let graphics = match config.device {
            0 => None,
            1 => Some(Graphics::new()?),
            _ => return Err(wrong("device is 0 or 1")),
        };
        if graphics.is_some() && config.numeric_mode == 1 {
            return Err(failure(Status::Unsupported, "the CPU's bits on a graphics device"));
        }
        let copy = match (config.residency, config.window_bytes) {
            (0, 0) => false,
            (1, 0) => true,
            (2, _) => return Err(failure(Status::Unsupported, "weights through a window")),
            (0 | 1, _) => return Err(wrong("window_bytes without a window")),
            _ => return Err(wrong("residency is 0, 1 or 2")),
        };
        if config.kv_type_k != config.kv_type_v {
            return Err(failure(Status::Unsupported, "values encoded otherwise than keys"));
        }
        let cache = match config.kv_type_k {
            0 | 2 => Format::F16,
            1 => Format::F32,
            3 => Format::Q8_0,
            _ => return Err(wrong("kv_type is 0 to 3")),
        };
        let options = Options {
            context_len: config.n_ctx as usize,
            batch_len: config.n_prefill as usize,
            cache,
            ..plain.options
        };
        let exec = exec.map(Exec::new).transpose()?;
        let clock = Clock::new(clock)?;
        Ok(Self { copy, graphics, limits, options, exec, clock, seed: config.seed })
    }

    /// Whether arenas of so many bytes are allowed.
    pub(super) fn fits(&self, bytes: u64) -> bool {
        self.limits.is_none_or(|limits| limits.max_ram == 0 || bytes <= limits.max_ram)
    }
}
