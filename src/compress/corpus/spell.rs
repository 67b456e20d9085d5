//! The last touch to a text: articles, spaces, capital letters.

/// Puts articles and spaces right.
fn spaced(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let article = rest.strip_prefix("a(n) ").map(|after| (after, true));
        let article = article.or_else(|| rest.strip_prefix("a(!) ").map(|after| (after, false)));
        if let Some((after, fits)) = article {
            out.push_str(if wants_an(after) == fits { "an " } else { "a " });
            rest = after.trim_start();
            continue;
        }
        rest = &rest[c.len_utf8()..];
        let glued = rest.starts_with([' ', '.', ',', '!', '?']) || rest.is_empty();
        if c != ' ' || !(glued || out.is_empty()) {
            out.push(c);
        }
    }
    out
}

/// Whether "an" stands before the word that `text` begins with.
fn wants_an(text: &str) -> bool {
    let text = text.trim_start();
    let sounds_open = text.starts_with("honest") || text.starts_with("hour");
    let sounds_closed = text.starts_with("uni") || text.starts_with("use");
    sounds_open || text.starts_with(['a', 'e', 'i', 'o', 'u']) && !sounds_closed
}

/// What a sentence ends with that does not say so itself.
pub(super) fn mark(text: &str) -> char {
    let asks = ["how", "what", "is", "did", "can", "could", "would", "will"];
    let first = text.split(' ').next().unwrap_or_default();
    if asks.contains(&first) { '?' } else { '.' }
}

/// Makes the first letter of every sentence, and the word "I", a capital.
pub(super) fn capitalized(text: &str) -> String {
    let text = spaced(text);
    let mut out = String::with_capacity(text.len());
    let mut previous = ' ';
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        let after = letters.peek().copied().unwrap_or(' ');
        let is_i = c == 'i' && !previous.is_alphanumeric() && !after.is_alphanumeric();
        let capital = is_i || c.is_ascii_lowercase() && starts_sentence(&out);
        out.push(if capital { c.to_ascii_uppercase() } else { c });
        previous = c;
    }
    out
}

/// Whether a sentence starts behind `text`. Behind what somebody asks or shouts, as in `"No!" she said`,
/// the sentence goes on.
fn starts_sentence(text: &str) -> bool {
    if text.ends_with(", \"") {
        return true;
    }
    let (before, speaks) = match text.strip_suffix('"') {
        Some(before) => (before, true),
        None => (text, false),
    };
    let Some(before) = before.strip_suffix(' ') else { return before.is_empty() };
    match before.strip_suffix('"') {
        Some(said) => said.ends_with('.') || speaks && said.ends_with(['!', '?']),
        None => before.ends_with(['.', '!', '?']),
    }
}

#[cfg(test)]
mod tests {
    use super::capitalized;

    #[test]
    fn sentences_begin_with_capitals() {
        let cases = [
            ("a(n) apple. it is a(n)  old tree .", "An apple. It is an old tree."),
            ("\"oh no!\" she said. \"am i late?\"", "\"Oh no!\" she said. \"Am I late?\""),
            ("he said, \"yes.\" it was late.", "He said, \"Yes.\" It was late."),
            ("\"who?\" \"me!\" a(!) owl, a(!) dog", "\"Who?\" \"Me!\" a owl, an dog"),
        ];
        for (text, expected) in cases {
            assert_eq!(capitalized(text), expected);
        }
    }
}
