//! The border: what a C program calls.
#![allow(unsafe_code, reason = "functions with C names take a C caller's pointers")]

mod model;
mod session;

use super::failure::{Failure, Outcome, Status, failure, name};
use super::handle::{Handle, Kind, Memory};
use super::model::Model;
use super::raw;
use super::session::Conversation;
use super::source;
use super::types::{AttarError, AttarMem, AttarSource};
use core::ffi::{c_char, c_int, c_void};

/// `attar_model`.
pub(super) type AttarModel = Handle<Model>;
/// `attar_session`.
pub(super) type AttarSession = Handle<Conversation>;

impl Kind for Model {
    const TAG: u32 = u32::from_le_bytes(*b"AtMo");
}

impl Kind for Conversation {
    const TAG: u32 = u32::from_le_bytes(*b"AtSe");
}

const ABI: u32 = 1 << 16;

/// Runs a call: its failure becomes a status and, where the caller lent an `attar_error`, a sentence.
///
/// # Safety
/// `error` is NULL or names an `attar_error` nobody else uses.
unsafe fn border(error: *mut AttarError, call: impl FnOnce() -> Outcome<()>) -> i32 {
    let error = if error.is_null() {
        None
    } else {
        // SAFETY: the caller's promise.
        match unsafe { raw::output(error) } {
            Ok(error) => Some(error),
            Err(failure) => return failure.status as i32,
        }
    };
    let Err(failure) = caught(call) else { return 0 };
    if let Some(error) = error {
        failure.describe(error);
    }
    failure.status as i32
}

#[cfg(feature = "std")]
#[expect(clippy::disallowed_methods, reason = "a box of nothing takes no memory")]
fn caught(call: impl FnOnce() -> Outcome<()>) -> Outcome<()> {
    use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
    use std::sync::Once;
    // The library prints nothing, not even of its own defects.
    static SILENCE: Once = Once::new();
    SILENCE.call_once(|| set_hook(std::boxed::Box::new(|_| {})));
    let result = catch_unwind(AssertUnwindSafe(call));
    result.unwrap_or_else(|_| Err(failure(Status::Internal, "a defect of the library")))
}

#[cfg(not(feature = "std"))]
fn caught(call: impl FnOnce() -> Outcome<()>) -> Outcome<()> {
    call()
}

/// The memory a caller lends; `None` if it is the library's to claim.
///
/// # Safety
/// `memory` is NULL or names an `attar_mem`, whose memory nobody else uses.
unsafe fn lent(memory: *const AttarMem) -> Outcome<Option<Memory>> {
    // SAFETY: the caller's promise.
    let memory = unsafe { raw::slice(memory, usize::from(!memory.is_null()))? };
    Ok(memory.first().and_then(Memory::lent))
}

/// The version of this library.
#[unsafe(no_mangle)]
extern "C" fn attar_abi_version() -> u32 {
    ABI
}

/// A few words for a status.
#[unsafe(no_mangle)]
extern "C" fn attar_status_str(status: i32) -> *const c_char {
    name(status).as_ptr()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_source_memory(
    out: *mut AttarSource,
    data: *const c_void,
    n: usize,
) -> i32 {
    let call = || {
        // SAFETY: the header's contract.
        let out = unsafe { raw::output(out)? };
        // SAFETY: the header's contract.
        unsafe { raw::slice(data.cast::<u8>(), n)? };
        source::memory(out, data, n);
        Ok(())
    };
    // SAFETY: no error is asked for.
    unsafe { border(core::ptr::null_mut(), call) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_source_fd(
    out: *mut AttarSource,
    fd: c_int,
    start: u64,
    length: u64,
) -> i32 {
    // SAFETY: the header's contract.
    let call = || source::file(unsafe { raw::output(out)? }, fd, start, length);
    // SAFETY: no error is asked for.
    unsafe { border(core::ptr::null_mut(), call) }
}

/// What this build has not.
fn absent(what: &str) -> Failure {
    failure(Status::Unsupported, what)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_adapter_open(
    model: *const AttarModel,
    _source: *const AttarSource,
    _arena: *const AttarMem,
    out: *mut *mut c_void,
    error: *mut AttarError,
) -> i32 {
    let call = || {
        // SAFETY: the header's contract.
        unsafe { Handle::at(model)? };
        // SAFETY: the header's contract.
        *unsafe { raw::place(out)? } = core::ptr::null_mut();
        Err(absent("adapters"))
    };
    // SAFETY: the header's contract.
    unsafe { border(error, call) }
}

/// Nothing was opened, so nothing is closed.
#[unsafe(no_mangle)]
extern "C" fn attar_adapter_close(_adapter: *mut c_void) {}

#[unsafe(no_mangle)]
unsafe extern "C" fn attar_constraint_open(
    model: *const AttarModel,
    _kind: u32,
    text: *const c_char,
    n: usize,
    _arena: *const AttarMem,
    out: *mut *mut c_void,
    error: *mut AttarError,
) -> i32 {
    let call = || {
        // SAFETY: the header's contract.
        unsafe { Handle::at(model)? };
        // SAFETY: the header's contract.
        unsafe { raw::slice(text.cast::<u8>(), n)? };
        // SAFETY: the header's contract.
        *unsafe { raw::place(out)? } = core::ptr::null_mut();
        Err(absent("constraints"))
    };
    // SAFETY: the header's contract.
    unsafe { border(error, call) }
}

/// Nothing was opened, so nothing is closed.
#[unsafe(no_mangle)]
extern "C" fn attar_constraint_close(_constraint: *mut c_void) {}
