//! Writing what remains, tensor by tensor.

use super::metadata::{Entry, metadata};
use super::slice::{self, Way};
use super::{Cut, LayerCut, LayerShape, Shape};
use crate::gguf::write::{TensorPlan, Writer};
use crate::gguf::{Gguf, Tensor, TensorType};
use crate::memory::text;
use crate::{Error, Result};
use std::path::Path;

/// What a dimension of a tensor counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axis {
    /// Columns of the residual stream.
    Width,
    Vocab,
    /// Queries of all heads.
    Query,
    Key,
    Value,
    /// What heads give the output matrix.
    Mixed,
    Hidden,
    Experts,
    /// Nothing that is cut.
    Fixed,
}

use Axis::{Experts, Fixed, Hidden, Key, Mixed, Query, Value, Vocab, Width};

/// Tensors by their names without layer, `.weight` and the like, and their dimensions, the length of a
/// row first. A bias has the second alone.
const PARTS: &[(&str, &[Axis])] = &[
    ("token_embd", &[Width, Vocab]),
    ("output", &[Width, Vocab]),
    ("output_norm", &[Width]),
    ("rope_freqs", &[Fixed]),
    ("attn_norm", &[Width]),
    ("attn_q", &[Width, Query]),
    ("attn_k", &[Width, Key]),
    ("attn_v", &[Width, Value]),
    ("attn_q_norm", &[Fixed]),
    ("attn_k_norm", &[Fixed]),
    ("attn_output", &[Mixed, Width]),
    ("ffn_norm", &[Width]),
    ("ffn_gate", &[Width, Hidden]),
    ("ffn_up", &[Width, Hidden]),
    ("ffn_down", &[Hidden, Width]),
    ("ffn_gate_inp", &[Width, Experts]),
    ("ffn_gate_exps", &[Width, Hidden, Experts]),
    ("ffn_up_exps", &[Width, Hidden, Experts]),
    ("ffn_down_exps", &[Hidden, Width, Experts]),
    ("ffn_gate_inp_shexp", &[Width]),
    ("ffn_gate_shexp", &[Width, Fixed]),
    ("ffn_up_shexp", &[Width, Fixed]),
    ("ffn_down_shexp", &[Fixed, Width]),
];

/// What pruning makes of a model.
#[derive(Clone, Debug)]
pub struct Pruned {
    /// The family under which the result is written.
    pub family: &'static str,
    /// The tensors that remain.
    pub tensors: Vec<PrunedTensor>,
    /// Parameters before and after.
    pub parameters: (usize, usize),
    /// The same without the input table and the head.
    pub core: (usize, usize),
    /// Bytes of the tensors before and after.
    pub bytes: (usize, usize),
}

/// What became of a tensor.
#[derive(Clone, Debug)]
pub struct PrunedTensor {
    /// Its name now.
    pub name: String,
    /// Encoding before.
    pub from: &'static TensorType,
    /// Encoding now.
    pub to: &'static TensorType,
    /// Whether weights were rounded anew, because a cut went through their blocks.
    pub rounded: bool,
    /// Sizes now, the length of a row first.
    pub dims: Vec<usize>,
}

impl LayerCut {
    /// Widths and counts of what remains of the layer.
    pub fn shape(&self, before: &Shape) -> LayerShape {
        let was = before.layers[self.layer];
        let kv_heads = self.groups.as_ref().map_or(was.kv_heads, Vec::len);
        LayerShape {
            heads: was.heads.checked_div(was.kv_heads).unwrap_or(0) * kv_heads,
            kv_heads,
            hidden: self.hidden.as_ref().and_then(|all| all.first()).map_or(was.hidden, Vec::len),
            experts: self.experts.as_ref().map_or(was.experts, Vec::len),
            ..was
        }
    }
}

/// A tensor on its way.
struct Piece<'a> {
    source: &'a Tensor,
    layer: Option<&'a LayerCut>,
    axes: &'static [Axis],
}

struct Plan<'a> {
    shape: &'a Shape,
    cut: &'a Cut,
    pieces: Vec<Piece<'a>>,
    pruned: Pruned,
}

