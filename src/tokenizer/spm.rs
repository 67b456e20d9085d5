//! SentencePiece's byte-pair vocabularies: characters are merged by the score of the token they
//! become, and what no token holds falls back to bytes (Kudo and Richardson, arXiv 1808.06226).

use super::merge::{Merger, Symbol};
use super::vocab::Vocab;
use super::{Output, escape_spaces};
use crate::Result;
use alloc::vec::Vec;

/// Appends the tokens of a text; `starts` where the vocabulary wants a space before it.
pub(super) fn encode(vocab: &Vocab, text: &[u8], starts: bool, out: &mut Output<'_>) -> Result<()> {
    let mut escaped = Vec::new();
    escape_spaces(text, starts, &mut escaped)?;
    merge(vocab, &escaped, &mut |_| {}, out)
}

/// Appends the tokens of a text whose spaces are visible.
pub(super) fn merge(
    vocab: &Vocab,
    text: &[u8],
    merged: &mut dyn FnMut(u32),
    out: &mut Output<'_>,
) -> Result<()> {
    let part = |symbol: &Symbol| &text[symbol.start..symbol.start + symbol.len];
    let join = |left: &Symbol, right: &Symbol| {
        let id = vocab.find_joined(part(left), part(right))?;
        Some((rank(vocab.score(id)), id))
    };
    let each = &mut |symbol: &Symbol| out.push_or_bytes(symbol.id, part(symbol));
    Merger::default().run(vocab, text, &join, merged, each)
}

/// A number that is lower for a higher score.
fn rank(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits(); // the sum makes -0 the same as 0
    // Bits of positive floats grow with the value, those of negative ones fall.
    if bits >> 31 == 0 { !(bits | 1 << 31) } else { bits }
}

#[cfg(test)]
mod tests {
    use super::rank;

    #[test]
    fn a_higher_score_ranks_first() {
        let scores = [3.5, 1.0, 1e-20, 0.0, -1e-20, -1.0, -31740.0];
        for pair in scores.windows(2) {
            assert!(rank(pair[0]) < rank(pair[1]), "{pair:?}");
        }
        assert_eq!(rank(0.0), rank(-0.0));
    }
}
