//! Models split over several files, `NAME-00001-of-0000N.gguf`: the first part holds the metadata,
//! each part its own tensors.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "paths need the system")]

use super::{Contents, Gguf, read};
use crate::bytes::Bytes;
use crate::memory::text;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// The format's numbering has five digits.
const PARTS_MAX: usize = 99_999;

pub(super) fn open(path: &Path) -> Result<Gguf> {
    let first = map(path)?;
    let parts = part_count(&first).map_err(|e| e.in_file(&path.display().to_string()))?;
    if parts < 2 {
        return Ok(first);
    }
    let names = part_names(path, parts)?;
    let parts = names.iter().map(|name| map(name)).collect::<Result<Vec<_>>>()?;
    for (i, (part, name)) in parts.iter().zip(&names).enumerate() {
        let number = part.usize("split.no")?;
        if number != Some(i) || part_count(part)? != parts.len() {
            let name = name.display();
            let (found, count) = (number.unwrap_or(0) + 1, parts.len());
            return Err(Error::Invalid(text!(
                "{name}: says it is part {found}, expected part {} of {count}",
                i + 1
            )));
        }
    }
    join(parts).map_err(|e| e.in_file(&path.display().to_string()))
}

fn map(path: &Path) -> Result<Gguf> {
    Gguf::parse(Bytes::map(path)?).map_err(|e| e.in_file(&path.display().to_string()))
}

fn part_count(gguf: &Gguf) -> Result<usize> {
    let count = gguf.usize("split.count")?.unwrap_or(1);
    if count > PARTS_MAX {
        return Err(Error::Limit(text!("key 'split.count' is {count}, at most {PARTS_MAX}")));
    }
    Ok(count)
}

/// The paths of all parts from that of one.
fn part_names(path: &Path, parts: usize) -> Result<Vec<PathBuf>> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let suffix = format!("-of-{parts:05}.gguf");
    let numbered = name.strip_suffix(&suffix).and_then(|stem| stem.rsplit_once('-'));
    let Some((stem, _)) = numbered.filter(|(_, number)| number.len() == 5) else {
        return Err(Error::Invalid(text!(
            "{}: one of {parts} parts, expected a name that ends in -00001{suffix}",
            path.display()
        )));
    };
    Ok((1..=parts).map(|i| path.with_file_name(format!("{stem}-{i:05}{suffix}"))).collect())
}

fn join(mut parts: Vec<Gguf>) -> Result<Gguf> {
    let rest = parts.split_off(1);
    let first = parts.remove(0);
    let expected = first.usize("split.tensors.count")?;
    let in_use = || Error::Invalid("a file being joined is in use".into());
    let mut contents = first.contents.into_inner().ok_or_else(in_use)?;
    for part in rest {
        contents.tensors.extend_from_slice(part.tensors());
        contents.file_bytes += part.file_bytes();
    }
    let found = contents.tensors.len();
    if expected.is_some_and(|expected| expected != found) {
        let expected = expected.unwrap_or(0);
        return Err(Error::Invalid(text!(
            "all parts together hold {found} tensors, key 'split.tensors.count' says {expected}"
        )));
    }
    let by_name = read::index(&contents.tensors)?;
    Gguf::new(Contents { by_name, ..contents })
}
