//! From how much shall remain, and what each part is worth, to what remains.

use super::{Cut, LayerCut, LayerRanking, LayerShape, Ranking, Shape};
use crate::memory::text;
use crate::{Error, Result};

/// Widths are cut to multiples of this, which block formats and kernels like.
const UNIT: usize = 32;

/// How much of something shall remain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// So many, at least 1.
    Count(usize),
    /// This part, above 0 and below 1; of widths, to the nearest multiple of 32.
    Part(f64),
}

/// What shall remain of a model; `None` is all.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Tokens, in rising order.
    pub tokens: Option<Vec<u32>>,
    /// Layers to leave out.
    pub dropped: Vec<usize>,
    /// Neurons of each feed-forward block, or of each expert.
    pub hidden: Option<Share>,
    /// Groups of heads with common keys and values in each layer.
    pub groups: Option<Share>,
    /// Experts in each layer.
    pub experts: Option<Share>,
    /// Columns of the residual stream. Nothing harms a model more.
    pub width: Option<Share>,
    /// Whether layers may differ: as many neurons and groups in all, but where they are worth most.
    pub uneven: bool,
}

/// Chooses what remains.
///
/// # Errors
/// [`Error::Invalid`] for more than there is or nothing at all, [`Error::Unsupported`] for uneven widths
/// in a family that has no place for them.
pub fn choose(shape: &Shape, ranking: &Ranking, request: &Request) -> Result<Cut> {
    let count = shape.layers.len();
    if let Some(layer) = request.dropped.iter().find(|layer| **layer >= count) {
        return Err(Error::Invalid(text!("layer {layer} of {count}, counted from 0")));
    }
    let mut cut = Cut { tokens: request.tokens.clone(), ..Cut::nothing(shape) };
    cut.drop_layers(&request.dropped);
    if cut.layers.is_empty() {
        return Err(Error::Invalid("no layer remains".into()));
    }
    if let Some(share) = request.width {
        let count = share.of("columns", shape.width, UNIT)?;
        cut.width = Some(best(&ranking.width, count));
    }
    let layers: Vec<usize> = cut.layers.iter().map(|layer| layer.layer).collect();
    let each = |of: &dyn Fn(&LayerShape) -> usize, share: Share, what: &str, unit: usize| {
        let sizes = layers.iter().map(|layer| of(&shape.layers[*layer]));
        let counts = sizes.map(|size| if size == 0 { Ok(0) } else { share.of(what, size, unit) });
        counts.collect::<Result<Vec<_>>>()
    };
    let worths = |of: &dyn Fn(&LayerRanking) -> &[f64]| -> Vec<Vec<f64>> {
        layers.iter().map(|layer| of(&ranking.layers[*layer]).to_vec()).collect()
    };
    if let Some(share) = request.hidden {
        let mut counts = each(&|layer| layer.hidden, share, "neurons", UNIT)?;
        if request.uneven {
            check_uneven(shape)?;
            let worths = worths(&|layer| layer.hidden.first().map_or(&[], |all| all));
            counts = spread(&worths, &counts, UNIT);
        }
        for (layer, count) in cut.layers.iter_mut().zip(counts) {
            let worths = &ranking.layers[layer.layer].hidden;
            layer.hidden = Some(worths.iter().map(|worths| best(worths, count)).collect());
        }
    }
    if let Some(share) = request.groups {
        let mut counts = each(&|layer| layer.kv_heads, share, "groups of heads", 1)?;
        if request.uneven {
            check_uneven(shape)?;
            counts = spread(&worths(&|layer| &layer.groups), &counts, 1);
        }
        for (layer, count) in cut.layers.iter_mut().zip(counts) {
            layer.groups = Some(best(&ranking.layers[layer.layer].groups, count));
        }
    }
    if let Some(share) = request.experts {
        for layer in &mut cut.layers {
            keep_experts(layer, &shape.layers[layer.layer], ranking, share)?;
        }
    }
    Ok(cut)
}

