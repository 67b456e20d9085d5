//! Rounding a model's matrices to block formats, one a matrix.

use super::importance::Importance;
use crate::gguf::write::{self, TensorPlan, Writer};
use crate::gguf::{Gguf, Tensor, TensorType, Value};
use crate::memory::text;
use crate::{Error, Result};
use attar_kernels::{Format, FormatInfo};
use std::path::Path;

/// What becomes of each tensor of a file, in the file's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    pub(super) choices: Vec<Choice>,
}

/// What becomes of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) to: &'static TensorType,
    /// What it should have become, where its rows are not a multiple of that format's block.
    pub(super) instead_of: Option<Format>,
}

/// What became of a tensor.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// Name.
    pub name: String,
    /// Encoding before.
    pub from: &'static TensorType,
    /// Encoding now.
    pub to: &'static TensorType,
    /// Size before and now.
    pub bytes: (usize, usize),
    /// What it should have become, where its rows are not a multiple of that format's block.
    pub instead_of: Option<Format>,
    /// What rounding cost; `None` where the tensor was copied.
    pub error: Option<RoundingError>,
}

/// Root mean squared errors of rounding, over the root mean square of the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoundingError {
    /// Of the weights as such.
    pub plain: f64,
    /// Each square times the importance of its column: the error of what the matrix puts out; `None` where
    /// the importance is not known.
    pub weighted: Option<f64>,
}

/// How to round.
#[derive(Clone, Copy)]
pub struct Rounding<'a> {
    /// How much the error of each column counts; plain rounding without it.
    pub importance: Option<&'a Importance>,
    /// Threads.
    pub threads: usize,
}

/// Weights worked on at a time: bounds memory whatever the tensors' size.
const PIECE_LEN: usize = 1 << 22;

/// [`Recipe::uniform`] written to `out` by plain rounding; `each` is told of every tensor when it is
/// done.
///
/// # Errors
/// Those of [`Recipe::uniform`] and [`Recipe::write`].
pub fn quantize(
    gguf: &Gguf,
    format: Format,
    out: &Path,
    threads: usize,
    each: &mut dyn FnMut(&Quantized),
) -> Result<()> {
    Recipe::uniform(gguf, format)?.write(gguf, Rounding { importance: None, threads }, out, each)
}

impl Recipe {
    /// All matrices in one format.
    ///
    /// Vectors, routers of experts and other small tensors stay as they are. The last matrix, and a
    /// table of embeddings that serves as one, gets at least 6 bits. A matrix whose rows are not a
    /// multiple of the block becomes the nearest format that fits.
    ///
    /// # Errors
    /// [`Error::Unsupported`] naming a matrix no kernel reads.
    pub fn uniform(gguf: &Gguf, format: Format) -> Result<Self> {
        let choices = gguf.tensors().iter().map(|tensor| uniform(gguf, tensor, format));
        Ok(Self { choices: choices.collect::<Result<_>>()? })
    }

    /// All tensors as they are.
    pub(super) fn identity(gguf: &Gguf) -> Self {
        let kinds = gguf.tensors().iter().map(|tensor| tensor.kind);
        Self { choices: kinds.map(|to| Choice { to, instead_of: None }).collect() }
    }

    /// The format a tensor is rounded to, if it is.
    #[cfg(feature = "train")]
    pub(super) fn rounds(&self, gguf: &Gguf, name: &str) -> Option<Format> {
        let place = gguf.tensors().iter().position(|tensor| *tensor.name == *name)?;
        self.choices[place].to.format().filter(|format| *format != Format::F32)
    }

    /// Whether some tensor takes `format` as it was wanted.
    pub fn has(&self, format: Format) -> bool {
        self.choices.iter().any(|choice| choice.to.format() == Some(format))
    }

