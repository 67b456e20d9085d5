//! How families cut text into words before merging. Their definitions are regular expressions
//! (`tokenizer.json` of each, quoted below); here each is a scanner in linear time, compared with the
//! expressions in `tests`.

use super::merge::char_len;
use super::unicode::{Class, class};
use crate::{Result, memory};
use alloc::vec::Vec;
use core::ops::Range;

/// A rule set.
#[derive(Clone, Copy)]
pub(super) struct Split(&'static [Pass]);

/// One regular expression of a rule set: how long its match at the start of a text is, 0 for none.
/// Passes work one after another on the pieces of those before; what lies between matches is a piece.
type Pass = fn(&[Char]) -> usize;

/// A character, or a byte that belongs to none.
#[derive(Clone, Copy)]
struct Char {
    c: char,
    class: Class,
    start: usize,
}

const THREE_DIGITS: Split = Split(&[|text| modern(text, 3, false)]);
const ONE_DIGIT: Split = Split(&[|text| modern(text, 1, false)]);
const WITH_MARKS: Split = Split(&[|text| modern(text, 1, true)]);
const CLASSIC: Split = Split(&[classic]);
const DIGITS_APART: Split = Split(&[digit, classic]);
const FALCON: Split = Split(&[punctuation_and_backtick, classic, three_ascii_digits]);
const DEFAULT: Split = Split(&[punctuation_and_signs, classic, digits, three_ascii_digits]);
const DEEPSEEK_LLM: Split =
    Split(&[line_end, spaced_cased, spaced_signs, trailing_space, ideographs, digits]);
const DEEPSEEK_CODER: Split =
    Split(&[line_end, spaced_letters, spaced_punctuation, ideographs, digit]);
const LINES: Split = Split(&[lines]);

/// Names in `tokenizer.ggml.pre`.
const NAMES: &[(&str, Split)] = &[
    ("llama-bpe", THREE_DIGITS),
    ("llama3", THREE_DIGITS),
    ("llama-v3", THREE_DIGITS),
    ("falcon3", THREE_DIGITS),
    ("smaug-bpe", THREE_DIGITS),
    ("dbrx", THREE_DIGITS),
    ("glm4", THREE_DIGITS),
    ("chatglm-bpe", THREE_DIGITS),
    ("qwen2", ONE_DIGIT),
    ("deepseek-r1-qwen", ONE_DIGIT),
    ("stablelm2", ONE_DIGIT),
    ("megrez", ONE_DIGIT),
    ("hunyuan", ONE_DIGIT),
    ("qwen35", WITH_MARKS),
    ("gpt-2", CLASSIC),
    ("phi-2", CLASSIC),
    ("mpt", CLASSIC),
    ("olmo", CLASSIC),
    ("jais", CLASSIC),
    ("exaone4", CLASSIC),
    ("starcoder", DIGITS_APART),
    ("refact", DIGITS_APART),
    ("command-r", DIGITS_APART),
    ("smollm", DIGITS_APART),
    ("codeshell", DIGITS_APART),
    ("minerva-7b", DIGITS_APART),
    ("exaone", DIGITS_APART),
    ("falcon", FALCON),
    ("default", DEFAULT),
    ("deepseek-llm", DEEPSEEK_LLM),
    ("deepseek-coder", DEEPSEEK_CODER),
    ("gemma4", LINES),
    ("gemma-4", LINES),
];

impl Split {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|row| row.0 == name).map(|row| row.1)
    }

    /// Calls `each` with the words of a text; together they are the text.
    pub(super) fn words(
        self,
        text: &[u8],
        each: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let chars = chars(text)?;
        let start = |i: usize| chars.get(i).map_or(text.len(), |c| c.start);
        let mut pieces = Vec::new();
        let mut next = Vec::new();
        memory::push(&mut pieces, 0..chars.len())?;
        for pass in self.0 {
            next.clear();
            for piece in &pieces {
                cut(&chars, piece.clone(), *pass, &mut next)?;
            }
            core::mem::swap(&mut pieces, &mut next);
        }
        let words = pieces.iter().filter(|piece| !piece.is_empty());
        words.map(|piece| &text[start(piece.start)..start(piece.end)]).try_for_each(each)
    }
}

fn chars(text: &[u8]) -> Result<Vec<Char>> {
    let mut chars = memory::reserved(text.len())?;
    let mut start = 0;
    while start < text.len() {
        let len = char_len(&text[start..]);
        let c = core::str::from_utf8(&text[start..start + len]).ok().and_then(|s| s.chars().next());
        let c = c.unwrap_or(char::REPLACEMENT_CHARACTER);
        memory::push(&mut chars, Char { c, class: class(c), start })?;
        start += len;
    }
    Ok(chars)
}