impl Pruned {
    /// What [`write_pruned`] will write.
    ///
    /// # Errors
    /// [`Error::Unsupported`] naming a tensor of unknown meaning, or layers of differing widths in a family
    /// that has no place for them.
    pub fn plan(gguf: &Gguf, shape: &Shape, cut: &Cut) -> Result<Self> {
        Ok(Plan::new(gguf, shape, cut)?.pruned)
    }

    /// The share of parameters that is cut, not counting the input table and the head: 0 to 1.
    pub fn cut_share(&self) -> f64 {
        1.0 - self.core.1 as f64 / self.core.0.max(1) as f64
    }
}

/// Writes what remains of a model to `out`, which appears when it is whole; `each` is told of every tensor
/// when it is done. Where layers differ in width the file is of the family that allows it.
///
/// # Errors
/// As [`Pruned::plan`], and [`Error::Io`] naming the path.
pub fn write_pruned(
    gguf: &Gguf,
    shape: &Shape,
    cut: &Cut,
    out: &Path,
    each: &mut dyn FnMut(&PrunedTensor),
) -> Result<Pruned> {
    let plan = Plan::new(gguf, shape, cut)?;
    let keys = metadata(gguf, shape, cut, plan.pruned.family)?;
    let keys = keys.iter().map(|(name, entry): &(String, Entry<'_>)| (&name[..], entry.value()));
    let tensors = plan.pruned.tensors.iter().map(|tensor| TensorPlan {
        name: tensor.name.clone(),
        kind: tensor.to,
        dims: tensor.dims.clone(),
    });
    let mut writer = Writer::create(out, keys, &tensors.collect::<Vec<_>>())?;
    for (piece, tensor) in plan.pieces.iter().zip(&plan.pruned.tensors) {
        plan.write(piece, &mut writer)?;
        each(tensor);
    }
    writer.finish()?;
    Ok(plan.pruned)
}

impl<'a> Plan<'a> {
    fn new(gguf: &'a Gguf, shape: &'a Shape, cut: &'a Cut) -> Result<Self> {
        let family = family(shape, cut)?;
        let nothing = (0, 0);
        let tensors = Vec::new();
        let pruned = Pruned { family, tensors, parameters: nothing, core: nothing, bytes: nothing };
        let mut plan = Self { shape, cut, pieces: Vec::new(), pruned };
        gguf.tensors().iter().try_for_each(|tensor| plan.add(tensor))?;
        Ok(plan)
    }

    fn add(&mut self, source: &'a Tensor) -> Result<()> {
        let Place { layer, part, kind } = Place::of(&source.name)?;
        let is_core = part != "token_embd" && part != "output";
        let (len, bytes) = (source.len(), source.bytes.len());
        self.pruned.parameters.0 += len;
        self.pruned.core.0 += if is_core { len } else { 0 };
        self.pruned.bytes.0 += bytes;
        let cut = self.cut;
        let mut name = source.name.to_string();
        let mut of = None;
        if let Some(layer) = layer {
            let Some(place) = cut.layers.iter().position(|cut| cut.layer == layer) else {
                return Ok(());
            };
            of = Some(&cut.layers[place]);
            name = format!("blk.{place}.{part}.{kind}");
        }
        let piece = Piece { source, layer: of, axes: axes(source, part, kind)? };
        let dims = piece
            .axes
            .iter()
            .zip(&source.dims[..])
            .map(|(axis, size)| self.kept(&piece, *axis, 0).map_or(*size, |kept| kept.len()));
        let dims: Vec<usize> = dims.collect();
        let columns = self.kept(&piece, piece.axes[0], 0);
        let (to, rounded) = match &columns {
            None => (source.kind, false),
            Some(columns) => {
                let (to, way) = slice::target(source.format()?, Some(columns));
                (TensorType::of(to), way == Way::Rounded && source.kind.block_len > 1)
            }
        };
        let len: usize = dims.iter().product();
        let planned = TensorPlan { name: name.clone(), kind: to, dims: dims.clone() };
        self.pruned.parameters.1 += len;
        self.pruned.core.1 += if is_core { len } else { 0 };
        self.pruned.bytes.1 += planned.bytes();
        let tensor = PrunedTensor { name, from: source.kind, to, rounded, dims };
        self.pruned.tensors.push(tensor);
        self.pieces.push(piece);
        Ok(())
    }

    /// What remains along a dimension of one expert's matrix; all where `None`.
    fn kept(&self, piece: &Piece<'_>, axis: Axis, expert: usize) -> Option<Vec<usize>> {
        let Shape { key_len, value_len, layers, .. } = self.shape;
        let heads = |len: usize| {
            let layer = piece.layer?;
            let shape = layers[layer.layer];
            Some((layer, len * shape.heads.checked_div(shape.kv_heads)?))
        };
        let groups = |(layer, len): (&LayerCut, usize)| {
            let groups = layer.groups.as_ref()?;
            Some(groups.iter().flat_map(|group| group * len..(group + 1) * len).collect())
        };
        match axis {
            Width => self.cut.width.clone(),
            Vocab => Some(self.cut.tokens.as_ref()?.iter().map(|id| *id as usize).collect()),
            Query => groups(heads(*key_len)?),
            Mixed => groups(heads(*value_len)?),
            Key => groups((piece.layer?, *key_len)),
            Value => groups((piece.layer?, *value_len)),
            Hidden => piece.layer?.hidden.as_ref()?.get(expert).cloned(),
            Experts => piece.layer?.experts.clone(),
            Fixed => None,
        }
    }

    fn write(&self, piece: &Piece<'_>, writer: &mut Writer) -> Result<()> {
        let source = piece.source;
        let kept = |axis: usize, expert| self.kept(piece, *piece.axes.get(axis)?, expert);
        if (0..piece.axes.len()).all(|axis| kept(axis, 0).is_none()) {
            return writer.append(&source.bytes);
        }
        let format = source.format()?;
        let count = *source.dims.get(2).unwrap_or(&1);
        let matrix_bytes = source.bytes.len() / count;
        for expert in kept(2, 0).unwrap_or_else(|| (0..count).collect()) {
            let matrix = &source.bytes[expert * matrix_bytes..][..matrix_bytes];
            let (columns, rows) = (kept(0, expert), kept(1, expert));
            let (rows, columns) = (rows.as_deref(), columns.as_deref());
            slice::append(writer, matrix, source.row_len(), format, rows, columns)?;
        }
        Ok(())
    }
}

/// The family of the result: another if layers differ in a way that this one has no place for.
fn family(shape: &Shape, cut: &Cut) -> Result<&'static str> {
    let mut left = cut.layers.iter().map(|layer| layer.shape(shape));
    let first = left.next();
    let even = left.all(|layer| Some(layer) == first);
    match shape.uneven {
        _ if even => Ok(shape.family),
        Some(uneven) if first.is_some_and(|layer| layer.experts == 0) => Ok(uneven),
        _ => Err(Error::Unsupported(text!(
            "layers of differing widths in a model of family '{}': no architecture that runtimes know \
             has them",
            shape.family
        ))),
    }
}

/// A tensor's name, taken apart.
struct Place<'a> {
    layer: Option<usize>,
    part: &'a str,
    /// `weight`, `bias` or `scale`.
    kind: &'a str,
}

