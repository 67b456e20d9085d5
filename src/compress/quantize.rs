//! Plain rounding of a model's matrices to a block format.

use crate::gguf::write::{TensorPlan, Writer};
use crate::gguf::{Gguf, Tensor, TensorType, Value};
use crate::memory::text;
use crate::{Error, Result};
use attar_kernels::Format;
use std::path::Path;

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
}

/// Weights worked on at a time: bounds memory whatever the tensors' size.
const PIECE_LEN: usize = 1 << 22;

/// Writes `gguf` with its matrices in `format` to `out`, which appears when it is whole.
///
/// Vectors, routers of experts and other small tensors stay as they are. The last matrix, and a table
/// of embeddings that serves as one, gets at least 6 bits. A matrix whose rows are not a multiple of
/// the block becomes the nearest format that fits. `each` is told of every tensor when it is done.
///
/// # Errors
/// [`Error::Unsupported`] naming a tensor no kernel reads, [`Error::Io`] naming the path.
pub fn quantize(
    gguf: &Gguf,
    format: Format,
    out: &Path,
    threads: usize,
    each: &mut dyn FnMut(&Quantized),
) -> Result<()> {
    let tied = gguf.tensor("output.weight").is_none();
    let mut plans = Vec::new();
    let mut reports = Vec::new();
    for tensor in gguf.tensors() {
        let (to, instead_of) = target(tensor, format, tied)?;
        let (name, dims) = (tensor.name.to_string(), tensor.dims.to_vec());
        let plan = TensorPlan { name: name.clone(), kind: to, dims };
        let bytes = (tensor.bytes.len(), plan.bytes());
        reports.push(Quantized { name, from: tensor.kind, to, bytes, instead_of });
        plans.push(plan);
    }
    let metadata = gguf.metadata().filter(|(name, _)| {
        !name.starts_with("split.") && *name != "general.file_type" && *name != QUANTIZATION_VERSION
    });
    let metadata = metadata.chain([
        ("general.file_type", Value::U32(file_type(format))),
        (QUANTIZATION_VERSION, Value::U32(2)),
    ]);
    let mut writer = Writer::create(out, metadata, &plans)?;
    for (tensor, report) in gguf.tensors().iter().zip(&reports) {
        if report.from == report.to {
            writer.append(&tensor.bytes)?;
        } else if let Some(to) = report.to.format() {
            convert(tensor, to, threads.max(1), &mut writer)?;
        }
        each(report);
    }
    writer.finish()
}

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

/// What a tensor becomes, and what it should have become where that does not fit.
fn target(
    tensor: &Tensor,
    format: Format,
    tied: bool,
) -> Result<(&'static TensorType, Option<Format>)> {
    let name = &*tensor.name;
    let router = name.contains("ffn_gate_inp");
    let matrix = tensor.dims.len() > 1 && name.ends_with(".weight") && !name.contains("norm");
    if !matrix || router {
        return Ok((tensor.kind, None));
    }
    tensor.format()?;
    let is_head = name == "output.weight" || tied && name == "token_embd.weight";
    let block_bits = format.info().block_bytes * 8 / format.info().block_len;
    let wanted = if is_head && block_bits < 6 { Format::Q6_K } else { format };
    let mut fitting = wanted;
    while !tensor.row_len().is_multiple_of(fitting.info().block_len) {
        fitting = narrower_blocks(fitting);
    }
    Ok((TensorType::of(fitting), (fitting != wanted).then_some(wanted)))
}

/// What a weight that learns in f32 will be rounded to when it is written in `format`.
#[cfg(feature = "train")]
pub(super) fn rounding(gguf: &Gguf, name: &str, format: Format) -> Option<Format> {
    let tied = gguf.tensor("output.weight").is_none();
    let (kind, _) = target(&gguf.tensor(name)?, format, tied).ok()?;
    kind.format().filter(|format| *format != Format::F32)
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

/// Appends the tensor in another format, piece by piece, the rows of a piece shared among threads.
fn convert(tensor: &Tensor, to: Format, threads: usize, writer: &mut Writer) -> Result<()> {
    let from = tensor.format()?.info();
    let to = to.info();
    let len = tensor.row_len();
    let (row_from, row_to) = (from.row_bytes(len), to.row_bytes(len));
    let rows = (PIECE_LEN / len).max(1);
    let mut piece = Vec::new();
    piece
        .try_reserve_exact(rows * row_to)
        .map_err(|_| Error::Limit(text!("no memory for a piece of tensor '{}'", tensor.name)))?;
    for source in tensor.bytes.chunks(rows * row_from) {
        let rows = source.len() / row_from;
        piece.resize(rows * row_to, 0u8);
        let share = rows.div_ceil(threads);
        std::thread::scope(|scope| {
            let shares = source.chunks(share * row_from).zip(piece.chunks_mut(share * row_to));
            for (source, target) in shares {
                scope.spawn(move || {
                    let mut row = vec![0.0; len];
                    let rows = source.chunks_exact(row_from).zip(target.chunks_exact_mut(row_to));
                    for (source, target) in rows {
                        from.dequantize(source, &mut row);
                        to.quantize(&row, target);
                    }
                });
            }
        });
        writer.append(&piece)?;
    }
    Ok(())
}
