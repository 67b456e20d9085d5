//! Pointers of a C caller, checked for all that can be checked: NULL, alignment, sizes.
#![allow(
    unsafe_code,
    reason = "what a C caller points to is trusted to be there, once, in this file"
)]

use super::failure::{Outcome, Status, failure, wrong};
use super::types::{
    AttarClock, AttarConfig, AttarError, AttarExec, AttarLimits, AttarPlanInfo, AttarRequest,
    AttarResult, AttarSampling, AttarSource,
};
use core::ffi::{CStr, c_char};

/// A struct whose first field is the size its caller knows.
///
/// # Safety
/// `repr(C)` without padding, begins with a `u32`, and all bytes zero are a value of it.
pub(super) unsafe trait Versioned: Copy {}

macro_rules! versioned {
    ($($name:ident)*) => {$(
        // SAFETY: all fields of `types.rs` are numbers, pointers, arrays of bytes and functions that
        // may be absent; the header is compiled with a warning for padding.
        unsafe impl Versioned for $name {}
    )*};
}

versioned!(AttarError AttarSource AttarExec AttarClock AttarLimits AttarConfig AttarPlanInfo
    AttarSampling AttarRequest AttarResult);

/// No version of any struct will be larger: a larger size was never set.
const STRUCT_BYTES_MAX: usize = 4096;

/// The size a caller gave a struct, at least that of version 1.0.
///
/// # Safety
/// `pointer` is NULL or names a `u32` at least.
unsafe fn size_of_struct<T: Versioned>(pointer: *const T) -> Outcome<usize> {
    if pointer.is_null() {
        return Err(wrong("a struct is NULL"));
    }
    if !pointer.is_aligned() {
        return Err(wrong("a struct is not aligned"));
    }
    // SAFETY: not NULL, aligned, and every such struct begins with its size.
    let size = unsafe { *pointer.cast::<u32>() } as usize;
    if size < size_of::<T>() || size > STRUCT_BYTES_MAX {
        return Err(failure(Status::Version, "the size of a struct is not set, or not known"));
    }
    Ok(size)
}

/// What a caller put into a struct; `None` for NULL.
///
/// # Safety
/// `pointer` is NULL or names a struct of as many bytes as its first field says.
pub(super) unsafe fn read<T: Versioned>(pointer: *const T) -> Outcome<Option<T>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let size = unsafe { size_of_struct(pointer)? };
    // SAFETY: as many bytes are there.
    let all = unsafe { core::slice::from_raw_parts(pointer.cast::<u8>(), size) };
    if all[size_of::<T>()..].iter().any(|byte| *byte != 0) {
        return Err(failure(Status::Version, "a struct asks for what this version does not know"));
    }
    // SAFETY: aligned, and any bits in the fields of such a struct are values.
    Ok(Some(unsafe { *pointer }))
}

/// A struct the library fills: checks it, and gives it all zero but for its size.
///
/// # Safety
/// As for [`read`], and nobody else uses it for `'a`.
pub(super) unsafe fn output<'a, T: Versioned>(pointer: *mut T) -> Outcome<&'a mut T> {
    // SAFETY: the caller's promise.
    unsafe { size_of_struct(pointer)? };
    // SAFETY: there, aligned, initialised at least as far as its size says, and ours for `'a`.
    Ok(unsafe { &mut *pointer })
}

/// `count` values, which may be no values at NULL.
///
/// # Safety
/// `pointer` is NULL or names as many values that do not change for `'a`.
pub(super) unsafe fn slice<'a, T>(pointer: *const T, count: usize) -> Outcome<&'a [T]> {
    check_slice(pointer, count)?;
    if count == 0 {
        return Ok(&[]);
    }
    // SAFETY: not NULL, aligned, no longer than an object can be, and there by the caller's promise.
    Ok(unsafe { core::slice::from_raw_parts(pointer, count) })
}

/// Room for `count` values, which may be none at NULL.
///
/// # Safety
/// `pointer` is NULL or names as much room, which nobody else uses for `'a`.
pub(super) unsafe fn slice_mut<'a, T: bytemuck::Pod>(
    pointer: *mut T,
    count: usize,
) -> Outcome<&'a mut [T]> {
    check_slice(pointer, count)?;
    if count == 0 {
        return Ok(&mut []);
    }
    // SAFETY: as above; whatever bits are there are values of `T`.
    Ok(unsafe { core::slice::from_raw_parts_mut(pointer, count) })
}

fn check_slice<T>(pointer: *const T, count: usize) -> Outcome<()> {
    if count.checked_mul(size_of::<T>()).is_none_or(|bytes| bytes > isize::MAX as usize) {
        return Err(wrong("a length no object has"));
    }
    if count > 0 && pointer.is_null() {
        return Err(wrong("a buffer is NULL"));
    }
    if !pointer.is_null() && !pointer.is_aligned() {
        return Err(wrong("a buffer is not aligned"));
    }
    Ok(())
}

/// One value the library writes.
///
/// # Safety
/// `pointer` is NULL or names a value nobody else uses for `'a`.
pub(super) unsafe fn place<'a, T>(pointer: *mut T) -> Outcome<&'a mut T> {
    check_slice(pointer, 1)?;
    // SAFETY: not NULL, aligned, there by the caller's promise.
    Ok(unsafe { &mut *pointer })
}

/// One value the library may write.
///
/// # Safety
/// As for [`place`].
pub(super) unsafe fn maybe_place<'a, T>(pointer: *mut T) -> Outcome<Option<&'a mut T>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { place(pointer) }.map(Some)
}

/// A text that ends with a zero.
///
/// # Safety
/// `pointer` is NULL or names such a text, which does not change for `'a`.
pub(super) unsafe fn text<'a>(pointer: *const c_char) -> Outcome<&'a str> {
    if pointer.is_null() {
        return Err(wrong("a text is NULL"));
    }
    // SAFETY: not NULL, and ends with a zero by the caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|_| wrong("a text is not UTF-8"))
}
