//! What each part of a model is worth, by what a calibration has seen.

use super::Shape;
use crate::backend::Observations;
use crate::compress::measure::Measure;
use crate::compress::sequences::{Progress, Sequences};
use crate::gguf::{Gguf, Tensor};
use crate::session::Session;
use crate::{Error, Result};

/// What columns and layers are worth; only comparisons within a list mean anything.
#[derive(Clone, Debug)]
pub struct Ranking {
    /// Of each column of the residual stream: the mean square of what norms make of it, over all layers
    /// (arXiv 2407.14679).
    pub width: Vec<f64>,
    /// Of each layer.
    pub layers: Vec<LayerRanking>,
}

/// What the parts of a layer are worth.
#[derive(Clone, Debug, Default)]
pub struct LayerRanking {
    /// How much the layer changes the residual stream (block influence, arXiv 2403.03853).
    pub influence: f64,
    /// Of each group of heads: the energy its columns of the output matrix add to the stream.
    pub groups: Vec<f64>,
    /// Of each neuron of the feed-forward block or of each expert: the energy its column of the down
    /// matrix adds to the stream, its mean square times the column's.
    pub hidden: Vec<Vec<f64>>,
    /// Of each expert: its share of the router's weights, 0 to 1.
    pub experts: Vec<f64>,
}

impl Ranking {
    /// Ranks the parts of a model of which `seen` was seen.
    ///
    /// # Errors
    /// [`Error::Unsupported`] naming a tensor no kernel reads.
    pub fn new(gguf: &Gguf, shape: &Shape, seen: &Observations) -> Result<Self> {
        let influences = seen.influences();
        let mut width = vec![0.0; shape.width];
        let mut layers = Vec::new();
        for (layer, sizes) in shape.layers.iter().enumerate() {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            for part in ["attn_q", "ffn_gate", "ffn_gate_inp"] {
                for inputs in seen.of(&name(part)) {
                    let rows = inputs.rows.max(1) as f64;
                    width.iter_mut().zip(&inputs.squares).for_each(|(sum, x)| *sum += x / rows);
                }
            }
            let influence = influences.get(layer).copied().unwrap_or(0.0);
            let mut ranking = LayerRanking { influence, ..LayerRanking::default() };
            if sizes.heads > 0 {
                let energies = energies(gguf, seen, &name("attn_output"))?;
                let columns = sizes.heads / sizes.kv_heads * shape.value_len;
                let groups = energies.iter().flat_map(|all| all.chunks(columns));
                ranking.groups = groups.map(|group| group.iter().sum()).collect();
            }
            let down = if sizes.experts > 0 { name("ffn_down_exps") } else { name("ffn_down") };
            if sizes.hidden > 0 {
                ranking.hidden = energies(gguf, seen, &down)?;
            }
            if sizes.experts > 0 {
                let total: f64 = seen.of(&down).map(|inputs| inputs.weight).sum();
                let shares = seen.of(&down).map(|inputs| inputs.weight / total.max(1e-300));
                ranking.experts = shares.collect();
            }
            layers.push(ranking);
        }
        Ok(Self { width, layers })
    }
}

/// Of each column of each matrix of a tensor: the mean square of its inputs times the sum of squares of
/// its weights.
fn energies(gguf: &Gguf, seen: &Observations, name: &str) -> Result<Vec<Vec<f64>>> {
    let tensor = gguf.need_tensor(name)?;
    let matrices = match tensor.dims.len() {
        3 => tensor.split_last()?,
        _ => vec![tensor],
    };
    let energy = |matrix: &Tensor, inputs: &crate::backend::Inputs| {
        let rows = inputs.rows.max(1) as f64;
        let mut sums = column_squares(matrix)?;
        sums.iter_mut().zip(&inputs.squares).for_each(|(sum, square)| *sum *= square / rows);
        Ok(sums)
    };
    matrices.iter().zip(seen.of(name)).map(|(matrix, inputs)| energy(matrix, inputs)).collect()
}

fn column_squares(matrix: &Tensor) -> Result<Vec<f64>> {
    let info = matrix.format()?.info();
    let len = matrix.row_len();
    let (mut sums, mut row) = (vec![0.0; len], vec![0.0f32; len]);
    for bytes in matrix.bytes.chunks_exact(info.row_bytes(len)) {
        info.dequantize(bytes, &mut row);
        sums.iter_mut().zip(&row).for_each(|(sum, value)| *sum += f64::from(value * value));
    }
    Ok(sums)
}

/// The `count` layers of least influence, in rising order.
pub fn drop_by_influence(ranking: &Ranking, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..ranking.layers.len()).collect();
    let influence = |layer: &usize| ranking.layers[*layer].influence;
    order.sort_by(|a, b| influence(a).total_cmp(&influence(b)));
    order.truncate(count);
    order.sort_unstable();
    order
}

/// One layer after another, each time the one without which the loss is least, until `count` are dropped;
/// with the loss after each, in nats a token. `progress` is told of tokens: all of them for every layer
/// tried.
///
/// # Errors
/// Those of [`Measure::run`].
pub fn drop_by_loss(
    gguf: &Gguf,
    shape: &Shape,
    count: usize,
    sequences: &Sequences,
    threads: usize,
    progress: Progress<'_>,
) -> Result<Vec<(usize, f64)>> {
    let mut dropped: Vec<(usize, f64)> = Vec::new();
    for _ in 0..count {
        let mut best: Option<(usize, f64)> = None;
        for layer in (0..shape.layers.len()).filter(|l| dropped.iter().all(|(d, _)| d != l)) {
            let plain = Measure::on_threads(threads);
            let open = |gguf: &Gguf, len| -> Result<Session> {
                let mut session = (plain.open)(gguf, len)?;
                let all = dropped.iter().map(|(dropped, _)| *dropped).chain([layer]);
                all.into_iter().try_for_each(|layer| session.bypass(layer))?;
                Ok(session)
            };
            let measure = Measure { open: &open, ..plain };
            let loss = measure.run(gguf, None, sequences, progress)?.nll.mean;
            if best.is_none_or(|(_, least)| loss < least) {
                best = Some((layer, loss));
            }
        }
        dropped.push(best.ok_or_else(|| Error::Invalid("no layer is left to drop".into()))?);
    }
    Ok(dropped)
}
