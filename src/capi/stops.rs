//! Stop strings: text waits while it may become one.

use super::failure::{Outcome, Status, failure, wrong};

/// Bytes of a stop string at most.
pub(super) const STOP_LEN_MAX: usize = 64;
/// Stop strings of a request at most.
pub(super) const STOPS_MAX: usize = 16;

/// The stop strings of a request.
#[derive(Default)]
pub(super) struct Stops<'a> {
    texts: [&'a str; STOPS_MAX],
    count: usize,
}

/// What may leave of the text that waits.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// So many bytes; the rest may still become a stop string.
    Safe(usize),
    /// A stop string begins here.
    Stop(usize),
}

impl<'a> Stops<'a> {
    pub(super) fn push(&mut self, text: &'a str) -> Outcome<()> {
        if text.is_empty() || text.len() > STOP_LEN_MAX {
            return Err(wrong("a stop string has 1 to 64 bytes"));
        }
        let Some(place) = self.texts.get_mut(self.count) else {
            return Err(failure(Status::Limit, "more than 16 stop strings"));
        };
        *place = text;
        self.count += 1;
        Ok(())
    }

    fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        self.texts[..self.count].iter().map(|text| text.as_bytes())
    }

    /// Where text must be cut: at the first stop string in it, else before the first of its ends
    /// that begins one. Stop strings are whole characters, so a cut never divides one.
    pub(super) fn cut(&self, text: &[u8]) -> Cut {
        let mut places = 0..text.len();
        if let Some(at) = places.clone().find(|at| self.iter().any(|s| text[*at..].starts_with(s)))
        {
            return Cut::Stop(at);
        }
        let safe = places.find(|at| self.iter().any(|s| s.starts_with(&text[*at..])));
        Cut::Safe(safe.unwrap_or(text.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_waits_only_while_it_may_become_a_stop_string() {
        let mut stops = Stops::default();
        assert_eq!(stops.cut(b"abc"), Cut::Safe(3));
        stops.push("END").expect("short");
        stops.push("\u{2581}").expect("short");
        assert_eq!(stops.cut(b"the E"), Cut::Safe(4));
        assert_eq!(stops.cut(b"the EN"), Cut::Safe(4));
        assert_eq!(stops.cut(b"the ENTER"), Cut::Safe(9));
        assert_eq!(stops.cut(b"EEND"), Cut::Stop(1));
        assert_eq!(stops.cut("a\u{2581}b".as_bytes()), Cut::Stop(1));
        assert!(stops.push("").is_err());
        assert!(stops.push(&"x".repeat(65)).is_err());
    }

    #[test]
    fn a_stop_string_inside_the_beginning_of_another_is_found() {
        let mut stops = Stops::default();
        stops.push("abcd").expect("short");
        stops.push("bc").expect("short");
        assert_eq!(stops.cut(b"abc"), Cut::Stop(1));
    }
}
