//! Where the bytes of a model come from: in place if they can be, else copied.
#![allow(unsafe_code, reason = "bytes lent for the life of a handle; descriptors of the caller")]

use super::failure::{Failure, Outcome, Status, failure, wrong};
use super::lent::{self, Progress};
use super::types::AttarSource;
use crate::Gguf;
use crate::bytes::Bytes;
use crate::memory::Block;
use core::ffi::c_void;

/// `ctx` is a file descriptor.
const FLAG_FD: u32 = 1;

/// Bytes read at a time.
const CHUNK: usize = 1 << 16;

/// An open file.
pub(super) struct Opened {
    /// Views of `kept`: dropped first.
    pub(super) gguf: Gguf,
    kept: Kept,
}

impl Opened {
    /// Maps or copies a whole file and reads its header.
    pub(super) fn open(source: &AttarSource, copy: bool, progress: &Progress) -> Outcome<Self> {
        let kept = Kept::open(source, copy, progress)?;
        let bytes = kept.slice();
        // SAFETY: the same bytes; they do not move with `kept`, which lives as long as every view:
        // all views stay in the handle that has this.
        let bytes = unsafe { core::slice::from_raw_parts(bytes.as_ptr(), bytes.len()) };
        let gguf = Gguf::parse(Bytes::from_static(bytes)).map_err(Failure::in_file)?;
        Ok(Self { gguf, kept })
    }

    /// The whole file.
    pub(super) fn bytes(&self) -> &[u8] {
        self.kept.slice()
    }

    /// Bytes used where they lie, not copied.
    pub(super) fn mapped_len(&self) -> usize {
        match self.kept {
            Kept::Copied(_) => 0,
            _ => self.bytes().len(),
        }
    }
}

/// What keeps the bytes of a model.
enum Kept {
    Lent(AttarSource, &'static [u8]),
    #[cfg(all(feature = "std", unix))]
    Mapped(memmap2::Mmap),
    Copied(Block<u8>),
}

impl Kept {
    fn open(source: &AttarSource, copy: bool, progress: &Progress) -> Outcome<Self> {
        if source.flags & !FLAG_FD != 0 {
            return Err(failure(Status::Version, "unknown flags of a source"));
        }
        let len = usize::try_from(source.length).ok().filter(|len| *len <= isize::MAX as usize);
        let Some(len) = len else {
            return Err(failure(Status::Limit, "a file larger than the address space"));
        };
        if source.start.checked_add(source.length).is_none() {
            return Err(wrong("a source without end"));
        }
        if !copy {
            if source.flags & FLAG_FD != 0 {
                return descriptor::map(source, len);
            }
            if let Some(bytes) = lent::map(source, len) {
                return Ok(Self::Lent(*source, bytes));
            }
        }
        let mut bytes = Block::claim(len, 0)?;
        for (i, chunk) in bytes.chunks_mut(CHUNK).enumerate() {
            let at = i * CHUNK;
            progress.tell((900 * (at as u64) / source.length) as u32)?;
            lent::read_at(source, at as u64, chunk)?;
        }
        Ok(Self::Copied(bytes))
    }

