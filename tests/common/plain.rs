//! A forward pass written out plainly in f64, for files of F32 with the layers most families share: what
//! each matrix is multiplied by, and how much each layer changes the stream.

use attar::Gguf;
use std::collections::BTreeMap;

/// Rows, sum of their weights, and sums of squares of each column.
pub(crate) type Sums = (u64, f64, Vec<f64>);

/// A model, and what a text does in it.
pub(crate) struct Plain<'a> {
    gguf: &'a Gguf,
    /// By tensor and expert.
    pub(crate) inputs: BTreeMap<(String, Option<usize>), Sums>,
    /// 1 less the mean cosine, a layer.
    pub(crate) influences: Vec<f64>,
}

type Rows = Vec<Vec<f64>>;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

impl<'a> Plain<'a> {
    pub(crate) fn read(gguf: &'a Gguf) -> Self {
        Self { gguf, inputs: BTreeMap::new(), influences: Vec::new() }
    }

    fn count(&self, key: &str) -> usize {
        let name = self.gguf.architecture().expect("an architecture");
        self.gguf.usize(&format!("{name}.{key}")).expect("a count").unwrap_or(0)
    }

    fn values(&self, name: &str) -> Vec<f64> {
        let tensor = self.gguf.need_tensor(name).expect("a tensor");
        let mut values = vec![0.0f32; tensor.len()];
        tensor.format().expect("a format").info().dequantize(&tensor.bytes, &mut values);
        values.into_iter().map(f64::from).collect()
    }

    pub(crate) fn vocab_len(&self) -> usize {
        self.gguf.need_tensor("token_embd.weight").expect("a table").dims[1]
    }

    fn norm(&self, name: &str, x: &Rows) -> Rows {
        let gain = self.values(name);
        let normalize = |row: &Vec<f64>| {
            let root = (dot(row, row) / row.len() as f64 + 1e-5).sqrt();
            row.iter().zip(&gain).map(|(x, g)| x / root * g).collect()
        };
        x.iter().map(normalize).collect()
    }

    /// `W x`, noting `x`, weighted.
    fn apply(&mut self, name: &str, expert: Option<usize>, x: &[f64], weight: f64) -> Vec<f64> {
        let new = || (0, 0.0, vec![0.0; x.len()]);
        let sums = self.inputs.entry((name.into(), expert)).or_insert_with(new);
        sums.0 += 1;
        sums.1 += weight;
        sums.2.iter_mut().zip(x).for_each(|(sum, x)| *sum += x * x);
        let rows = self.gguf.need_tensor(name).expect("a tensor").dims[1];
        let values = self.values(name);
        let matrix = &values[expert.unwrap_or(0) * rows * x.len()..][..rows * x.len()];
        matrix.chunks_exact(x.len()).map(|row| dot(row, x)).collect()
    }

    fn apply_all(&mut self, name: &str, x: &Rows) -> Rows {
        x.iter().map(|x| self.apply(name, None, x, 1.0)).collect()
    }

    fn rotate(&self, x: &mut Rows, head_len: usize) {
        for (position, row) in x.iter_mut().enumerate() {
            for head in row.chunks_exact_mut(head_len) {
                for (i, pair) in head.chunks_exact_mut(2).enumerate() {
                    let turn = 10_000f64.powf(-2.0 * i as f64 / head_len as f64);
                    let (sin, cos) = (position as f64 * turn).sin_cos();
                    let [a, b] = [pair[0], pair[1]];
                    pair.copy_from_slice(&[a * cos - b * sin, a * sin + b * cos]);
                }
            }
        }
    }

    fn attention(&mut self, layer: usize, h: &Rows) -> Rows {
        let name = |part: &str| format!("blk.{layer}.attn_{part}.weight");
        let (heads, groups) =
            (self.count("attention.head_count"), self.count("attention.head_count_kv"));
        let mut q = self.apply_all(&name("q"), h);
        let mut k = self.apply_all(&name("k"), h);
        let v = self.apply_all(&name("v"), h);
        let len = q[0].len() / heads;
        self.rotate(&mut q, len);
        self.rotate(&mut k, len);
        let mut mixed = vec![vec![0.0; heads * len]; h.len()];
        for (position, mixed) in mixed.iter_mut().enumerate() {
            for head in 0..heads {
                let group = head / (heads / groups) * len;
                let query = &q[position][head * len..][..len];
                let score =
                    |k: &Vec<f64>| (dot(query, &k[group..][..len]) / (len as f64).sqrt()).exp();
                let scores: Vec<f64> = k[..=position].iter().map(score).collect();
                let total: f64 = scores.iter().sum();
                for (score, v) in scores.iter().zip(&v) {
                    for i in 0..len {
                        mixed[head * len + i] += score / total * v[group + i];
                    }
                }
            }
        }
        self.apply_all(&name("output"), &mixed)
    }

    fn gated(
        &mut self,
        names: [&str; 3],
        expert: Option<usize>,
        x: &[f64],
        weight: f64,
    ) -> Vec<f64> {
        let gate = self.apply(names[0], expert, x, weight);
        let up = self.apply(names[1], expert, x, weight);
        let hidden: Vec<f64> = gate.iter().zip(up).map(|(g, u)| silu(*g) * u).collect();
        self.apply(names[2], expert, &hidden, weight)
    }

    fn feed(&mut self, layer: usize, x: &[f64]) -> Vec<f64> {
        let used = self.count("expert_used_count");
        let suffix = if used == 0 { "" } else { "_exps" };
        let names =
            ["gate", "up", "down"].map(|part| format!("blk.{layer}.ffn_{part}{suffix}.weight"));
        let names = names.each_ref().map(|name| &name[..]);
        if used == 0 {
            return self.gated(names, None, x, 1.0);
        }
        let scores = self.apply(&format!("blk.{layer}.ffn_gate_inp.weight"), None, x, 1.0);
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let total: f64 = order[..used].iter().map(|e| scores[*e].exp()).sum();
        let mut out = vec![0.0; x.len()];
        for expert in &order[..used] {
            let weight = scores[*expert].exp() / total;
            let y = self.gated(names, Some(*expert), x, weight);
            out.iter_mut().zip(y).for_each(|(out, y)| *out += weight * y);
        }
        out
    }

    /// Runs the text; logits are of every token.
    pub(crate) fn forward(&mut self, ids: &[u32]) -> Rows {
        let table = self.values("token_embd.weight");
        let width = table.len() / self.vocab_len();
        let mut x: Rows =
            ids.iter().map(|id| table[*id as usize * width..][..width].to_vec()).collect();
        let add = |x: &mut Rows, y: Rows| {
            x.iter_mut().zip(y).for_each(|(x, y)| x.iter_mut().zip(y).for_each(|(x, y)| *x += y));
        };
        for layer in 0..self.count("block_count") {
            let before = x.clone();
            let h = self.norm(&format!("blk.{layer}.attn_norm.weight"), &x);
            let y = self.attention(layer, &h);
            add(&mut x, y);
            let h = self.norm(&format!("blk.{layer}.ffn_norm.weight"), &x);
            let y = h.iter().map(|h| self.feed(layer, h)).collect();
            add(&mut x, y);
            let cosine =
                |(a, b): (&Vec<f64>, &Vec<f64>)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
            let sum: f64 = before.iter().zip(&x).map(cosine).sum();
            self.influences.push(1.0 - sum / ids.len() as f64);
        }
        let h = self.norm("output_norm.weight", &x);
        let tied = self.gguf.tensor("output.weight").is_none();
        self.apply_all(if tied { "token_embd.weight" } else { "output.weight" }, &h)
    }
}