    /// The formats that stand in for `format` where rows are not a multiple of its block.
    pub fn instead_of(&self, format: Format) -> impl Iterator<Item = &'static TensorType> {
        let all = self.choices.iter().filter(move |choice| choice.instead_of == Some(format));
        all.map(|choice| choice.to)
    }

    fn plans(&self, gguf: &Gguf) -> Vec<TensorPlan> {
        let tensors = gguf.tensors().iter().zip(&self.choices);
        let plan = |(tensor, choice): (&Tensor, &Choice)| TensorPlan {
            name: tensor.name.to_string(),
            kind: choice.to,
            dims: tensor.dims.to_vec(),
        };
        tensors.map(plan).collect()
    }

    /// The file's keys, with what this changes.
    fn metadata<'a>(&self, gguf: &'a Gguf) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        let own = |name: &str| name == FILE_TYPE || name == QUANTIZATION_VERSION;
        let kept = gguf.metadata().filter(move |(n, _)| !n.starts_with("split.") && !own(n));
        let file_type = Value::U32(file_type(self.most_weights(gguf)));
        kept.chain([(FILE_TYPE, file_type), (QUANTIZATION_VERSION, Value::U32(2))])
    }

    /// The format most weights of matrices were meant for.
    fn most_weights(&self, gguf: &Gguf) -> Format {
        let mut weights = [0; Format::COUNT];
        for (tensor, choice) in gguf.tensors().iter().zip(&self.choices) {
            let meant = choice.instead_of.or(choice.to.format());
            if let Some(format) = meant.filter(|_| is_matrix(tensor) && !is_head(gguf, tensor)) {
                weights[format as usize] += tensor.len();
            }
        }
        let most = (0..Format::COUNT).max_by_key(|i| (weights[*i], Format::COUNT - i)).unwrap_or(0);
        attar_kernels::FORMATS[most].format
    }

    /// Size of the whole file that [`Recipe::write`] writes.
    pub fn file_bytes(&self, gguf: &Gguf) -> usize {
        write::file_bytes(self.metadata(gguf), &self.plans(gguf))
    }

    /// Writes the file to `out`, where it appears when it is whole.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the importance is of other matrices, [`Error::Io`] naming the path.
    pub fn write(
        &self,
        gguf: &Gguf,
        rounding: Rounding<'_>,
        out: &Path,
        each: &mut dyn FnMut(&Quantized),
    ) -> Result<()> {
        let plans = self.plans(gguf);
        let mut writer = Writer::create(out, self.metadata(gguf), &plans)?;
        for ((tensor, choice), plan) in gguf.tensors().iter().zip(&self.choices).zip(&plans) {
            let mut error = None;
            match choice.to.format().filter(|_| choice.to != tensor.kind) {
                None => writer.append(&tensor.bytes)?,
                Some(to) => {
                    let mut sums = Sums::default();
                    let convert = Conversion::new(tensor, to, rounding)?;
                    convert.run(rounding.threads, &mut |piece, part| {
                        sums.add(part);
                        writer.append(piece)
                    })?;
                    error = Some(sums.error(convert.columns.is_some()));
                }
            }
            each(&Quantized {
                name: plan.name.clone(),
                from: tensor.kind,
                to: choice.to,
                bytes: (tensor.bytes.len(), plan.bytes()),
                instead_of: choice.instead_of,
                error,
            });
        }
        writer.finish()
    }
}

const FILE_TYPE: &str = "general.file_type";
const QUANTIZATION_VERSION: &str = "general.quantization_version";

/// The number by which `general.file_type` knows a format (llama.cpp's `llama_ftype`).
fn file_type(format: Format) -> u32 {
    match format {
        Format::F32 => 0,
        Format::F16 => 1,
        Format::Q4_0 => 2,
        Format::Q4_1 => 3,
        Format::Q8_0 => 7,
        Format::Q5_0 => 8,
        Format::Q5_1 => 9,
        Format::Q2_K => 10,
        Format::Q3_K => 11,
        Format::Q4_K => 14,
        Format::Q5_K => 16,
        Format::Q6_K => 18,
        Format::BF16 => 32,
    }
}

