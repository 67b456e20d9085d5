//! The structs of `include/attar.h`, field by field. `tests/c/layout.h` has every offset.

use core::ffi::{c_char, c_void};
use core::ptr::{null, null_mut};

/// `attar_error`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct AttarError {
    pub(super) size: u32,
    pub(super) code: i32,
    pub(super) place: u64,
    pub(super) message: [u8; 160],
}

/// `attar_mem`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct AttarMem {
    pub(super) base: *mut c_void,
    pub(super) size: usize,
}

/// `read_at` of a source.
pub(super) type ReadAt = unsafe extern "C" fn(*mut c_void, u64, *mut c_void, usize) -> i32;
/// `map` of a source.
pub(super) type Map = unsafe extern "C" fn(*mut c_void, u64, usize) -> *const c_void;
/// `unmap` of a source.
pub(super) type Unmap = unsafe extern "C" fn(*mut c_void, *const c_void, usize);

/// `attar_source`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct AttarSource {
    pub(super) size: u32,
    pub(super) flags: u32,
    pub(super) length: u64,
    pub(super) start: u64,
    pub(super) ctx: *mut c_void,
    pub(super) read_at: Option<ReadAt>,
    pub(super) map: Option<Map>,
    pub(super) unmap: Option<Unmap>,
}

/// A share of work.
pub(super) type Share = unsafe extern "C" fn(*mut c_void, u32);
/// `parallel_for` of an executor.
pub(super) type ParallelFor = unsafe extern "C" fn(*mut c_void, u32, Share, *mut c_void);

/// `attar_exec`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct AttarExec {
    pub(super) size: u32,
    pub(super) n_workers: u32,
    pub(super) ctx: *mut c_void,
    pub(super) parallel_for: Option<ParallelFor>,
}

/// `now_ns` of a clock.
pub(super) type Now = unsafe extern "C" fn(*mut c_void) -> u64;
/// `idle` of a clock.
pub(super) type Idle = unsafe extern "C" fn(*mut c_void, u64);

/// `attar_clock`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct AttarClock {
    pub(super) size: u32,
    pub(super) flags: u32,
    pub(super) ctx: *mut c_void,
    pub(super) now_ns: Option<Now>,
    pub(super) idle: Option<Idle>,
}

/// `attar_limits`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct AttarLimits {
    pub(super) size: u32,
    pub(super) max_tensors: u32,
    pub(super) max_meta_bytes: u64,
    pub(super) max_ram: u64,
    pub(super) max_vocab: u32,
    pub(super) max_layers: u32,
}

/// `attar_config`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct AttarConfig {
    pub(super) size: u32,
    pub(super) n_ctx: u32,
    pub(super) n_prefill: u32,
    pub(super) kv_type_k: u32,
    pub(super) kv_type_v: u32,
    pub(super) numeric_mode: u32,
    pub(super) device: u32,
    pub(super) residency: u32,
    pub(super) window_bytes: u64,
    pub(super) seed: u64,
    pub(super) exec: *const AttarExec,
    pub(super) limits: *const AttarLimits,
    pub(super) clock: *const AttarClock,
    pub(super) trust_key: *const u8,
    pub(super) trust_key_len: u32,
    pub(super) flags: u32,
}

/// `attar_plan_info`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct AttarPlanInfo {
    pub(super) size: u32,
    pub(super) fits: u32,
    pub(super) model_arena: u64,
    pub(super) session_arena: u64,
    pub(super) mapped_file: u64,
    pub(super) device_bytes: u64,
    pub(super) kv_bytes: u64,
    pub(super) scratch_bytes: u64,
}

/// `attar_sampling`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct AttarSampling {
    pub(super) size: u32,
    pub(super) temp: f32,
    pub(super) top_p: f32,
    pub(super) min_p: f32,
    pub(super) repeat_penalty: f32,
    pub(super) top_k: i32,
    pub(super) repeat_last_n: u32,
    pub(super) flags: u32,
    pub(super) seed: u64,
}

/// `attar_on_token`.
pub(super) type OnToken =
    unsafe extern "C" fn(*mut c_void, i32, *const c_char, usize, *const u8, usize, f32) -> i32;