fn cut(chars: &[Char], piece: Range<usize>, pass: Pass, out: &mut Vec<Range<usize>>) -> Result<()> {
    let mut gap = piece.start;
    let mut at = piece.start;
    while at < piece.end {
        match pass(&chars[at..piece.end]) {
            0 => at += 1,
            len => {
                if gap < at {
                    memory::push(out, gap..at)?;
                }
                memory::push(out, at..at + len)?;
                at += len;
                gap = at;
            }
        }
    }
    if gap < piece.end {
        memory::push(out, gap..piece.end)?;
    }
    Ok(())
}

fn count(text: &[Char], is: impl Fn(&Char) -> bool) -> usize {
    text.iter().take_while(|c| is(c)).count()
}

fn is(class: Class) -> impl Fn(&Char) -> bool {
    move |c| c.class == class
}

/// Neither white space nor letter nor number.
fn is_sign(c: &Char) -> bool {
    !matches!(c.class, Class::Space | Class::Letter | Class::Number)
}

fn is_line_end(c: &Char) -> bool {
    matches!(c.c, '\r' | '\n')
}

/// The length of `BEFORE?X+`, given how many there are `BEFORE` and of `X` after a number of them.
fn after_optional(before: bool, run: impl Fn(usize) -> usize) -> usize {
    match before as usize {
        1 if run(1) > 0 => 1 + run(1),
        _ => run(0),
    }
}

/// `'s|'t|'re|'ve|'m|'ll|'d`, in lower case or in any.
fn contraction(text: &[Char], any_case: bool) -> usize {
    let letter = |i: usize| {
        let c = text.get(i).map_or('\0', |c| c.c);
        if any_case { c.to_ascii_lowercase() } else { c }
    };
    match (letter(0), letter(1), letter(2)) {
        ('\'', 's' | 't' | 'm' | 'd', _) => 2,
        ('\'', 'r' | 'v', 'e') | ('\'', 'l', 'l') => 3,
        _ => 0, // of the many other characters
    }
}

/// `\s+(?!\S)|\s+`: white space, but for the last of several before a word.
fn space(text: &[Char]) -> usize {
    match count(text, is(Class::Space)) {
        len if len > 1 && len < text.len() => len - 1,
        len => len,
    }
}

/// GPT-2: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
fn classic(text: &[Char]) -> usize {
    let contraction = contraction(text, false);
    if contraction > 0 {
        return contraction;
    }
    let blank = text[0].c == ' ';
    let run = |from: usize| {
        let rest = &text[from..];
        match rest.first().map(|c| c.class) {
            Some(Class::Letter) => count(rest, is(Class::Letter)),
            Some(Class::Number) => count(rest, is(Class::Number)),
            _ => count(rest, is_sign),
        }
    };
    match after_optional(blank, run) {
        0 => space(text),
        len => len,
    }
}

/// Llama 3: `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|`
/// ` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`. Qwen2 has one digit; Qwen 3.5 has
/// `[\p{L}\p{M}]` for `\p{L}` in words and among what signs are not.
fn modern(text: &[Char], digits: usize, marks: bool) -> usize {
    let contraction = contraction(text, true);
    if contraction > 0 {
        return contraction;
    }
    let first = &text[0];
    let is_letter = |c: &Char| c.class == Class::Letter || marks && c.class == Class::Mark;
    let before = !is_line_end(first) && !matches!(first.class, Class::Letter | Class::Number);
    let word = after_optional(before, |from| count(&text[from..], is_letter));
    if word > 0 {
        return word;
    }
    if first.class == Class::Number {
        return count(text, is(Class::Number)).min(digits);
    }
    let is_sign = |c: &Char| is_sign(c) && !is_letter(c);
    match after_optional(first.c == ' ', |from| count(&text[from..], is_sign)) {
        0 => {}
        len => return len + count(&text[len..], is_line_end),
    }
    let spaces = &text[..count(text, is(Class::Space))];
    spaces.iter().rposition(is_line_end).map_or_else(|| space(text), |last| last + 1)
}

/// `\p{N}`
fn digit(text: &[Char]) -> usize {
    usize::from(text[0].class == Class::Number)
}

/// `\p{N}+`
fn digits(text: &[Char]) -> usize {
    count(text, is(Class::Number))
}

/// `[0-9][0-9][0-9]`
fn three_ascii_digits(text: &[Char]) -> usize {
    count(&text[..text.len().min(3)], |c| c.c.is_ascii_digit()) / 3 * 3
}

/// ``[\p{P}\$\+<=>\^~\|`]+``
fn punctuation_and_backtick(text: &[Char]) -> usize {
    count(text, |c| is_mathematical(c) || c.c == '`')
}

/// `[\p{P}\$\+<=>\^~\|]+`
fn punctuation_and_signs(text: &[Char]) -> usize {
    count(text, is_mathematical)
}

