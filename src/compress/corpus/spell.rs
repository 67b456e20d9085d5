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

/// The sentences of a text, what is said with who says it.
pub(super) fn sentences(text: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let mut start = 0;
    for (i, _) in text.match_indices(' ') {
        let sentence = &text[start..i];
        let is_whole = sentence.matches('"').count().is_multiple_of(2);
        if is_whole && starts_sentence(&text[..=i]) {
            sentences.push(sentence);
            start = i + 1;
        }
    }
    sentences.push(&text[start..]);
    sentences
}

/// What becomes of a sentence with one mistake in it: every word that is among `mistakes` replaced by the
/// word beside it. Capital letters and marks stay.
pub(super) fn mistakes(sentence: &str, mistakes: &[[String; 2]]) -> Vec<String> {
    let mut spoiled = Vec::new();
    let is_mark = |c: char| !c.is_alphanumeric();
    let mut at = 0;
    for part in sentence.split_inclusive(is_mark) {
        let word = part.trim_end_matches(is_mark);
        let (before, after) = (&sentence[..at], &sentence[at + word.len()..]);
        for [_, wrong] in mistakes.iter().filter(|[right, _]| right.eq_ignore_ascii_case(word)) {
            spoiled.push(capitalized(&format!("{before}{wrong}{after}")));
        }
        at += part.len();
    }
    spoiled
}

#[cfg(test)]
mod tests {
    use super::{capitalized, mistakes, sentences};

    #[test]
    fn a_word_is_replaced_by_a_mistake() {
        let table =
            [["i", "me"], ["was", "were"], ["a", "an"]].map(|pair| pair.map(str::to_string));
        let spoiled = mistakes("\"I was a fish,\" she said.", &table);
        let expected = ["\"Me was a fish,\"", "\"I were a fish,\"", "\"I was an fish,\""];
        assert_eq!(spoiled, expected.map(|text| format!("{text} she said.")));
        assert!(mistakes("Wash it.", &table).is_empty());
    }

    #[test]
    fn sentences_end_where_others_begin() {
        let text = "Tom ran. \"Stop! Do not run!\" said Mia. \"Why?\" He sat down. \"I am tired.\"";
        let expected = [
            "Tom ran.",
            "\"Stop! Do not run!\" said Mia.",
            "\"Why?\" He sat down.",
            "\"I am tired.\"",
        ];
        assert_eq!(sentences(text), expected);
    }

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
