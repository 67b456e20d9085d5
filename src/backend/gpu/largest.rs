//! The largest values of a row, found on the device: of a vocabulary only a few candidates come back.

use super::Gpu;
use super::encode::Params;
use super::memory::Id;
use super::record::Reading;
use super::shaders::{Id as Shader, Key};
use crate::Result;
use crate::backend::View;

/// Values found at most; `shaders/largest.wgsl` takes longer with each.
pub(super) const COUNT_MAX: usize = 64;
/// Values a workgroup looks through, as the shader says.
const CHUNK: usize = 1024;

/// Bytes of the candidates that the first pass over a row leaves.
pub(super) fn candidate_bytes(width: usize) -> u64 {
    (width.div_ceil(CHUNK) * COUNT_MAX * 8) as u64
}

impl Gpu {
    pub(super) fn find_largest(&mut self, x: View, count: usize) -> Result<()> {
        assert!(x.rows == 1 && count <= COUNT_MAX);
        self.record();
        let count = count.min(x.width);
        let [mut before, mut after] = self.fixed.candidates;
        let mut len = x.width;
        let mut is_first = true;
        while is_first || len > count {
            let start = if is_first { self.memory.start(x) } else { 0 };
            let params = Params::new(&[start, len as u32, count as u32]);
            let row = self.memory.rows(x).id;
            let chunks = len.div_ceil(CHUNK);
            let key = Key::new(Shader::Largest, &[]).when(is_first, "FIRST");
            self.dispatch(&key, &[row, before, after], &params, [chunks as u32, 1, 1])?;
            (before, after) = (after, before);
            len = chunks * count;
            is_first = false;
        }
        self.read_candidates(before, count)
    }

    fn read_candidates(&mut self, from: Id, count: usize) -> Result<()> {
        let reading = Reading { from, start: 0, bytes: (count * 8) as u64 };
        let mut largest = std::mem::take(&mut self.largest);
        largest.clear();
        let done = self.read_bytes(reading, &mut |bytes| {
            for [value, place] in bytes.as_chunks::<8>().0.iter().map(|pair| {
                let (value, place) = pair.split_at(4);
                [value, place].map(|word| u32::from_le_bytes(word.try_into().unwrap_or_default()))
            }) {
                if place != u32::MAX {
                    largest.push((f32::from_bits(value), place));
                }
            }
        });
        self.largest = largest;
        done
    }
}
