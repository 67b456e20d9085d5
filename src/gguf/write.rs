//! The one way Attar writes GGUF: version 3, tensor by tensor, under a temporary name until whole.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "runs on a computer")]

use super::types::{TensorType, ValueType};
use super::value::{Array, Value};
use crate::memory::text;
use crate::{Error, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// What the data of each tensor is aligned to.
pub const ALIGNMENT: usize = 32;

/// What the tensor table will say.
#[derive(Clone, Debug)]
pub struct TensorPlan {
    /// Name.
    pub name: String,
    /// Encoding.
    pub kind: &'static TensorType,
    /// Length of a row first; a row is whole blocks long.
    pub dims: Vec<usize>,
}

impl TensorPlan {
    /// Size of the data.
    pub fn bytes(&self) -> usize {
        self.dims.iter().product::<usize>() / self.kind.block_len * self.kind.block_bytes
    }
}

/// An array to write: its values of one type, encoded one after another.
#[derive(Clone, Debug)]
pub struct ArrayBuf {
    kind: ValueType,
    len: usize,
    bytes: Vec<u8>,
}

impl ArrayBuf {
    /// An array of values of type `kind`; those of another type are left out.
    pub fn new<'a>(kind: ValueType, values: impl IntoIterator<Item = Value<'a>>) -> Self {
        let mut array = Self { kind, len: 0, bytes: Vec::new() };
        for value in values.into_iter().filter(|value| value.kind() == kind) {
            put_value(&mut array.bytes, value);
            array.len += 1;
        }
        array
    }

    /// An array of strings.
    pub fn strings<T: AsRef<[u8]>>(texts: &[T]) -> Self {
        Self::new(ValueType::String, texts.iter().map(|text| Value::String(text.as_ref())))
    }

    /// The value to write.
    pub fn value(&self) -> Value<'_> {
        Value::Array(Array::encoded(self.kind, self.len, &self.bytes))
    }
}

/// A file under way. Dropping it before [`Writer::finish`] leaves no trace.
pub struct Writer {
    out: BufWriter<File>,
    path: PathBuf,
    temporary: PathBuf,
    /// Bytes still to come of each tensor, the next one last.
    sizes: Vec<usize>,
    written: usize,
    finished: bool,
}

impl Writer {
    /// Writes the header: metadata pairs, and a table of tensors whose data follows in this order.
    /// A `general.alignment` among the pairs is left out: the file is aligned to 32 bytes.
    ///
    /// # Errors
    /// [`Error::Io`] naming the path.
    pub fn create<'a>(
        path: &Path,
        metadata: impl Iterator<Item = (&'a str, Value<'a>)>,
        tensors: &[TensorPlan],
    ) -> Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("model");
        let temporary = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
        let file = File::create(&temporary).map_err(|e| failed(path, e))?;
        let sizes = tensors.iter().rev().map(TensorPlan::bytes).collect();
        let mut writer = Self {
            out: BufWriter::new(file),
            path: path.into(),
            temporary,
            sizes,
            written: 0,
            finished: false,
        };
        writer.put(&header(metadata, tensors))?;
        writer.pad()?;
        Ok(writer)
    }

    /// Appends data of the tensor under way, all of it or a part.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is more than the table says, [`Error::Io`] naming the path.
    pub fn append(&mut self, data: &[u8]) -> Result<()> {
        let missing = self.sizes.last().copied().unwrap_or(0);
        if data.len() > missing {
            let (path, found) = (self.path.display(), data.len());
            return Err(Error::Invalid(text!(
                "{path}: {found} bytes of tensor data, expected at most {missing}"
            )));
        }
        self.put(data)?;
        if data.len() == missing {
            self.sizes.pop();
            return self.pad();
        }
        self.sizes.last_mut().into_iter().for_each(|size| *size -= data.len());
        Ok(())
    }

    /// Makes the file appear under its name, its data safe on the disk.
    ///
    /// # Errors
    /// [`Error::Invalid`] if tensors are missing, [`Error::Io`] naming the path.
    pub fn finish(mut self) -> Result<()> {
        if !self.sizes.is_empty() {
            let (path, missing) = (self.path.display(), self.sizes.len());
            return Err(Error::Invalid(text!("{path}: data of {missing} tensors is missing")));
        }
        self.out.flush().map_err(|e| failed(&self.path, e))?;
        self.out.get_ref().sync_all().map_err(|e| failed(&self.path, e))?;
        std::fs::rename(&self.temporary, &self.path).map_err(|e| failed(&self.path, e))?;
        self.finished = true;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len();
        self.out.write_all(bytes).map_err(|e| failed(&self.path, e))
    }

    fn pad(&mut self) -> Result<()> {
        let missing = self.written.next_multiple_of(ALIGNMENT) - self.written;
        self.put(&[0; ALIGNMENT][..missing])
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing more can be done about a file that cannot be removed.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

fn failed(path: &Path, e: std::io::Error) -> Error {
    Error::io(&format!("write {}", path.display()), e)
}

/// Size of the file that [`Writer::create`] begins, once it is whole.
pub fn file_bytes<'a>(
    metadata: impl Iterator<Item = (&'a str, Value<'a>)>,
    tensors: &[TensorPlan],
) -> usize {
    let data: usize = tensors.iter().map(|plan| plan.bytes().next_multiple_of(ALIGNMENT)).sum();
    header(metadata, tensors).len().next_multiple_of(ALIGNMENT) + data
}

fn header<'a>(
    metadata: impl Iterator<Item = (&'a str, Value<'a>)>,
    tensors: &[TensorPlan],
) -> Vec<u8> {
    let mut pairs = Vec::new();
    let mut count = 0u64;
    for (name, value) in metadata.filter(|(name, _)| *name != "general.alignment") {
        count += 1;
        put_string(&mut pairs, name.as_bytes());
        pairs.extend((value.kind() as u32).to_le_bytes());
        put_value(&mut pairs, value);
    }
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(pairs);
    let mut offset = 0u64;
    for tensor in tensors {
        put_string(&mut out, tensor.name.as_bytes());
        out.extend((tensor.dims.len() as u32).to_le_bytes());
        tensor.dims.iter().for_each(|dim| out.extend((*dim as u64).to_le_bytes()));
        out.extend(tensor.kind.id.to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset += tensor.bytes().next_multiple_of(ALIGNMENT) as u64;
    }
    out
}

fn put_string(out: &mut Vec<u8>, s: &[u8]) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s);
}

fn put_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::U8(v) => out.extend(v.to_le_bytes()),
        Value::I8(v) => out.extend(v.to_le_bytes()),
        Value::U16(v) => out.extend(v.to_le_bytes()),
        Value::I16(v) => out.extend(v.to_le_bytes()),
        Value::U32(v) => out.extend(v.to_le_bytes()),
        Value::I32(v) => out.extend(v.to_le_bytes()),
        Value::F32(v) => out.extend(v.to_le_bytes()),
        Value::Bool(v) => out.push(u8::from(v)),
        Value::String(v) => put_string(out, v),
        Value::Array(v) => put_array(out, v),
        Value::U64(v) => out.extend(v.to_le_bytes()),
        Value::I64(v) => out.extend(v.to_le_bytes()),
        Value::F64(v) => out.extend(v.to_le_bytes()),
    }
}

fn put_array(out: &mut Vec<u8>, array: Array<'_>) {
    out.extend((array.kind as u32).to_le_bytes());
    out.extend((array.len as u64).to_le_bytes());
    array.iter().for_each(|value| put_value(out, value));
}
