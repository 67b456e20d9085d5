//! Walking the header of a GGUF file, with every check.

use super::tensor::{Dims, Tensor, TensorName};
use super::types::{TensorType, ValueType};
use super::value::Walk;
use super::{Contents, Key};
use crate::bytes::Bytes;
use crate::memory::{self, text};
use crate::{Error, Result};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

const MAGIC: &[u8] = b"GGUF";
const ALIGNMENT_DEFAULT: usize = 32;
const ALIGNMENT_MAX: usize = 1 << 20;
/// The format's own limit on names of keys.
const KEY_LEN_MAX: usize = 65535;
const TENSOR_NAME_LEN_MAX: usize = 1024;
/// More keys or tensors than the largest known model has, few enough to bound our tables.
const COUNT_MAX: usize = 1 << 16;
/// As many as all but the largest files have.
const ROWS_USUAL: usize = 4096;
/// Bytes that a key, and a row of the tensor table, take at least.
const KEY_BYTES_MIN: usize = 9;
const TENSOR_BYTES_MIN: usize = 24;

/// An error at a byte of the file.
macro_rules! malformed {
    ($at:expr, $($arguments:tt)*) => {
        Error::Format { at: $at as u64, text: text!($($arguments)*) }
    };
}

/// The header under way.
struct Reader<'a> {
    bytes: &'a Bytes,
    walk: Walk<'a>,
}

pub(super) fn parse(bytes: Bytes) -> Result<Contents> {
    let mut reader = Reader { bytes: &bytes, walk: Walk { bytes: &bytes, wide: true } };
    let version = reader.version()?;
    let tensor_count = reader.count("tensors")?;
    let key_count = reader.count("keys")?;
    let mut keys = reader.table(key_count, KEY_BYTES_MIN)?;
    for i in 0..key_count {
        memory::push(&mut keys, reader.key(i, key_count)?)?;
    }
    check_unique(&bytes, &keys)?;
    let alignment = alignment(&bytes, &keys)?;
    let mut tensors = reader.table(tensor_count, TENSOR_BYTES_MIN)?;
    let mut offsets = reader.table(tensor_count, TENSOR_BYTES_MIN)?;
    for i in 0..tensor_count {
        let (tensor, offset) = reader.tensor(i, tensor_count, alignment)?;
        memory::push(&mut tensors, tensor)?;
        memory::push(&mut offsets, offset)?;
    }
    let data = reader.offset().next_multiple_of(alignment);
    place(&bytes, data, &mut tensors, &offsets)?;
    let by_name = index(&tensors)?;
    let file_bytes = bytes.len();
    Ok(Contents { version, alignment, bytes, keys, tensors, by_name, file_bytes })
}

impl<'a> Reader<'a> {
    fn offset(&self) -> usize {
        self.bytes.len() - self.walk.bytes.len()
    }

    /// Room for a table; where it has more rows than usual, or than the rest of the file may hold,
    /// it grows as they are read.
    fn table<T>(&self, rows: usize, row_bytes_min: usize) -> Result<Vec<T>> {
        memory::reserved(rows.min(ROWS_USUAL).min(self.walk.bytes.len() / row_bytes_min))
    }

    fn version(&mut self) -> Result<u32> {
        let magic = self.walk.take(4);
        let magic = magic.ok_or_else(|| malformed!(0, "file ends before its magic"))?;
        if magic != MAGIC {
            return Err(malformed!(0, "no GGUF file: expected the magic 'GGUF'"));
        }
        let version = self.walk.u32();
        let version = version.ok_or_else(|| malformed!(4, "file ends before its version"))?;
        if (1..=3).contains(&version.swap_bytes()) {
            return Err(Error::Unsupported("a big-endian GGUF file".into()));
        }
        if !(1..=3).contains(&version) {
            return Err(Error::Unsupported(text!("GGUF version {version}, expected 1 to 3")));
        }
        self.walk.wide = version > 1;
        Ok(version)
    }

