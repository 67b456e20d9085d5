//! Some rows and columns of a matrix.

use super::super::quantize::fitting;
use crate::Result;
use crate::gguf::write::Writer;
use attar_kernels::Format;

/// Which of `0..` remain; all where `None`.
pub(super) type Kept<'a> = Option<&'a [usize]>;

/// How columns are taken out of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Rows stay as they are.
    Whole,
    /// By whole blocks, as they are.
    Blocks,
    /// Through f32.
    Rounded,
}

/// The format of rows of `from` of which some columns remain, and how they get there. A format whose block
/// does not divide them gives way to the nearest that does.
pub(super) fn target(from: Format, columns: Kept<'_>) -> (Format, Way) {
    let Some(columns) = columns else { return (from, Way::Whole) };
    let len = from.info().block_len;
    let blocks = |columns: &[usize]| {
        columns.len() == len && columns[0].is_multiple_of(len) && {
            columns.windows(2).all(|pair| pair[1] == pair[0] + 1)
        }
    };
    if columns.chunks(len).all(blocks) {
        return (from, Way::Blocks);
    }
    (fitting(columns.len(), from), Way::Rounded)
}

/// Appends the rows and columns that remain of a matrix of rows of `len`.
pub(super) fn append(
    writer: &mut Writer,
    matrix: &[u8],
    len: usize,
    from: Format,
    rows: Kept<'_>,
    columns: Kept<'_>,
) -> Result<()> {
    let (to, way) = target(from, columns);
    let (from, to) = (from.info(), to.info());
    let bytes = from.row_bytes(len);
    let columns = columns.unwrap_or_default();
    let mut values = vec![0.0; if way == Way::Rounded { len } else { 0 }];
    let mut kept = vec![0.0; if way == Way::Rounded { columns.len() } else { 0 }];
    let mut out = Vec::new();
    let all = matrix.len() / bytes;
    for row in (0..rows.map_or(all, <[usize]>::len)).map(|i| rows.map_or(i, |rows| rows[i])) {
        let row = &matrix[row * bytes..][..bytes];
        out.clear();
        match way {
            Way::Whole => out.extend(row),
            Way::Blocks => {
                for first in columns.iter().step_by(from.block_len) {
                    out.extend(&row[from.row_bytes(*first)..][..from.block_bytes]);
                }
            }
            Way::Rounded => {
                from.dequantize(row, &mut values);
                kept.iter_mut().zip(columns).for_each(|(kept, column)| *kept = values[*column]);
                out.resize(to.row_bytes(columns.len()), 0);
                to.quantize(&kept, &mut out);
            }
        }
        writer.append(&out)?;
    }
    Ok(())
}
