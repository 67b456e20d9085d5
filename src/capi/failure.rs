//! Why a call failed: a status, and a sentence that costs no memory.

use super::types::AttarError;
use crate::Error;
use core::fmt::{self, Write};

/// The statuses of `include/attar.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Status {
    Arg = -1,
    NoMemory = -2,
    Io = -3,
    Format = -4,
    Unsupported = -5,
    Limit = -6,
    Cancelled = -7,
    ContextFull = -8,
    Verify = -9,
    Version = -10,
    State = -11,
    Device = -12,
    #[cfg_attr(not(feature = "std"), expect(dead_code, reason = "panics are not caught there"))]
    Internal = -13,
    SmallBuffer = -14,
}

/// A name for every status, also those nothing gives yet.
pub(super) fn name(status: i32) -> &'static core::ffi::CStr {
    const NAMES: [&core::ffi::CStr; 16] = [
        c"ok",
        c"invalid argument",
        c"not enough memory",
        c"the source could not be read",
        c"malformed file",
        c"not supported by this build",
        c"over a limit",
        c"cancelled",
        c"the context is full",
        c"the saved state does not fit or is damaged",
        c"unknown version",
        c"the handle is at work or broken",
        c"a device failed",
        c"a defect of the library",
        c"the buffer is too small",
        c"a constraint cannot be met",
    ];
    let place = status.checked_neg().and_then(|place| usize::try_from(place).ok());
    place.and_then(|place| NAMES.get(place)).copied().unwrap_or(c"unknown status")
}

/// What a call that failed says.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: Status,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Known(&'static str),
    Core(Error),
}

pub(super) type Outcome<T> = core::result::Result<T, Failure>;

/// A failure whose reason is `what`.
pub(super) const fn failure(status: Status, what: &'static str) -> Failure {
    Failure { status, cause: Cause::Known(what) }
}

/// An argument that makes no sense.
pub(super) const fn wrong(what: &'static str) -> Failure {
    failure(Status::Arg, what)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Io(_) => Status::Io,
            Error::Format(_) | Error::Missing(_) => Status::Format,
            Error::Unsupported(_) => Status::Unsupported,
            Error::Limit(_) => Status::Limit,
            Error::Device(_) => Status::Device,
            Error::Cancelled => Status::Cancelled,
            Error::Invalid(_) => Status::Arg,
        };
        Self { status, cause: Cause::Core(error) }
    }
}

impl Failure {
    /// What is invalid is a value in the file.
    pub(super) fn in_file(error: Error) -> Self {
        let failure = Self::from(error);
        let status = if failure.status == Status::Arg { Status::Format } else { failure.status };
        Self { status, ..failure }
    }

    /// Byte of the file that is to blame, 0 for none.
    fn place(&self) -> u64 {
        0
    }

    /// Fills what the caller lent for it, but its size.
    pub(super) fn describe(&self, error: &mut AttarError) {
        error.code = self.status as i32;
        error.place = self.place();
        error.message = [0; 160];
        // One byte stays zero; a sentence that does not fit ends early.
        let (room, _) = error.message.split_at_mut(159);
        let mut message = Message { room, len: 0 };
        let _ = write!(message, "{self}");
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Known(what) => f.write_str(what),
            Cause::Core(error) => error.fmt(f),
        }
    }
}

/// Text that ends where the room does, after a whole character.
struct Message<'a> {
    room: &'a mut [u8],
    len: usize,
}

impl Write for Message<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.room[self.len..];
        let len = text.floor_char_boundary(room.len());
        room[..len].copy_from_slice(&text.as_bytes()[..len]);
        self.len += len;
        if len == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}
