//! Metadata values: views of bytes that were checked when the file was opened.

use super::types::ValueType;

/// A metadata value. Strings are bytes: a file is not bound to UTF-8 there.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(&'a [u8]),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// Its type.
    pub fn kind(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array(_) => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }

    /// A whole number of any type.
    pub fn integer(&self) -> Option<i128> {
        match *self {
            Self::U8(v) => Some(v.into()),
            Self::I8(v) => Some(v.into()),
            Self::U16(v) => Some(v.into()),
            Self::I16(v) => Some(v.into()),
            Self::U32(v) => Some(v.into()),
            Self::I32(v) => Some(v.into()),
            Self::U64(v) => Some(v.into()),
            Self::I64(v) => Some(v.into()),
            Self::F32(_) | Self::F64(_) | Self::Bool(_) | Self::String(_) | Self::Array(_) => None,
        }
    }

    /// A float of either type.
    pub fn float(&self) -> Option<f64> {
        match *self {
            Self::F32(v) => Some(v.into()),
            Self::F64(v) => Some(v),
            _ => None, // a whole number is not what was meant
        }
    }
}

/// An array of values of one type, decoded as it is read.
#[derive(Clone, Copy)]
pub struct Array<'a> {
    /// Type of every element.
    pub kind: ValueType,
    /// Number of elements.
    pub len: usize,
    /// The elements, from the first.
    pub(super) bytes: &'a [u8],
    /// Whether lengths take 8 bytes; in version 1 of the format they take 4.
    pub(super) wide: bool,
}

impl<'a> Array<'a> {
    /// A view of elements encoded as version 3 of the format has them.
    #[cfg(feature = "std")]
    pub(super) fn encoded(kind: ValueType, len: usize, bytes: &'a [u8]) -> Self {
        Self { kind, len, bytes, wide: true }
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let mut cursor = Walk { bytes: self.bytes, wide: self.wide };
        let kind = self.kind;
        (0..self.len).map_while(move |_| cursor.value(kind))
    }

    /// The elements of an array of strings, without copying them; none of another array.
    pub fn strings(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.iter().filter_map(|value| match value {
            Value::String(s) => Some(s),
            _ => None, // the array holds something else throughout
        })
    }
}

impl core::fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "[{}; {}]", self.kind.name(), self.len)
    }
}

/// Reads values one after another; `None` past the end, and for what is no value.
pub(super) struct Walk<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) wide: bool,
}

/// Arrays of arrays of ...: deeper than any real file, shallow enough for a small stack.
const DEPTH_MAX: usize = 4;

impl<'a> Walk<'a> {
    pub(super) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(n)?;
        self.bytes = rest;
        Some(taken)
    }

    pub(super) fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.number().map(u32::from_le_bytes)
    }

    /// A length or count.
    pub(super) fn length(&mut self) -> Option<u64> {
        if self.wide { self.number().map(u64::from_le_bytes) } else { self.u32().map(u64::from) }
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.length()?).ok()?;
        self.take(len)
    }

    pub(super) fn value(&mut self, kind: ValueType) -> Option<Value<'a>> {
        Some(match kind {
            ValueType::U8 => Value::U8(self.number::<1>()?[0]),
            ValueType::I8 => Value::I8(self.number::<1>()?[0] as i8),
            ValueType::U16 => Value::U16(u16::from_le_bytes(self.number()?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(self.number()?)),
            ValueType::U32 => Value::U32(self.u32()?),
            ValueType::I32 => Value::I32(i32::from_le_bytes(self.number()?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(self.number()?)),
            ValueType::Bool => Value::Bool(match self.number::<1>()?[0] {
                0 => false,
                1 => true,
                _ => return None,
            }),
            ValueType::String => Value::String(self.string()?),
            ValueType::Array => Value::Array(self.array(DEPTH_MAX)?),
            ValueType::U64 => Value::U64(u64::from_le_bytes(self.number()?)),
            ValueType::I64 => Value::I64(i64::from_le_bytes(self.number()?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(self.number()?)),
        })
    }

    /// Steps over an array, checking that each element is there; nothing is allocated.
    fn array(&mut self, depth: usize) -> Option<Array<'a>> {
        let kind = ValueType::from_id(self.u32()?)?;
        let len = usize::try_from(self.length()?).ok()?;
        let bytes = self.bytes;
        match kind {
            ValueType::String => (0..len).try_for_each(|_| self.string().map(drop))?,
            ValueType::Array => {
                let depth = depth.checked_sub(1)?;
                (0..len).try_for_each(|_| self.array(depth).map(drop))?;
            }
            ValueType::Bool => {
                let flags = self.take(len)?;
                flags.iter().all(|flag| *flag <= 1).then_some(())?;
            }
            _ => drop(self.take(len.checked_mul(kind.size())?)?),
        }
        let bytes = &bytes[..bytes.len() - self.bytes.len()];
        Some(Array { kind, len, bytes, wide: self.wide })
    }
}
