//! Why a call failed: a status, and a sentence.

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

/// What a call that failed says. Its text is its own: an [`Error`]'s may lie in an arena that is given
/// up before the caller hears of it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: Status,
    /// Byte of the file that is to blame, 0 for none.
    place: u64,
    message: Message,
}

pub(super) type Outcome<T> = core::result::Result<T, Failure>;

/// A failure whose reason is `what`.
pub(super) fn failure(status: Status, what: &str) -> Failure {
    let mut message = Message::default();
    let _ = message.write_str(what); // cut short if need be
    Failure { status, place: 0, message }
}

/// An argument that makes no sense.
pub(super) fn wrong(what: &str) -> Failure {
    failure(Status::Arg, what)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (status, place) = match &error {
            Error::Io(_) => (Status::Io, 0),
            Error::Format { at, .. } => (Status::Format, *at),
            Error::Missing(_) => (Status::Format, 0),
            Error::Unsupported(_) => (Status::Unsupported, 0),
            Error::Limit(_) => (Status::Limit, 0),
            Error::Device(_) => (Status::Device, 0),
            Error::Memory { .. } => (Status::NoMemory, 0),
            Error::ContextFull { .. } => (Status::ContextFull, 0),
            Error::Cancelled => (Status::Cancelled, 0),
            Error::Invalid(_)
            | Error::Token { .. }
            | Error::Position { .. }
            | Error::Option { .. } => (Status::Arg, 0),
        };
        let mut message = Message::default();
        let _ = write!(message, "{error}"); // cut short if need be
        Self { status, place, message }
    }
}

impl Failure {
    /// What is invalid is a value in the file.
    pub(super) fn in_file(error: Error) -> Self {
        let failure = Self::from(error);
        let status = if failure.status == Status::Arg { Status::Format } else { failure.status };
        Self { status, ..failure }
    }

    /// Fills what the caller lent for it, but its size.
    pub(super) fn describe(&self, error: &mut AttarError) {
        error.code = self.status as i32;
        error.place = self.place;
        error.message = self.message.text;
    }
}

/// A text that ends where its room does, after a whole character and with a zero.
#[derive(Debug)]
struct Message {
    text: [u8; 160],
    len: usize,
}

impl Default for Message {
    fn default() -> Self {
        Self { text: [0; 160], len: 0 }
    }
}

impl Write for Message {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = self.text.len() - 1 - self.len;
        let len = part.floor_char_boundary(room);
        self.text[self.len..][..len].copy_from_slice(&part.as_bytes()[..len]);
        self.len += len;
        if len == part.len() { Ok(()) } else { Err(fmt::Error) }
    }
}
