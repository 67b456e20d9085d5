//! What can go wrong, each as one sentence that names the file, key or tensor.

use alloc::string::String;
use core::fmt;

/// An error; its text says what was expected and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The operating system refused.
    Io(String),
    /// A file breaks the rules of its format; the text gives the byte offset.
    Format(String),
    /// A key or tensor the model needs is not in the file.
    Missing(String),
    /// Sound, but not something this build runs.
    Unsupported(String),
    /// More memory, context or size than there is.
    Limit(String),
    /// A device failed.
    Device(String),
    /// The caller asked to stop.
    Cancelled,
    /// An argument, or a value in a file, that makes no sense.
    Invalid(String),
}

/// A result whose error is [`Error`] unless said otherwise.
pub type Result<T, E = Error> = core::result::Result<T, E>;

impl Error {
    /// What was attempted (`what`), and the system's reason.
    #[cfg(feature = "std")]
    pub fn io(what: &str, reason: std::io::Error) -> Self {
        Self::Io(alloc::format!("cannot {what}: {reason}"))
    }

    /// The same error, naming the file it lies in first.
    pub fn in_file(self, name: &str) -> Self {
        let text = |text: String| alloc::format!("{name}: {text}");
        match self {
            Self::Io(s) => Self::Io(text(s)),
            Self::Format(s) => Self::Format(text(s)),
            Self::Missing(s) => Self::Missing(text(s)),
            Self::Unsupported(s) => Self::Unsupported(text(s)),
            Self::Limit(s) => Self::Limit(text(s)),
            Self::Device(s) => Self::Device(text(s)),
            Self::Cancelled => Self::Cancelled,
            Self::Invalid(s) => Self::Invalid(text(s)),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(text) | Self::Device(text) | Self::Invalid(text) => f.write_str(text),
            Self::Format(text) => write!(f, "malformed file: {text}"),
            Self::Missing(text) => write!(f, "missing: {text}"),
            Self::Unsupported(text) => write!(f, "not supported: {text}"),
            Self::Limit(text) => write!(f, "over a limit: {text}"),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl core::error::Error for Error {}