/// Whether a tensor is one that rounding pays for. A router is small, and what it decides is not
/// rounded.
pub(super) fn is_matrix(tensor: &Tensor) -> bool {
    let name = &*tensor.name;
    let router = name.contains("ffn_gate_inp");
    tensor.dims.len() > 1 && name.ends_with(".weight") && !name.contains("norm") && !router
}

/// Whether logits are made by a matrix.
fn is_head(gguf: &Gguf, tensor: &Tensor) -> bool {
    match &*tensor.name {
        "output.weight" => true,
        "token_embd.weight" => gguf.tensor("output.weight").is_none(),
        _ => false,
    }
}

/// What a tensor becomes where all matrices become `format`.
fn uniform(gguf: &Gguf, tensor: &Tensor, format: Format) -> Result<Choice> {
    if !is_matrix(tensor) {
        return Ok(Choice { to: tensor.kind, instead_of: None });
    }
    tensor.format()?;
    let block_bits = format.info().block_bytes * 8 / format.info().block_len;
    let coarse_head = block_bits < 6 && is_head(gguf, tensor);
    let wanted = if coarse_head { Format::Q6_K } else { format };
    let fitting = fitting(tensor.row_len(), wanted);
    Ok(Choice { to: TensorType::of(fitting), instead_of: (fitting != wanted).then_some(wanted) })
}

/// `wanted`, or the nearest format whose block divides rows of `len`.
pub(super) fn fitting(len: usize, wanted: Format) -> Format {
    let mut fitting = wanted;
    while !len.is_multiple_of(fitting.info().block_len) {
        fitting = narrower_blocks(fitting);
    }
    fitting
}

/// The nearest format of no fewer bits whose blocks are shorter.
fn narrower_blocks(format: Format) -> Format {
    match format {
        Format::Q2_K | Format::Q3_K => Format::Q4_0,
        Format::Q4_K => Format::Q5_0,
        Format::Q5_K => Format::Q5_1,
        Format::Q6_K => Format::Q8_0,
        Format::Q8_0 | Format::Q4_0 | Format::Q4_1 | Format::Q5_0 | Format::Q5_1 => Format::F16,
        Format::F32 | Format::F16 | Format::BF16 => Format::F32,
    }
}

/// A tensor on its way to another format.
pub(super) struct Conversion<'a> {
    tensor: &'a Tensor,
    from: &'static FormatInfo,
    to: &'static FormatInfo,
    /// Importance of the columns of each matrix of the tensor.
    columns: Option<Vec<f32>>,
}

/// Squared errors and squares of weights; as they are, and times their importance.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    errors: f64,
    squares: f64,
    weighted_errors: f64,
    weighted_squares: f64,
}

impl Sums {
    fn add(&mut self, other: Self) {
        self.errors += other.errors;
        self.squares += other.squares;
        self.weighted_errors += other.weighted_errors;
        self.weighted_squares += other.weighted_squares;
    }

    fn note(&mut self, row: &[f32], kept: &[f32], columns: Option<&[f32]>) {
        for (i, (weight, kept)) in row.iter().zip(kept).enumerate() {
            let (weight, kept) = (f64::from(*weight), f64::from(*kept));
            let (error, square) = ((weight - kept) * (weight - kept), weight * weight);
            let importance = columns.map_or(1.0, |columns| f64::from(columns[i]));
            self.errors += error;
            self.squares += square;
            self.weighted_errors += importance * error;
            self.weighted_squares += importance * square;
        }
    }

    fn error(&self, weighted: bool) -> RoundingError {
        let ratio = |errors: f64, squares: f64| {
            if squares > 0.0 { (errors / squares).sqrt() } else { 0.0 }
        };
        let plain = ratio(self.errors, self.squares);
        let weighted = weighted.then(|| ratio(self.weighted_errors, self.weighted_squares));
        RoundingError { plain, weighted }
    }
}

