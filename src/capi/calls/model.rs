//! Calls on files and models, and on text.

use super::super::config::Config;
use super::super::failure::{Outcome, wrong};
use super::super::handle::{self, Handle};
use super::super::lent::Progress;
use super::super::out::Out;
use super::super::plan;
use super::super::types::{
    AttarConfig, AttarError, AttarLimits, AttarMem, AttarPlanInfo, AttarSource,
};
use super::super::{raw, text};
use super::{AttarModel, absent, border, lent};
use core::ffi::{c_char, c_void};

/// # Safety
/// The header's contract.
pub(super) unsafe fn config(config: *const AttarConfig) -> Outcome<Config> {
    // SAFETY: the caller's promise.
    let Some(config) = (unsafe { raw::read(config)? }) else { return Ok(Config::default()) };
    // SAFETY: the caller's promise.
    let exec = unsafe { raw::read(config.exec)? };
    // SAFETY: the caller's promise.
    let limits = unsafe { raw::read(config.limits)? };
    // SAFETY: the caller's promise.
    let clock = unsafe { raw::read(config.clock)? };
    Config::new(&config, exec, limits, clock)
}

/// # Safety
/// The header's contract.
unsafe fn source(source: *const AttarSource) -> Outcome<AttarSource> {
    // SAFETY: the caller's promise.
    let source = unsafe { raw::read(source)? };
    source.ok_or_else(|| wrong("the source is NULL"))
}

/// Room for text or other values, and where its length is told.
///
/// # Safety
/// The header's contract.
pub(super) unsafe fn room<'a, T: bytemuck::Pod>(
    room: *mut T,
    len: *mut usize,
) -> Outcome<(Out<'a, T>, &'a mut usize)> {
    // SAFETY: the caller's promise.
    let len = unsafe { raw::place(len)? };
    // SAFETY: the caller's promise.
    let room = unsafe { raw::slice_mut(room, *len)? };
    Ok((Out::new(room), len))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_probe(
    source: *const AttarSource,
    limits: *const AttarLimits,
    scratch: *const AttarMem,
    json: *mut c_char,
    json_len: *mut usize,
    error: *mut AttarError,
) -> i32 {
    let call = || {
        // SAFETY: the header's contract.
        let source = unsafe { self::source(source)? };
        // SAFETY: the header's contract.
        let limits = unsafe { raw::read(limits)? };
        // SAFETY: the header's contract.
        let scratch = unsafe { lent(scratch)? };
        // SAFETY: the header's contract.
        let (out, len) = unsafe { room(json.cast(), json_len)? };
        plan::probe(&source, limits.as_ref(), scratch, out, len)
    };
    // SAFETY: the header's contract.
    unsafe { border(error, call) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_plan(
    source: *const AttarSource,
    config: *const AttarConfig,
    scratch: *const AttarMem,
    out: *mut AttarPlanInfo,
    error: *mut AttarError,
) -> i32 {
    let call = || {
        // SAFETY: the header's contract.
        let source = unsafe { self::source(source)? };
        // SAFETY: the header's contract.
        let config = unsafe { self::config(config)? };
        // SAFETY: the header's contract.
        let scratch = unsafe { lent(scratch)? };
        // SAFETY: the header's contract.
        let out = unsafe { raw::output(out)? };
        let size = out.size;
        *out = AttarPlanInfo { size, ..plan::plan(&source, &config, scratch)? };
        Ok(())
    };
    // SAFETY: the header's contract.
    unsafe { border(error, call) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_model_open(
    source: *const AttarSource,
    config: *const AttarConfig,
    arena: *const AttarMem,
    out: *mut *mut AttarModel,
    progress: Option<unsafe extern "C" fn(*mut c_void, u32) -> i32>,
    user: *mut c_void,
    error: *mut AttarError,
) -> i32 {
    let call = || {
        // SAFETY: the header's contract.
        let out = unsafe { raw::place(out)? };
        *out = core::ptr::null_mut();
        // SAFETY: the header's contract.
        let source = unsafe { self::source(source)? };
        // SAFETY: the header's contract.
        let config = unsafe { self::config(config)? };
        // SAFETY: the header's contract.
        let arena = unsafe { lent(arena)? };
        *out = plan::open_model(&source, &config, arena, &Progress { tell: progress, user })?;
        Ok(())
    };
    // SAFETY: the header's contract.
    unsafe { border(error, call) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_model_close(model: *mut AttarModel) {
    let call = || {
        // SAFETY: the header's contract.
        unsafe { handle::close(model) };
        Ok(())
    };
    // SAFETY: no error is asked for.
    unsafe { border(core::ptr::null_mut(), call) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_model_meta(
    model: *const AttarModel,
    key: *const c_char,
    text: *mut c_char,
    len: *mut usize,
) -> i32 {
    let call = || {
        // SAFETY: the header's contract.
        let model = unsafe { Handle::at(model)? }.share()?;
        // SAFETY: the header's contract.
        let key = unsafe { raw::text(key)? };
        // SAFETY: the header's contract.
        let (out, len) = unsafe { room(text.cast(), len)? };
        model.meta(key, out, len)
    };
    // SAFETY: no error is asked for.
    unsafe { border(core::ptr::null_mut(), call) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_tokenize(
    model: *const AttarModel,
    utf8: *const c_char,
    n: usize,
    flags: u32,
    scratch: *const AttarMem,
    out: *mut i32,
    n_out: *mut usize,
) -> i32 {
    let call = || {
        // SAFETY: the header's contract.
        let model = unsafe { Handle::at(model)? }.share()?;
        // SAFETY: the header's contract.
        let bytes = unsafe { raw::slice(utf8.cast::<u8>(), n)? };
        // SAFETY: the header's contract.
        let scratch = unsafe { lent(scratch)? };
        // SAFETY: the header's contract.
        let (out, len) = unsafe { room(out.cast(), n_out)? };
        text::tokenize(&model.tokenizer, bytes, flags, scratch, out, len)
    };
    // SAFETY: no error is asked for.
    unsafe { border(core::ptr::null_mut(), call) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_detokenize(
    model: *const AttarModel,
    tokens: *const i32,
    n: usize,
    flags: u32,
    out: *mut u8,
    n_out: *mut usize,
) -> i32 {
    let call = || {
        // SAFETY: the header's contract.
        let model = unsafe { Handle::at(model)? }.share()?;
        // SAFETY: the header's contract; a negative token becomes one beyond the vocabulary.
        let ids = unsafe { raw::slice(tokens.cast::<u32>(), n)? };
        // SAFETY: the header's contract.
        let (out, len) = unsafe { room(out, n_out)? };
        text::detokenize(&model.tokenizer, ids, flags, out, len)
    };
    // SAFETY: no error is asked for.
    unsafe { border(core::ptr::null_mut(), call) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_chat_format(
    model: *const AttarModel,
    messages_json: *const c_char,
    n: usize,
    out: *mut c_char,
    n_out: *mut usize,
    error: *mut AttarError,
) -> i32 {
    let call = || {
        // SAFETY: the header's contract.
        unsafe { Handle::at(model)? };
        // SAFETY: the header's contract.
        unsafe { raw::slice(messages_json.cast::<u8>(), n)? };
        // SAFETY: the header's contract.
        let (_, len) = unsafe { room(out.cast::<u8>(), n_out)? };
        *len = 0;
        Err(absent("conversations"))
    };
    // SAFETY: the header's contract.
    unsafe { border(error, call) }
}
