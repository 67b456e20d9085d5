//! The types of the GGUF tables: metadata values and tensors. One row a tensor type, also for those
//! no kernel runs, so that a file can be listed, checked and copied whatever it holds.

use attar_kernels::Format;

/// Type of a metadata value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
#[repr(u32)]
pub enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

const VALUE_TYPES: [(ValueType, &str, usize); 13] = [
    (ValueType::U8, "u8", 1),
    (ValueType::I8, "i8", 1),
    (ValueType::U16, "u16", 2),
    (ValueType::I16, "i16", 2),
    (ValueType::U32, "u32", 4),
    (ValueType::I32, "i32", 4),
    (ValueType::F32, "f32", 4),
    (ValueType::Bool, "bool", 1),
    (ValueType::String, "string", 0),
    (ValueType::Array, "array", 0),
    (ValueType::U64, "u64", 8),
    (ValueType::I64, "i64", 8),
    (ValueType::F64, "f64", 8),
];

impl ValueType {
    pub(super) fn from_id(id: u32) -> Option<Self> {
        VALUE_TYPES.get(id as usize).map(|row| row.0)
    }

    /// Name, as in `u32`.
    pub fn name(self) -> &'static str {
        VALUE_TYPES[self as usize].1
    }

    /// Bytes of a value; 0 where it varies.
    pub(super) fn size(self) -> usize {
        VALUE_TYPES[self as usize].2
    }
}

/// A tensor type of the format's specification.
#[derive(Debug, PartialEq, Eq)]
pub struct TensorType {
    /// Number in the tensor table.
    pub id: u32,
    /// Name as tools print it, lower case.
    pub name: &'static str,
    /// Weights a block.
    pub block_len: usize,
    /// Bytes a block; 0 for types that were withdrawn.
    pub block_bytes: usize,
}

impl TensorType {
    /// The row with this number.
    pub fn from_id(id: u32) -> Option<&'static Self> {
        TENSOR_TYPES.iter().find(|row| row.id == id)
    }

    /// The row of a format that runs.
    pub fn of(format: Format) -> &'static Self {
        let id = format.info().gguf_id;
        TENSOR_TYPES.iter().find(|row| row.id == id).unwrap_or(&TENSOR_TYPES[0])
    }

    /// The format, if this build runs it.
    pub fn format(&self) -> Option<Format> {
        Format::from_gguf_id(self.id)
    }
}

const fn row(id: u32, name: &'static str, block_len: usize, block_bytes: usize) -> TensorType {
    TensorType { id, name, block_len, block_bytes }
}

/// Every type a file may name (ggml's `ggml_type`), withdrawn ones included.
pub const TENSOR_TYPES: [TensorType; 43] = [
    row(0, "f32", 1, 4),
    row(1, "f16", 1, 2),
    row(2, "q4_0", 32, 18),
    row(3, "q4_1", 32, 20),
    row(4, "q4_2", 16, 0),
    row(5, "q4_3", 16, 0),
    row(6, "q5_0", 32, 22),
    row(7, "q5_1", 32, 24),
    row(8, "q8_0", 32, 34),
    row(9, "q8_1", 32, 36),
    row(10, "q2_k", 256, 84),
    row(11, "q3_k", 256, 110),
    row(12, "q4_k", 256, 144),
    row(13, "q5_k", 256, 176),
    row(14, "q6_k", 256, 210),
    row(15, "q8_k", 256, 292),
    row(16, "iq2_xxs", 256, 66),
    row(17, "iq2_xs", 256, 74),
    row(18, "iq3_xxs", 256, 98),
    row(19, "iq1_s", 256, 50),
    row(20, "iq4_nl", 32, 18),
    row(21, "iq3_s", 256, 110),
    row(22, "iq2_s", 256, 82),
    row(23, "iq4_xs", 256, 136),
    row(24, "i8", 1, 1),
    row(25, "i16", 1, 2),
    row(26, "i32", 1, 4),
    row(27, "i64", 1, 8),
    row(28, "f64", 1, 8),
    row(29, "iq1_m", 256, 56),
    row(30, "bf16", 1, 2),
    row(31, "q4_0_4_4", 32, 0),
    row(32, "q4_0_4_8", 32, 0),
    row(33, "q4_0_8_8", 32, 0),
    row(34, "tq1_0", 256, 54),
    row(35, "tq2_0", 256, 66),
    row(36, "iq4_nl_4_4", 32, 0),
    row(37, "iq4_nl_4_8", 32, 0),
    row(38, "iq4_nl_8_8", 32, 0),
    row(39, "mxfp4", 32, 17),
    row(40, "nvfp4", 64, 36),
    row(41, "q1_0", 128, 18),
    row(42, "q2_0", 64, 18),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_agree_with_the_kernels_formats() {
        for info in &attar_kernels::FORMATS {
            let row = TensorType::of(info.format);
            let kernel = (info.gguf_id, info.name, info.block_len, info.block_bytes);
            assert_eq!((row.id, row.name, row.block_len, row.block_bytes), kernel);
        }
    }

    #[test]
    fn rows_are_in_place() {
        for (i, (kind, ..)) in VALUE_TYPES.iter().enumerate() {
            assert_eq!(*kind as usize, i);
        }
        for (i, row) in TENSOR_TYPES.iter().enumerate() {
            assert_eq!(row.id as usize, i);
        }
    }
}