    fn count(&mut self, what: &str) -> Result<usize> {
        let at = self.offset();
        let count = self.walk.length();
        let count = count.ok_or_else(|| malformed!(at, "file ends before its count of {what}"))?;
        usize::try_from(count).ok().filter(|count| *count <= COUNT_MAX).ok_or_else(|| {
            Error::Limit(text!("{count} {what} at byte {at}, expected at most {COUNT_MAX}"))
        })
    }

    /// A name of at most `len_max` bytes, and where it lies.
    fn name(
        &mut self,
        what: fmt::Arguments<'_>,
        len_max: usize,
    ) -> Result<(&'a str, Range<usize>)> {
        let at = self.offset();
        let name = self.walk.string();
        let name =
            name.ok_or_else(|| malformed!(at, "name of {what} runs past the end of the file"))?;
        let len = name.len();
        if len > len_max {
            let most = format_args!("at most {len_max} are allowed,");
            return Err(malformed!(at, "name of {what} has {len} bytes, {most}"));
        }
        let name = core::str::from_utf8(name)
            .map_err(|_| malformed!(at, "name of {what} is not UTF-8"))?;
        let end = self.offset();
        Ok((name, end - len..end))
    }

    fn key(&mut self, i: usize, count: usize) -> Result<Key> {
        let (text, name) = self.name(format_args!("key {} of {count}", i + 1), KEY_LEN_MAX)?;
        let at = self.offset();
        let id = self.walk.u32();
        let id = id.ok_or_else(|| malformed!(at, "file ends before the type of key '{text}'"))?;
        let Some(kind) = ValueType::from_id(id) else {
            return Err(malformed!(at, "key '{text}' has value type {id}, expected 0 to 12,"));
        };
        let start = self.offset();
        if self.walk.value(kind).is_none() {
            let kind = kind.name();
            let what = format_args!("value of key '{text}' is no {kind}");
            return Err(malformed!(start, "{what} or runs past the end,"));
        }
        Ok(Key { name, kind, value: start..self.offset() })
    }

    /// A row of the tensor table, with the offset of its data. The bytes are found later.
    fn tensor(&mut self, i: usize, count: usize, alignment: usize) -> Result<(Tensor, u64)> {
        let what = format_args!("tensor {} of {count}", i + 1);
        let (name, place) = self.name(what, TENSOR_NAME_LEN_MAX)?;
        let at = self.offset();
        let wrong = |why: fmt::Arguments<'_>| malformed!(at, "tensor '{name}' {why}");
        let ends = || wrong(format_args!("runs past the end of the file"));
        let dims = self.dims().ok_or_else(ends)?.map_err(|dim| match dim {
            Wrong::Count(n) => wrong(format_args!("has {n} dimensions, expected 1 to 4,")),
            Wrong::Size(n) => wrong(format_args!("has a dimension of {n}")),
        })?;
        let id = self.walk.u32().ok_or_else(ends)?;
        let kind = TensorType::from_id(id)
            .ok_or_else(|| wrong(format_args!("has the unknown type {id}")))?;
        if kind.block_bytes == 0 {
            let kind = kind.name;
            return Err(Error::Unsupported(text!("tensor '{name}' of withdrawn type {kind}")));
        }
        let (row, block) = (dims[0], kind.block_len);
        if !row.is_multiple_of(block) {
            return Err(wrong(format_args!("has rows of {row}, no multiple of {block},")));
        }
        let offset = self.walk.number().map(u64::from_le_bytes).ok_or_else(ends)?;
        if !offset.is_multiple_of(alignment as u64) {
            return Err(wrong(format_args!("has data at {offset}, no multiple of {alignment},")));
        }
        let (name, bytes) = (TensorName(self.bytes.slice(place)), Bytes::from_static(&[]));
        Ok((Tensor { name, kind, dims, bytes }, offset))
    }

    /// The sizes of a tensor; `None` where the file ends.
    fn dims(&mut self) -> Option<Result<Dims, Wrong>> {
        let mut sizes = [0; Dims::LEN_MAX];
        let len = self.walk.u32()?;
        let Some(sizes) = sizes.get_mut(..len as usize).filter(|sizes| !sizes.is_empty()) else {
            return Some(Err(Wrong::Count(len)));
        };
        for size in &mut *sizes {
            let found = self.walk.length()?;
            match usize::try_from(found) {
                Ok(found) if found > 0 && found <= isize::MAX as usize => *size = found,
                _ => return Some(Err(Wrong::Size(found))),
            }
        }
        Some(Ok(Dims::new(sizes)))
    }
}