/// `attar_request`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct AttarRequest {
    pub(super) size: u32,
    pub(super) max_tokens: u32,
    pub(super) deadline_ns: u64,
    pub(super) duty_percent: u32,
    pub(super) draft_ngram: u32,
    pub(super) n_stop: u32,
    pub(super) adapter_scale: f32,
    pub(super) sampling: *const AttarSampling,
    pub(super) adapter: *const c_void,
    pub(super) constraint: *mut c_void,
    pub(super) stop: *const *const c_char,
    pub(super) on_token: Option<OnToken>,
    pub(super) user: *mut c_void,
}

/// `attar_result`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct AttarResult {
    pub(super) size: u32,
    pub(super) n_prompt: u32,
    pub(super) n_generated: u32,
    pub(super) stop_reason: i32,
    pub(super) logprob_sum: f64,
}

impl AttarRequest {
    /// What is asked if nothing is.
    pub(super) const DEFAULT: Self = Self {
        size: 0,
        max_tokens: 0,
        deadline_ns: 0,
        duty_percent: 0,
        draft_ngram: 0,
        n_stop: 0,
        adapter_scale: 0.0,
        sampling: null(),
        adapter: null(),
        constraint: null_mut(),
        stop: null(),
        on_token: None,
        user: null_mut(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    /// Rows `name first second`: offsets on 64-bit and on 32-bit targets, as the C compiler has them.
    const TABLE: &str = include_str!("../../tests/c/layout.h");

    fn expected(row: &str) -> usize {
        let line = TABLE.lines().find(|line| line.starts_with(row)).expect(row);
        let mut numbers = line[row.len()..].split(|c: char| !c.is_ascii_digit());
        let mut next = || numbers.by_ref().find(|n| !n.is_empty()).expect("two numbers");
        let (wide, narrow) = (next(), next());
        if size_of::<usize>() == 8 { wide } else { narrow }.parse().expect("a number")
    }

    macro_rules! check {
        ($kind:ident, $name:literal: $($field:ident $called:literal),*) => {
            assert_eq!(size_of::<$kind>(), expected(concat!("SIZE(", $name, ",")), $name);
            $(
                let row = concat!("FIELD(", $name, ", ", $called, ",");
                assert_eq!(offset_of!($kind, $field), expected(row), "{row}");
            )*
        };
    }

    #[test]
    fn layouts_are_those_of_the_header() {
        check!(AttarError, "attar_error": size "size", code "code", place "where", message "msg");
        check!(AttarMem, "attar_mem": base "base", size "size");
        check!(AttarSource, "attar_source": size "size", flags "flags", length "length",
            start "start", ctx "ctx", read_at "read_at", map "map", unmap "unmap");
        check!(AttarExec, "attar_exec": size "size", n_workers "n_workers", ctx "ctx",
            parallel_for "parallel_for");
        check!(AttarClock, "attar_clock": size "size", flags "flags", ctx "ctx", now_ns "now_ns",
            idle "idle");
        check!(AttarLimits, "attar_limits": size "size", max_tensors "max_tensors",
            max_meta_bytes "max_meta_bytes", max_ram "max_ram", max_vocab "max_vocab",
            max_layers "max_layers");
        check!(AttarConfig, "attar_config": size "size", n_ctx "n_ctx", n_prefill "n_prefill",
            kv_type_k "kv_type_k", kv_type_v "kv_type_v", numeric_mode "numeric_mode",
            device "device", residency "residency", window_bytes "window_bytes", seed "seed",
            exec "exec", limits "limits", clock "clock", trust_key "trust_key",
            trust_key_len "trust_key_len", flags "flags");
        check!(AttarPlanInfo, "attar_plan_info": size "size", fits "fits",
            model_arena "model_arena", session_arena "session_arena", mapped_file "mapped_file",
            device_bytes "device_bytes", kv_bytes "kv_bytes", scratch_bytes "scratch_bytes");
        check!(AttarSampling, "attar_sampling": size "size", temp "temp", top_p "top_p",
            min_p "min_p", repeat_penalty "repeat_penalty", top_k "top_k",
            repeat_last_n "repeat_last_n", flags "flags", seed "seed");
        check!(AttarRequest, "attar_request": size "size", max_tokens "max_tokens",
            deadline_ns "deadline_ns", duty_percent "duty_percent", draft_ngram "draft_ngram",
            n_stop "n_stop", adapter_scale "adapter_scale", sampling "sampling",
            adapter "adapter", constraint "constraint", stop "stop", on_token "on_token",
            user "user");
        check!(AttarResult, "attar_result": size "size", n_prompt "n_prompt",
            n_generated "n_generated", stop_reason "stop_reason", logprob_sum "logprob_sum");
    }
}
