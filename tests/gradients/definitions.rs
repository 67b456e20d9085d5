//! What operations compute, in double precision and nothing more.

use attar::backend::Row;

pub(crate) fn product(w: &[f64], x: &[f64], cols: usize) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum();
    x.chunks_exact(cols).flat_map(|x| w.chunks_exact(cols).map(move |w| dot(w, x))).collect()
}

pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

pub(crate) fn softmax(x: &[f64]) -> Vec<f64> {
    let sum: f64 = x.iter().map(|x| x.exp()).sum();
    x.iter().map(|x| x.exp() / sum).collect()
}

/// One group, without a weight.
pub(crate) fn normalize(x: &[f64], about_mean: bool, eps: f64) -> Vec<f64> {
    let len = x.len() as f64;
    let mean = if about_mean { x.iter().sum::<f64>() / len } else { 0.0 };
    let square = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / len;
    x.iter().map(|x| (x - mean) / (square + eps).sqrt()).collect()
}

/// Heads that share keys and values.
#[derive(Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) key_len: usize,
    pub(crate) value_len: usize,
}

/// Each row attends to the rows of its sequence up to its position.
pub(crate) fn attention(
    of: Heads,
    rows: &[Row],
    scale: f64,
    q: &[f64],
    k: &[f64],
    v: &[f64],
) -> Vec<f64> {
    let Heads { heads, kv_heads, key_len, value_len } = of;
    let mut out = Vec::new();
    for (r, row) in rows.iter().enumerate() {
        let seen: Vec<usize> = (0..rows.len())
            .filter(|s| rows[*s].sequence == row.sequence && rows[*s].position <= row.position)
            .collect();
        for head in 0..heads {
            let kv = head / (heads / kv_heads);
            let query = &q[(r * heads + head) * key_len..][..key_len];
            let score = |s: &usize| -> f64 {
                let key = &k[(s * kv_heads + kv) * key_len..][..key_len];
                query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>() * scale
            };
            let weights = softmax(&seen.iter().map(score).collect::<Vec<_>>());
            for i in 0..value_len {
                let value = |s: &usize| v[(s * kv_heads + kv) * value_len + i];
                out.push(seen.iter().zip(&weights).map(|(s, w)| w * value(s)).sum());
            }
        }
    }
    out
}
