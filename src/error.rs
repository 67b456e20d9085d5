//! What can go wrong, each as one sentence that names the file, key or tensor.

use crate::memory::{Text, text};
use core::fmt;

/// An error; its text says what was expected and what was found.
///
/// What may happen once a session is open carries numbers instead of a text, and so takes no memory.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// The operating system refused.
    Io(Text),
    /// A file breaks the rules of its format.
    Format {
        /// Where, in bytes from the start of the file.
        at: u64,
        /// What is wrong there.
        text: Text,
    },
    /// A key or tensor the model needs is not in the file.
    Missing(Text),
    /// Sound, but not something this build runs.
    Unsupported(Text),
    /// Larger than this build allows.
    Limit(Text),
    /// An argument, or a value in a file, that makes no sense.
    Invalid(Text),
    /// A device failed.
    Device(Text),
    /// Memory lacks.
    Memory {
        /// How many bytes were asked for.
        bytes: usize,
    },
    /// Tokens do not fit the context; none was taken.
    ContextFull {
        /// Tokens there is room for.
        context_len: usize,
        /// Tokens held.
        position: usize,
        /// Tokens that were to be added.
        more: usize,
    },
    /// A token beyond the vocabulary.
    Token {
        /// The token.
        id: u32,
        /// Tokens of the vocabulary.
        vocab_len: usize,
    },
    /// A place in the text beyond the tokens held.
    Position {
        /// The place.
        position: usize,
        /// Tokens held.
        held: usize,
    },
    /// An option out of its range.
    Option {
        /// Its name.
        name: &'static str,
        /// What it is.
        value: f32,
        /// The least it may be.
        least: f32,
        /// The most it may be.
        most: f32,
    },
    /// The caller asked to stop.
    Cancelled,
}

/// A result whose error is [`Error`] unless said otherwise.
pub type Result<T, E = Error> = core::result::Result<T, E>;

impl Error {
    /// What was attempted (`what`), and the system's reason.
    #[cfg(feature = "std")]
    pub fn io(what: &str, reason: std::io::Error) -> Self {
        Self::Io(text!("cannot {what}: {reason}"))
    }

    /// The same error, naming the file it lies in first.
    pub fn in_file(self, name: &str) -> Self {
        let named = |text: Text| text!("{name}: {text}");
        match self {
            Self::Io(text) => Self::Io(named(text)),
            Self::Format { at, text } => Self::Format { at, text: named(text) },
            Self::Missing(text) => Self::Missing(named(text)),
            Self::Unsupported(text) => Self::Unsupported(named(text)),
            Self::Limit(text) => Self::Limit(named(text)),
            Self::Invalid(text) => Self::Invalid(named(text)),
            Self::Device(text) => Self::Device(named(text)),
            other @ (Self::Memory { .. }
            | Self::ContextFull { .. }
            | Self::Token { .. }
            | Self::Position { .. }
            | Self::Option { .. }
            | Self::Cancelled) => other,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(text) | Self::Device(text) | Self::Invalid(text) => f.write_str(text),
            Self::Format { at, text } => write!(f, "malformed file: {text} at byte {at}"),
            Self::Missing(text) => write!(f, "missing: {text}"),
            Self::Unsupported(text) => write!(f, "not supported: {text}"),
            Self::Limit(text) => write!(f, "over a limit: {text}"),
            Self::Memory { bytes } => write!(f, "no memory for {bytes} bytes"),
            Self::ContextFull { context_len, position, more } => write!(
                f,
                "the context has room for {context_len} tokens and holds {position}; {more} more \
                 do not fit"
            ),
            Self::Token { id, vocab_len } => {
                write!(f, "token {id}, expected one below {vocab_len}")
            }
            Self::Position { position, held } => {
                write!(f, "cannot keep {position} of {held} tokens")
            }
            Self::Option { name, value, least, most } => {
                write!(f, "{name} is {value}, expected a number from {least} to {most}")
            }
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl core::error::Error for Error {}
