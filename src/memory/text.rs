//! Texts built without trusting that there is memory for them.

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt::{self, Write};
use core::ops::Deref;

/// What an error says. Building one never fails: where memory lacks, the text is cut short.
#[derive(PartialEq, Eq)]
pub struct Text(Cow<'static, str>);

/// A [`Text`] of formatted arguments.
macro_rules! text {
    ($($arguments:tt)*) => { $crate::memory::Text::new(format_args!($($arguments)*)) };
}
pub(crate) use text;

/// A string that grows while there is memory.
struct Growing(String);

impl Write for Growing {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.0.try_reserve(part.len()).map_err(|_| fmt::Error)?;
        self.0.push_str(part);
        Ok(())
    }
}

impl Text {
    /// The text of formatted arguments, up to the part for which memory lacks.
    pub fn new(arguments: fmt::Arguments<'_>) -> Self {
        if let Some(fixed) = arguments.as_str() {
            return fixed.into();
        }
        let mut text = Growing(String::new());
        let _ = text.write_fmt(arguments); // the rest is cut off
        Self(Cow::Owned(text.0))
    }
}

impl Clone for Text {
    fn clone(&self) -> Self {
        match &self.0 {
            Cow::Borrowed(fixed) => (*fixed).into(),
            Cow::Owned(text) => text!("{text}"),
        }
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&'static str> for Text {
    fn from(fixed: &'static str) -> Self {
        Self(Cow::Borrowed(fixed))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// The name of a key or tensor, put together on the stack.
pub(crate) struct Name {
    bytes: [u8; Name::LEN_MAX],
    len: usize,
}

/// A [`Name`] of formatted arguments.
macro_rules! name {
    ($($arguments:tt)*) => { $crate::memory::Name::new(format_args!($($arguments)*)) };
}
pub(crate) use name;

impl Name {
    /// Longer than any name put together of our own words and numbers.
    const LEN_MAX: usize = 96;

    pub(crate) fn new(arguments: fmt::Arguments<'_>) -> Self {
        let mut name = Self { bytes: [0; Self::LEN_MAX], len: 0 };
        let whole = name.write_fmt(arguments);
        debug_assert!(whole.is_ok(), "longer than {} bytes: {arguments}", Self::LEN_MAX);
        name
    }
}

impl Write for Name {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + part.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(part.as_bytes());
        self.len += part.len();
        Ok(())
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}
