//! Walking the header of a GGUF file, with every check.

use super::types::{TensorType, ValueType};
use super::value::Walk;
use super::{Contents, Key, Tensor};
use crate::bytes::Bytes;
use crate::memory::{Text, text};
use crate::{Error, Result};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

const MAGIC: &[u8] = b"GGUF";
const ALIGNMENT_DEFAULT: usize = 32;
const ALIGNMENT_MAX: usize = 1 << 20;
/// The format's own limit on names of keys.
const KEY_LEN_MAX: usize = 65535;
const TENSOR_NAME_LEN_MAX: usize = 1024;
/// More keys or tensors than the largest known model has, few enough to bound our tables.
const COUNT_MAX: u64 = 1 << 16;
const DIMS_MAX: usize = 4;

/// The header under way.
struct Reader<'a> {
    bytes: &'a [u8],
    walk: Walk<'a>,
}

pub(super) fn parse(bytes: Bytes) -> Result<Contents> {
    let mut reader = Reader { bytes: &bytes, walk: Walk { bytes: &bytes, wide: true } };
    let version = reader.version()?;
    let tensor_count = reader.count("tensors")?;
    let key_count = reader.count("keys")?;
    let mut keys = Vec::new();
    for i in 0..key_count {
        keys.push(reader.key(i, key_count)?);
    }
    check_unique(&bytes, &keys)?;
    let alignment = alignment(&bytes, &keys)?;
    let mut tensors = Vec::new();
    let mut offsets = Vec::new();
    for i in 0..tensor_count {
        let (tensor, offset) = reader.tensor(i, tensor_count, alignment)?;
        tensors.push(tensor);
        offsets.push(offset);
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

    fn error(&self, at: usize, what: &str) -> Error {
        Error::Format { at: at as u64, text: text!("{what}") }
    }

    fn version(&mut self) -> Result<u32> {
        let magic = self.walk.take(4).ok_or_else(|| self.error(0, "file ends before its magic"))?;
        if magic != MAGIC {
            return Err(self.error(0, "no GGUF file: expected the magic 'GGUF'"));
        }
        let version =
            self.walk.u32().ok_or_else(|| self.error(4, "file ends before its version"))?;
        if (1..=3).contains(&version.swap_bytes()) {
            return Err(Error::Unsupported("a big-endian GGUF file".into()));
        }
        if !(1..=3).contains(&version) {
            return Err(Error::Unsupported(text!("GGUF version {version}, expected 1 to 3")));
        }
        self.walk.wide = version > 1;
        Ok(version)
    }

    fn count(&mut self, what: &str) -> Result<u64> {
        let at = self.offset();
        let ends = || format!("file ends before its count of {what}");
        let count = self.walk.length().ok_or_else(|| self.error(at, &ends()))?;
        if count > COUNT_MAX {
            return Err(Error::Limit(text!(
                "{count} {what} at byte {at}, expected at most {COUNT_MAX}"
            )));
        }
        Ok(count)
    }

    /// A name of at most `len_max` bytes, and where it lies.
    fn name(&mut self, what: &str, len_max: usize) -> Result<(&'a str, Range<usize>)> {
        let at = self.offset();
        let wrong = |reader: &Self, why: &str| reader.error(at, &format!("name of {what} {why}"));
        let name =
            self.walk.string().ok_or_else(|| wrong(self, "runs past the end of the file"))?;
        if name.len() > len_max {
            return Err(wrong(
                self,
                &format!("has {} bytes, at most {len_max} are allowed,", name.len()),
            ));
        }
        let name = core::str::from_utf8(name).map_err(|_| wrong(self, "is not UTF-8"))?;
        let end = self.offset();
        Ok((name, end - name.len()..end))
    }

    fn key(&mut self, i: u64, count: u64) -> Result<Key> {
        let (text, name) = self.name(&format!("key {} of {count}", i + 1), KEY_LEN_MAX)?;
        let at = self.offset();
        let id = self.walk.u32();
        let id = id
            .ok_or_else(|| self.error(at, &format!("file ends before the type of key '{text}'")))?;
        let Some(kind) = ValueType::from_id(id) else {
            let what = format!("key '{text}' has value type {id}, expected 0 to 12,");
            return Err(self.error(at, &what));
        };
        let start = self.offset();
        let whole = self.walk.value(kind).is_some();
        if !whole {
            let what = format!("value of key '{text}' is no {} or runs past the end,", kind.name());
            return Err(self.error(start, &what));
        }
        Ok(Key { name, kind, value: start..self.offset() })
    }

    /// A row of the tensor table, with the offset of its data. The bytes are found later.
    fn tensor(&mut self, i: u64, count: u64, alignment: usize) -> Result<(Tensor, u64)> {
        let (name, _) = self.name(&format!("tensor {} of {count}", i + 1), TENSOR_NAME_LEN_MAX)?;
        let at = self.offset();
        let wrong = |reader: &Self, why: &str| reader.error(at, &format!("tensor '{name}' {why}"));
        let ends = "runs past the end of the file";
        let dims_len = self.walk.u32().ok_or_else(|| wrong(self, ends))? as usize;
        if dims_len == 0 || dims_len > DIMS_MAX {
            return Err(wrong(
                self,
                &format!("has {dims_len} dimensions, expected 1 to {DIMS_MAX},"),
            ));
        }
        let mut dims = Vec::with_capacity(dims_len);
        for _ in 0..dims_len {
            let dim = self.walk.length().ok_or_else(|| wrong(self, ends))?;
            match usize::try_from(dim) {
                Ok(dim) if dim > 0 && dim <= isize::MAX as usize => dims.push(dim),
                _ => return Err(wrong(self, &format!("has a dimension of {dim}"))),
            }
        }
        let id = self.walk.u32().ok_or_else(|| wrong(self, ends))?;
        let kind = TensorType::from_id(id)
            .ok_or_else(|| wrong(self, &format!("has the unknown type {id}")))?;
        if kind.block_bytes == 0 {
            return Err(Error::Unsupported(text!(
                "tensor '{name}' of withdrawn type {}",
                kind.name
            )));
        }
        if !dims[0].is_multiple_of(kind.block_len) {
            let (row, block) = (dims[0], kind.block_len);
            return Err(wrong(self, &format!("has rows of {row}, no multiple of {block},")));
        }
        let offset = self.walk.number().map(u64::from_le_bytes).ok_or_else(|| wrong(self, ends))?;
        if !offset.is_multiple_of(alignment as u64) {
            return Err(wrong(self, &format!("has data at {offset}, no multiple of {alignment},")));
        }
        Ok((Tensor { name: name.to_string(), kind, dims, bytes: Bytes::from_static(&[]) }, offset))
    }
}

fn malformed(at: usize, text: Text) -> Error {
    Error::Format { at: at as u64, text }
}

fn check_unique(bytes: &[u8], keys: &[Key]) -> Result<()> {
    let mut places: Vec<&Range<usize>> = keys.iter().map(|key| &key.name).collect();
    places.sort_by(|a, b| bytes[(*a).clone()].cmp(&bytes[(*b).clone()]));
    for pair in places.windows(2) {
        let name = &bytes[pair[1].clone()];
        if bytes[pair[0].clone()] == *name {
            let (name, at) = (String::from_utf8_lossy(name), pair[1].start.max(pair[0].start));
            return Err(malformed(at, text!("key '{name}' occurs twice, again")));
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
        _ => {
            let kind = key.kind.name();
            return Err(malformed(at, text!("key '{name}' is {kind}, expected u32,")));
        }
    };
    if value == 0 || !value.is_multiple_of(8) || value > ALIGNMENT_MAX {
        let what =
            text!("key '{name}' is {value}, expected a multiple of 8 up to {ALIGNMENT_MAX},");
        return Err(malformed(at, what));
    }
    Ok(value)
}

/// Gives each tensor its bytes, checking that they are there and no two overlap.
fn place(bytes: &Bytes, data: usize, tensors: &mut [Tensor], offsets: &[u64]) -> Result<()> {
    let mut ranges = Vec::with_capacity(tensors.len());
    for (tensor, offset) in tensors.iter_mut().zip(offsets) {
        let (name, dims, kind) = (&tensor.name, &tensor.dims, tensor.kind);
        let len = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let len = len.and_then(|n| (n / kind.block_len).checked_mul(kind.block_bytes));
        let range = len.and_then(|len| {
            let start = data.checked_add(usize::try_from(*offset).ok()?)?;
            Some(start..start.checked_add(len)?)
        });
        match range.filter(|range| range.end <= bytes.len()) {
            Some(range) => {
                tensor.bytes = bytes.slice(range.clone());
                ranges.push((range, name));
            }
            None => {
                let (kind, size) = (kind.name, bytes.len());
                let what = text!(
                    "tensor '{name}' of {dims:?} {kind} runs past the end of the file of {size} \
                     bytes: its data starts {offset} bytes after the tables, which end"
                );
                return Err(malformed(data, what));
            }
        }
    }
    ranges.sort_by_key(|(range, _)| range.start);
    for pair in ranges.windows(2) {
        let [(first, a), (second, b)] = pair else { continue };
        if first.end > second.start {
            return Err(malformed(second.start, text!("tensors '{a}' and '{b}' overlap")));
        }
    }
    Ok(())
}

/// Indices sorted by name; two of one name are an error.
pub(super) fn index(tensors: &[Tensor]) -> Result<Vec<u32>> {
    let mut by_name: Vec<u32> = (0..tensors.len() as u32).collect();
    by_name.sort_by(|a, b| tensors[*a as usize].name.cmp(&tensors[*b as usize].name));
    for pair in by_name.windows(2) {
        let [a, b] = [pair[0], pair[1]].map(|i| &tensors[i as usize].name);
        if a == b {
            let what = text!("tensor '{a}' occurs twice, rows {pair:?} of the table");
            return Err(Error::Invalid(what));
        }
    }
    Ok(by_name)
}
