//! What tokenizers ask of a character, by tables that `build.rs` packs.

/// The group of a character's general category, white space apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Space,
    Letter,
    Mark,
    Number,
    Punctuation,
    Symbol,
    Other,
}

/// A character in three bytes, the highest first: rows of a table have no room between them.
type Code = [u8; 3];

// `RUNS`: the first character of each run of one class. `FOLDED`: what characters become, in order.
include!(concat!(env!("OUT_DIR"), "/unicode.rs"));

/// To be compared: arrays of bytes would take five times as long.
fn number([plane, row, cell]: Code) -> u32 {
    u32::from_be_bytes([0, plane, row, cell])
}

pub(super) fn class(c: char) -> Class {
    if c.is_whitespace() {
        return Class::Space;
    }
    if c.is_ascii_alphabetic() {
        return Class::Letter; // most characters of most texts
    }
    let after = RUNS.partition_point(|(first, _)| number(*first) <= u32::from(c));
    RUNS[after - 1].1 // the first run begins at 0
}

/// A character bared of accents and lowered, as BERT does it: canonically decomposed, without marks.
pub(super) fn folded(c: char) -> impl Iterator<Item = char> {
    let at = FOLDED.partition_point(|(from, _)| number(*from) < u32::from(c));
    let has_row = move |from: Code| number(from) == u32::from(c);
    let parts = FOLDED[at..].iter().take_while(move |(from, _)| has_row(*from));
    let parts = parts.filter_map(|(_, part)| char::from_u32(number(*part)));
    let stays = FOLDED.get(at).is_none_or(|(from, _)| !has_row(*from)) && class(c) != Class::Mark;
    let [lead, vowel, tail] = syllable(c).unwrap_or([stays.then_some(c), None, None]);
    lead.into_iter().chain(vowel).chain(tail).chain(parts)
}

/// The letters of a Korean syllable (The Unicode Standard, section 3.12).
fn syllable(c: char) -> Option<[Option<char>; 3]> {
    let place = u32::from(c).checked_sub(0xac00).filter(|place| *place < 19 * 21 * 28)?;
    let tail = place % 28;
    let tail = if tail == 0 { None } else { char::from_u32(0x11a7 + tail) };
    let vowel = char::from_u32(0x1161 + place / 28 % 21);
    Some([char::from_u32(0x1100 + place / (21 * 28)), vowel, tail])
}

/// Whether BERT sets a character apart as Chinese: the CJK ideographs of the original tokenizer.
pub(super) fn is_ideograph(c: char) -> bool {
    matches!(u32::from(c),
        0x4e00..=0x9fff | 0x3400..=0x4dbf | 0x20000..=0x2a6df | 0x2a700..=0x2b73f
        | 0x2b740..=0x2b81f | 0x2b920..=0x2ceaf | 0xf900..=0xfaff | 0x2f800..=0x2fa1f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_normalization::char::decompose_canonical;
    use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

    #[test]
    fn every_character_has_the_class_unicode_gives_it() {
        for c in (char::MIN..=char::MAX).filter(|c| !c.is_whitespace()) {
            let expected = match c.general_category_group() {
                GeneralCategoryGroup::Letter => Class::Letter,
                GeneralCategoryGroup::Mark => Class::Mark,
                GeneralCategoryGroup::Number => Class::Number,
                GeneralCategoryGroup::Punctuation => Class::Punctuation,
                GeneralCategoryGroup::Symbol => Class::Symbol,
                GeneralCategoryGroup::Separator | GeneralCategoryGroup::Other => Class::Other,
            };
            assert_eq!(class(c), expected, "{c:?}");
        }
    }

    #[test]
    fn every_character_is_decomposed_lowered_and_bared_of_marks() {
        for c in char::MIN..=char::MAX {
            let mut parts = Vec::new();
            decompose_canonical(c, |part| parts.push(part));
            let bare = parts.into_iter().filter(|part| class(*part) != Class::Mark);
            let expected: Vec<char> = bare.flat_map(char::to_lowercase).collect();
            assert_eq!(folded(c).collect::<Vec<_>>(), expected, "{c:?}");
        }
    }
}