fn keep_experts(
    cut: &mut LayerCut,
    shape: &LayerShape,
    ranking: &Ranking,
    share: Share,
) -> Result<()> {
    let (layer, used) = (cut.layer, shape.experts_used);
    if shape.experts == 0 {
        return Err(Error::Invalid(text!("layer {layer} has no experts to choose among")));
    }
    let count = share.of("experts", shape.experts, 1)?;
    if count < used {
        return Err(Error::Invalid(text!("{count} experts, but each token goes to {used}")));
    }
    cut.experts = Some(best(&ranking.layers[layer].experts, count));
    Ok(())
}

/// Whether layers of the family may differ in width.
fn check_uneven(shape: &Shape) -> Result<()> {
    let family = shape.family;
    let why = match shape.uneven {
        None => "no architecture that runtimes know has its layers with widths of their own",
        Some(_) if shape.layers.iter().any(|layer| layer.experts > 0) => {
            "the architecture with widths of their own has no experts"
        }
        Some(_) => return Ok(()),
    };
    Err(Error::Unsupported(text!("uneven layers of a model of family '{family}': {why}")))
}

impl Share {
    fn of(self, what: &str, size: usize, unit: usize) -> Result<usize> {
        let count = match self {
            Self::Count(count) => count,
            Self::Part(part) => {
                let unit = if size < unit { 1 } else { unit };
                let units = (part * size as f64 / unit as f64).round() as usize;
                (units * unit).clamp(unit, size)
            }
        };
        match (1..=size).contains(&count) {
            true => Ok(count),
            false => Err(Error::Invalid(text!("{count} {what}, expected 1 to {size}"))),
        }
    }
}

/// Places of the `count` largest, in rising order; of equals, those that come first.
fn best(worths: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..worths.len()).collect();
    order.sort_by(|a, b| worths[*b].total_cmp(&worths[*a]));
    order.truncate(count);
    order.sort_unstable();
    order
}

/// As many in all as `counts`, but where a unit of them is the largest part of what its layer's are worth
/// together; each layer that has any keeps one. Energies themselves do not compare: the stream grows from
/// layer to layer.
fn spread(worths: &[Vec<f64>], counts: &[usize], unit: usize) -> Vec<usize> {
    let sorted = worths.iter().map(|worths| {
        let total: f64 = worths.iter().sum();
        let mut sorted: Vec<f64> =
            worths.iter().map(|worth| worth / total.max(f64::MIN_POSITIVE)).collect();
        sorted.sort_by(|a, b| b.total_cmp(a));
        sorted
    });
    let sorted: Vec<Vec<f64>> = sorted.collect();
    let mut given: Vec<usize> = counts.iter().map(|count| (*count).min(unit)).collect();
    let mut left = counts.iter().sum::<usize>() - given.iter().sum::<usize>();
    while left >= unit {
        let next = |i: usize| -> Option<f64> {
            Some(sorted[i].get(given[i]..given[i] + unit)?.iter().sum())
        };
        let wanted = (0..given.len()).filter_map(|i| Some((i, next(i)?)));
        let Some((layer, _)) = wanted.reduce(|a, b| if b.1 > a.1 { b } else { a }) else { break };
        given[layer] += unit;
        left -= unit;
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_become_whole_units() {
        let of = |share: Share, size| share.of("neurons", size, UNIT).ok();
        assert_eq!(of(Share::Part(0.75), 172), Some(128));
        assert_eq!(of(Share::Part(0.01), 172), Some(32));
        assert_eq!(of(Share::Part(0.5), 24), Some(12));
        assert_eq!(of(Share::Count(100), 172), Some(100));
        assert_eq!((of(Share::Count(0), 8), of(Share::Count(9), 8)), (None, None));
    }

    #[test]
    fn the_best_remain_in_order() {
        assert_eq!(best(&[1.0, 5.0, 3.0, 5.0], 3), [1, 2, 3]);
        assert_eq!(best(&[2.0, 2.0, 2.0], 2), [0, 1]);
    }

    #[test]
    fn units_go_where_they_are_worth_most() {
        let worths = [vec![1.0; 4], vec![9.0, 8.0, 0.5, 0.1], vec![]];
        assert_eq!(spread(&worths, &[2, 2, 0], 1), [2, 2, 0]);
        assert_eq!(spread(&worths, &[3, 3, 0], 1), [4, 2, 0]);
        assert_eq!(spread(&worths, &[2, 2, 0], 2), [2, 2, 0]);
    }
}