/// Why there are no sizes.
enum Wrong {
    Count(u32),
    Size(u64),
}

fn check_unique(bytes: &[u8], keys: &[Key]) -> Result<()> {
    let name = |i: u32| &bytes[keys[i as usize].name.clone()];
    let mut by_name = memory::collect(0..keys.len() as u32)?;
    memory::sort_by_key(&mut by_name, |i| (name(i), i));
    for pair in by_name.windows(2) {
        if name(pair[0]) == name(pair[1]) {
            let (at, name) = (keys[pair[1] as usize].name.start, name(pair[1]).escape_ascii());
            return Err(malformed!(at, "key '{name}' occurs twice, again"));
        }
    }
    Ok(())
}

fn alignment(bytes: &[u8], keys: &[Key]) -> Result<usize> {
    let name = "general.alignment";
    let Some(key) = keys.iter().find(|key| bytes[key.name.clone()] == *name.as_bytes()) else {
        return Ok(ALIGNMENT_DEFAULT);
    };
    let at = key.value.start;
    let value = match bytes[key.value.clone()].try_into() {
        Ok(value) if key.kind == ValueType::U32 => u32::from_le_bytes(value) as usize,
        _ => return Err(malformed!(at, "key '{name}' is {}, expected u32,", key.kind.name())),
    };
    if value == 0 || !value.is_multiple_of(8) || value > ALIGNMENT_MAX {
        let expected = format_args!("expected a multiple of 8 up to {ALIGNMENT_MAX},");
        return Err(malformed!(at, "key '{name}' is {value}, {expected}"));
    }
    Ok(value)
}

/// Gives each tensor its bytes, checking that they are there and no two overlap.
fn place(bytes: &Bytes, data: usize, tensors: &mut [Tensor], offsets: &[u64]) -> Result<()> {
    for (tensor, offset) in tensors.iter_mut().zip(offsets) {
        let (name, dims, kind) = (&tensor.name, &tensor.dims, tensor.kind);
        let len = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let len = len.and_then(|n| (n / kind.block_len).checked_mul(kind.block_bytes));
        let range = len.and_then(|len| {
            let start = data.checked_add(usize::try_from(*offset).ok()?)?;
            Some(start..start.checked_add(len)?)
        });
        let Some(range) = range.filter(|range| range.end <= bytes.len()) else {
            let (kind, size) = (kind.name, bytes.len());
            let what = format_args!("tensor '{name}' of {dims:?} {kind}");
            return Err(malformed!(
                (data as u64).saturating_add(*offset),
                "{what} runs past the end of the file of {size} bytes: its data starts"
            ));
        };
        tensor.bytes = bytes.slice(range);
    }
    let mut by_place = memory::collect(0..tensors.len() as u32)?;
    let start = |tensor: &Tensor| tensor.bytes.start() - bytes.start();
    memory::sort_by_key(&mut by_place, |i| start(&tensors[i as usize]));
    for pair in by_place.windows(2) {
        let [a, b] = [pair[0], pair[1]].map(|i| &tensors[i as usize]);
        if start(a) + a.bytes.len() > start(b) {
            return Err(malformed!(start(b), "tensors '{}' and '{}' overlap", a.name, b.name));
        }
    }
    Ok(())
}

/// Indices sorted by name; two of one name are an error.
pub(super) fn index(tensors: &[Tensor]) -> Result<Vec<u32>> {
    let mut by_name = memory::collect(0..tensors.len() as u32)?;
    memory::sort_by_key(&mut by_name, |i| (&*tensors[i as usize].name, i));
    for pair in by_name.windows(2) {
        let [a, b] = [pair[0], pair[1]].map(|i| &tensors[i as usize].name);
        if **a == **b {
            let at = b.0.start();
            return Err(malformed!(at, "tensor '{a}' occurs twice, rows {pair:?} of the table,"));
        }
    }
    Ok(by_name)
}