impl<'a> Place<'a> {
    fn of(name: &'a str) -> Result<Self> {
        let unknown = || Error::Unsupported(text!("tensor '{name}': how to cut it is not known"));
        let (rest, kind) = name.rsplit_once('.').ok_or_else(unknown)?;
        let Some(rest) = rest.strip_prefix("blk.") else {
            return Ok(Self { layer: None, part: rest, kind });
        };
        let (layer, part) = rest.split_once('.').ok_or_else(unknown)?;
        Ok(Self { layer: Some(layer.parse().map_err(|_| unknown())?), part, kind })
    }
}

fn axes(tensor: &Tensor, part: &str, kind: &str) -> Result<&'static [Axis]> {
    let known = PARTS.iter().find(|(name, _)| *name == part);
    let axes = match (known, kind) {
        (Some((_, axes)), "weight") => Some(*axes),
        (Some((_, [_, axes @ ..])), "bias") => axes.get(..1),
        // One factor of the matrix, or one an expert.
        (Some((_, [_, _, Experts])), "scale") => Some(&[Experts][..]),
        (Some(_), "scale") => Some(&[Fixed][..]),
        _ => None,
    };
    axes.filter(|axes| axes.len() == tensor.dims.len()).ok_or_else(|| {
        let (name, dims) = (&tensor.name, &tensor.dims);
        Error::Unsupported(text!("tensor '{name}' of {dims:?}: how to cut it is not known"))
    })
}