fn is_mathematical(c: &Char) -> bool {
    c.class == Class::Punctuation || matches!(c.c, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|')
}

/// `[\r\n]`
fn line_end(text: &[Char]) -> usize {
    usize::from(is_line_end(&text[0]))
}

/// `\s?\p{L}+`
fn spaced_letters(text: &[Char]) -> usize {
    spaced(text, is(Class::Letter))
}

/// `\s?\p{P}+`
fn spaced_punctuation(text: &[Char]) -> usize {
    spaced(text, is(Class::Punctuation))
}

/// `\s?[A-Za-z...]+` with DeepSeek's list of letters that have case.
fn spaced_cased(text: &[Char]) -> usize {
    spaced(text, |c| {
        let code = u32::from(c.c);
        let place = CASED.partition_point(|(_, last)| *last < code);
        CASED.get(place).is_some_and(|(first, _)| *first <= code)
    })
}

/// `\s?[!-/:-~！-／：-～‘-‟　-。]+`, whose third range takes ASCII letters too.
fn spaced_signs(text: &[Char]) -> usize {
    spaced(text, |c| {
        matches!(c.c, '!'..='/' | ':'..='~' | '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff5e}'
            | '\u{2018}'..='\u{201f}' | '\u{3000}'..='\u{3002}')
    })
}

fn spaced(text: &[Char], is: impl Fn(&Char) -> bool) -> usize {
    after_optional(text[0].class == Class::Space, |from| count(&text[from..], &is))
}

/// `\s+$`
fn trailing_space(text: &[Char]) -> usize {
    let len = count(text, is(Class::Space));
    if len == text.len() { len } else { 0 }
}

/// `[一-龥ࠀ-一가-퟿]+`: the second range takes in most scripts of Asia.
fn ideographs(text: &[Char]) -> usize {
    count(text, |c| matches!(c.c, '\u{800}'..='\u{9fa5}' | '\u{ac00}'..='\u{d7ff}'))
}

/// `[^\n]+|[\n]+`
fn lines(text: &[Char]) -> usize {
    let first = text[0].c == '\n';
    count(text, |c| (c.c == '\n') == first)
}

/// Letters with case as DeepSeek's tokenizer lists them: first and last of each range.
#[rustfmt::skip]
const CASED: &[(u32, u32)] = &[
    (0x41, 0x5a), (0x61, 0x7a), (0xb5, 0xb5), (0xc0, 0xd6), (0xd8, 0xf6), (0xf8, 0x1ba),
    (0x1bc, 0x1bf), (0x1c4, 0x293), (0x295, 0x2af), (0x370, 0x373), (0x376, 0x376),
    (0x377, 0x377), (0x37b, 0x37d), (0x37f, 0x37f), (0x386, 0x386), (0x388, 0x38a),
    (0x38c, 0x38c), (0x38e, 0x3a1), (0x3a3, 0x3f5), (0x3f7, 0x481), (0x48a, 0x52f),
    (0x531, 0x556), (0x10a0, 0x10c5), (0x13a0, 0x13f5), (0x13f8, 0x13fd), (0x1c90, 0x1cba),
    (0x1cbd, 0x1cbf), (0x1d00, 0x1d2b), (0x1d6b, 0x1d77), (0x1d79, 0x1d9a), (0x1e00, 0x1f15),
    (0x1f18, 0x1f1d), (0x1f20, 0x1f45), (0x1f48, 0x1f4d), (0x1f50, 0x1f57), (0x1f59, 0x1f59),
    (0x1f5b, 0x1f5b), (0x1f5d, 0x1f5d), (0x1f5f, 0x1f7d), (0x1f80, 0x1fb4), (0x1fb6, 0x1fbc),
    (0x1fbe, 0x1fbe), (0x1fc2, 0x1fc4), (0x1fc6, 0x1fcc), (0x1fd0, 0x1fd3), (0x1fd6, 0x1fdb),
    (0x1fe0, 0x1fec), (0x1ff2, 0x1ff4), (0x1ff6, 0x1ffc), (0x2102, 0x2102), (0x2107, 0x2107),
    (0x210a, 0x2113), (0x2115, 0x2115), (0x2119, 0x211d), (0x2124, 0x2124), (0x2126, 0x2126),
    (0x2128, 0x2128), (0x212a, 0x212d), (0x212f, 0x2134), (0x2139, 0x2139), (0x213c, 0x213f),
    (0x2145, 0x2149), (0x214e, 0x214e), (0x2183, 0x2183), (0x2184, 0x2184), (0x2c00, 0x2c7b),
    (0x2c7e, 0x2ce4), (0x2ceb, 0x2cee), (0x2cf2, 0x2cf2), (0x2cf3, 0x2cf3), (0xa640, 0xa66d),
    (0xa680, 0xa69b), (0xa722, 0xa76f), (0xa771, 0xa787), (0xa78b, 0xa78e), (0xab70, 0xabbf),
    (0xfb00, 0xfb06), (0xfb13, 0xfb17), (0xff21, 0xff3a), (0xff41, 0xff5a), (0x10400, 0x1044f),
    (0x104b0, 0x104d3), (0x104d8, 0x104fb), (0x10c80, 0x10cb2), (0x10cc0, 0x10cf2),
    (0x118a0, 0x118df), (0x1e900, 0x1e943),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    const CONTRACTION: &str = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]";
    const CLASSIC: &str =
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

    /// The expressions of each rule set, but for the long list of letters with case.
    fn expressions() -> Vec<(&'static str, Vec<String>)> {
        let modern = |letter: &str, digits: &str| {
            let sign = letter.trim_matches(['[', ']']);
            vec![format!(
                r"{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?{letter}+|\p{{N}}{digits}| ?[^\s{sign}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            )]
        };
        let strings = |list: &[&str]| list.iter().map(|s| String::from(*s)).collect();
        vec![
            ("llama-bpe", modern(r"\p{L}", "{1,3}")),
            ("qwen2", modern(r"\p{L}", "")),
            ("qwen35", modern(r"[\p{L}\p{M}]", "")),
            ("gpt-2", strings(&[CLASSIC])),
            ("starcoder", strings(&[r"\p{N}", CLASSIC])),
            ("falcon", strings(&[r"[\p{P}\$\+<=>\^~\|`]+", CLASSIC, "[0-9][0-9][0-9]"])),
            ("default", strings(&[r"[\p{P}\$\+<=>\^~\|]+", CLASSIC, r"\p{N}+", "[0-9][0-9][0-9]"])),
            (
                "deepseek-coder",
                strings(&[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"]),
            ),
            ("gemma-4", strings(&[r"[^\n]+|[\n]+"])),
        ]
    }

    /// The pieces an expression cuts a text into: matches and what lies between.
    fn cut_by(expression: &fancy_regex::Regex, text: &str) -> Vec<String> {
        let mut pieces = Vec::new();
        let mut end = 0;
        for found in expression.find_iter(text) {
            let found = found.expect("a search that ends");
            pieces.push(text[end..found.start()].into());
            pieces.push(found.as_str().into());
            end = found.end();
        }
        pieces.push(text[end..].into());
        pieces.into_iter().filter(|piece: &String| !piece.is_empty()).collect()
    }

    fn random_text(state: &mut u64) -> String {
        const KINDS: &[char] = &[
            ' ', ' ', ' ', 'a', 'b', 'S', 't', 'é', 'Я', 'ж', '\'', '\'', '’', '1', '2', '٣', 'Ⅷ',
            '½', '.', '!', '$', '+', '`', '|', '\n', '\n', '\r', '\t', '\u{a0}', '\u{3000}', '一',
            '龥', '가', 'ก', 'ा', '\u{301}', '\u{fe0f}', '🙂', '。', '\u{0}', '\u{ad}', '\u{e000}',
            'ʰ', 'ſ',
        ];
        let mut next = || {
            *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (*state >> 33) as usize
        };
        let len = next() % 24;
        (0..len).map(|_| KINDS[next() % KINDS.len()]).collect()
    }

    #[test]
    fn scanners_cut_as_the_expressions_do() {
        let mut state = 1;
        for (name, expressions) in expressions() {
            let split = Split::from_name(name).expect("a known name");
            let expressions: Vec<_> =
                expressions.iter().map(|e| fancy_regex::Regex::new(e).expect("sound")).collect();
            for _ in 0..4000 {
                let text = random_text(&mut state);
                let mut want = vec![text.clone()];
                for expression in &expressions {
                    want = want.iter().flat_map(|piece| cut_by(expression, piece)).collect();
                }
                want.retain(|piece| !piece.is_empty());
                let mut found = Vec::new();
                let words = split.words(text.as_bytes(), &mut |word| {
                    found.push(String::from_utf8(word.to_vec()).expect("whole characters"));
                    Ok(())
                });
                words.expect("little memory");
                assert_eq!(found, want, "{name}: {text:?}");
            }
        }
    }

    #[test]
    fn every_rule_set_covers_any_bytes() {
        let mut state = 7u64;
        for (name, split) in NAMES {
            for len in 0..200 {
                let bytes: Vec<u8> = (0..len % 40)
                    .map(|_| {
                        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                        (state >> 56) as u8
                    })
                    .collect();
                let mut covered = Vec::new();
                let words = split.words(&bytes, &mut |word| {
                    covered.extend_from_slice(word);
                    Ok(())
                });
                words.expect("little memory");
                assert_eq!(covered, bytes, "{name}");
            }
        }
    }
}