impl<'a> Conversion<'a> {
    pub(super) fn new(tensor: &'a Tensor, to: Format, rounding: Rounding<'_>) -> Result<Self> {
        let from = tensor.format()?.info();
        let columns = match rounding.importance {
            Some(importance) => importance.columns(tensor)?,
            None => None,
        };
        Ok(Self { tensor, from, to: to.info(), columns })
    }

    /// Hands the rounded tensor to `put` piece by piece, with what rounding cost; the rows of a piece are
    /// shared among threads.
    fn run(&self, threads: usize, put: &mut dyn FnMut(&[u8], Sums) -> Result<()>) -> Result<()> {
        let len = self.tensor.row_len();
        let (row_from, row_to) = (self.from.row_bytes(len), self.to.row_bytes(len));
        let rows = (PIECE_LEN / len).max(1);
        let mut piece = Vec::new();
        piece.try_reserve_exact(rows.min(self.tensor.len() / len) * row_to).map_err(|_| {
            Error::Limit(text!("no memory for a piece of tensor '{}'", self.tensor.name))
        })?;
        for (p, source) in self.tensor.bytes.chunks(rows * row_from).enumerate() {
            let count = source.len() / row_from;
            piece.resize(count * row_to, 0u8);
            let share = count.div_ceil(threads.max(1));
            let sums = std::thread::scope(|scope| {
                let shares = source.chunks(share * row_from).zip(piece.chunks_mut(share * row_to));
                let threads: Vec<_> = shares
                    .enumerate()
                    .map(|(i, (from, to))| {
                        scope.spawn(move || self.rows(p * rows + i * share, from, to))
                    })
                    .collect();
                let mut sums = Sums::default();
                for thread in threads {
                    let part = thread.join();
                    sums.add(part.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
                }
                sums
            });
            put(&piece, sums)?;
        }
        Ok(())
    }

    /// The weighted squared error of the whole, told from at most `weights` weights of rows spread over it.
    pub(super) fn estimate(&self, weights: usize) -> f64 {
        let len = self.tensor.row_len();
        let (row_from, row_to) = (self.from.row_bytes(len), self.to.row_bytes(len));
        let rows = self.tensor.len() / len;
        let step = rows.div_ceil((weights / len).max(1));
        let (mut target, mut sums) = (vec![0; row_to], Sums::default());
        for row in (0..rows).step_by(step) {
            let source = &self.tensor.bytes[row * row_from..][..row_from];
            sums.add(self.rows(row, source, &mut target));
        }
        sums.weighted_errors * rows as f64 / rows.div_ceil(step) as f64
    }

    /// Rounds some rows, from the `first` of the tensor.
    fn rows(&self, first: usize, source: &[u8], target: &mut [u8]) -> Sums {
        let len = self.tensor.row_len();
        let (mut row, mut kept) = (vec![0.0; len], vec![0.0; len]);
        let mut sums = Sums::default();
        let rows = source.chunks_exact(self.from.row_bytes(len));
        let targets = target.chunks_exact_mut(self.to.row_bytes(len));
        for (r, (source, target)) in rows.zip(targets).enumerate() {
            self.from.dequantize(source, &mut row);
            let columns = self.columns_of(first + r);
            match columns {
                Some(columns) => self.to.quantize_weighted(&row, columns, target),
                None => self.to.quantize(&row, target),
            }
            self.to.dequantize(target, &mut kept);
            sums.note(&row, &kept, columns);
        }
        sums
    }

    fn columns_of(&self, row: usize) -> Option<&[f32]> {
        let columns = self.columns.as_ref()?;
        let len = self.tensor.row_len();
        let rows = self.tensor.len() / len;
        // One matrix, or as many as there are experts.
        let matrix = row / (rows / (columns.len() / len));
        Some(&columns[matrix * len..][..len])
    }
}
