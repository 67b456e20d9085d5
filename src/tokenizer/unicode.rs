//! What tokenizers ask of a character: its general category, by well-kept tables.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

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

pub(super) fn class(c: char) -> Class {
    if c.is_whitespace() {
        return Class::Space;
    }
    if c.is_ascii_alphabetic() {
        return Class::Letter; // most characters of most texts
    }
    match c.general_category_group() {
        GeneralCategoryGroup::Letter => Class::Letter,
        GeneralCategoryGroup::Mark => Class::Mark,
        GeneralCategoryGroup::Number => Class::Number,
        GeneralCategoryGroup::Punctuation => Class::Punctuation,
        GeneralCategoryGroup::Symbol => Class::Symbol,
        GeneralCategoryGroup::Separator | GeneralCategoryGroup::Other => Class::Other,
    }
}

/// Whether BERT sets a character apart as Chinese: the CJK ideographs of the original tokenizer.
pub(super) fn is_ideograph(c: char) -> bool {
    matches!(u32::from(c),
        0x4e00..=0x9fff | 0x3400..=0x4dbf | 0x20000..=0x2a6df | 0x2a700..=0x2b73f
        | 0x2b740..=0x2b81f | 0x2b920..=0x2ceaf | 0xf900..=0xfaff | 0x2f800..=0x2fa1f)
}