    fn slice(&self) -> &[u8] {
        match self {
            Self::Lent(_, bytes) => bytes,
            #[cfg(all(feature = "std", unix))]
            Self::Mapped(map) => map,
            Self::Copied(bytes) => bytes,
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Self::Lent(source, bytes) = self {
            lent::unmap(source, bytes);
        }
    }
}

/// A source over memory.
pub(super) fn memory(out: &mut AttarSource, data: *const c_void, len: usize) {
    *out = AttarSource {
        size: out.size,
        flags: 0,
        length: len as u64,
        start: 0,
        ctx: data.cast_mut(),
        read_at: Some(memory_read_at),
        map: Some(memory_map),
        unmap: None,
    };
}

unsafe extern "C" fn memory_map(data: *mut c_void, offset: u64, _: usize) -> *const c_void {
    data.cast::<u8>().wrapping_add(offset as usize).cast_const().cast()
}

unsafe extern "C" fn memory_read_at(
    data: *mut c_void,
    offset: u64,
    room: *mut c_void,
    len: usize,
) -> i32 {
    let from = data.cast::<u8>().wrapping_add(offset as usize);
    // SAFETY: the library asks for nothing beyond the length of the source, into room of its own.
    unsafe { core::ptr::copy_nonoverlapping(from, room.cast::<u8>(), len) };
    0
}

/// A source over an open file: `len` bytes from `start`, 0 for all that follow.
pub(super) fn file(out: &mut AttarSource, fd: i32, start: u64, len: u64) -> Outcome<()> {
    let rest = descriptor::len(fd)?
        .checked_sub(start)
        .ok_or_else(|| wrong("a start beyond the end of the file"))?;
    if len > rest {
        return Err(wrong("a length beyond the end of the file"));
    }
    *out = AttarSource {
        size: out.size,
        flags: FLAG_FD,
        length: if len == 0 { rest } else { len },
        start,
        ctx: core::ptr::without_provenance_mut(fd as usize),
        read_at: Some(descriptor::read_at),
        map: None,
        unmap: None,
    };
    Ok(())
}

#[cfg(all(feature = "std", unix))]
mod descriptor {
    use super::*;
    use std::fs::File;
    use std::mem::ManuallyDrop;
    use std::os::fd::FromRawFd;
    use std::os::unix::fs::FileExt;

    /// The caller's descriptor as a file that is not closed.
    fn borrow(fd: i32) -> Outcome<ManuallyDrop<File>> {
        if fd < 0 {
            return Err(wrong("a negative file descriptor"));
        }
        // SAFETY: nothing is closed; a number that is no open file fails when it is used.
        Ok(ManuallyDrop::new(unsafe { File::from_raw_fd(fd) }))
    }

    pub(super) fn len(fd: i32) -> Outcome<u64> {
        let data = borrow(fd)?.metadata();
        data.map(|data| data.len()).map_err(|_| failure(Status::Io, "not an open file"))
    }

    pub(super) unsafe extern "C" fn read_at(
        ctx: *mut c_void,
        at: u64,
        room: *mut c_void,
        len: usize,
    ) -> i32 {
        let Ok(file) = borrow(ctx.addr() as i32) else { return -1 };
        // SAFETY: room of the library's own, of this length.
        let room = unsafe { core::slice::from_raw_parts_mut(room.cast::<u8>(), len) };
        if file.read_exact_at(room, at).is_ok() { 0 } else { -1 }
    }

    pub(super) fn map(source: &AttarSource, len: usize) -> Outcome<Kept> {
        let fd = source.ctx.addr() as i32;
        if self::len(fd)? < source.start + source.length {
            return Err(failure(Status::Io, "the file is shorter than it was"));
        }
        if len == 0 {
            return Ok(Kept::Copied(Block::default())); // nothing to map
        }
        let mut options = memmap2::MmapOptions::new();
        // SAFETY: the map is read only; that the file does not shrink is what the header asks for.
        let map = unsafe { options.offset(source.start).len(len).map(fd) };
        map.map(Kept::Mapped).map_err(|_| failure(Status::Io, "the system cannot map the file"))
    }
}

#[cfg(not(all(feature = "std", unix)))]
mod descriptor {
    use super::*;

    fn absent() -> Failure {
        failure(Status::Unsupported, "there are no file descriptors here")
    }

    pub(super) fn len(_: i32) -> Outcome<u64> {
        Err(absent())
    }

    pub(super) unsafe extern "C" fn read_at(
        _: *mut c_void,
        _: u64,
        _: *mut c_void,
        _: usize,
    ) -> i32 {
        -1
    }

    pub(super) fn map(_: &AttarSource, _: usize) -> Outcome<Kept> {
        Err(absent())
    }
}
