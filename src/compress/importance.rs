//! How much the error of each column of a matrix counts: the mean square of what it is multiplied by. It
//! is kept in the file that llama.cpp calls an importance matrix.

use super::observe::observe;
use super::sequences::{Progress, Sequences};
use crate::gguf::write::{ArrayBuf, TensorPlan, Writer};
use crate::gguf::{Gguf, Tensor, TensorType, Value, ValueType};
use crate::memory::text;
use crate::{Error, Result};
use attar_kernels::Format;
use std::collections::BTreeMap;
use std::path::Path;

/// What the matrices of a model were multiplied by.
#[derive(Clone, Debug, PartialEq)]
pub struct Importance {
    /// What was read, such as the names of texts.
    pub datasets: Vec<String>,
    /// Sequences that were read, and the tokens of one.
    pub chunks: (u32, u32),
    entries: BTreeMap<String, Entry>,
}

/// Of one tensor.
#[derive(Clone, Debug, Default, PartialEq)]
struct Entry {
    /// Sum of the squares of each column of each matrix.
    sums: Vec<f64>,
    /// Rows each matrix was multiplied by.
    counts: Vec<f64>,
}

const TYPE: &str = "general.type";
const DATASETS: &str = "imatrix.datasets";
const CHUNK_COUNT: &str = "imatrix.chunk_count";
const CHUNK_SIZE: &str = "imatrix.chunk_size";
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

impl Importance {
    /// Runs a model over sequences; `dataset` says what they are. `progress` is told of tokens.
    ///
    /// # Errors
    /// [`Error::Cancelled`] once `progress` says so, and those of sessions.
    pub fn gather(
        gguf: &Gguf,
        sequences: &Sequences,
        dataset: &str,
        threads: usize,
        progress: Progress<'_>,
    ) -> Result<Self> {
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        for inputs in observe(gguf, sequences, threads, progress)?.inputs {
            // Experts lie in one tensor, or have one each.
            let stacked = gguf.tensor(&inputs.tensor).is_some_and(|t| t.dims.len() > 2);
            let matrix = inputs.expert.filter(|_| stacked).unwrap_or(0);
            let entry = entries.entry(inputs.tensor).or_default();
            entry.add(matrix, inputs.rows, &inputs.squares);
        }
        entries.retain(|_, entry| entry.counts.iter().any(|count| *count > 0.0));
        let chunks = (sequences.len() as u32, sequences.longest() as u32);
        Ok(Self { datasets: vec![dataset.into()], chunks, entries })
    }

    /// Reads a file that this or llama.cpp has written.
    ///
    /// # Errors
    /// Those of [`Gguf::open`]; [`Error::Invalid`] naming what is no importance.
    pub fn open(path: &Path) -> Result<Self> {
        let gguf = Gguf::open(path)?;
        Self::parse(&gguf).map_err(|error| error.in_file(&path.display().to_string()))
    }

    fn parse(gguf: &Gguf) -> Result<Self> {
        match gguf.str(TYPE)? {
            Some("imatrix") => {}
            found => {
                let found = found.unwrap_or("absent");
                return Err(Error::Invalid(text!("key '{TYPE}' is {found}, expected imatrix")));
            }
        }
        let datasets = gguf.array(DATASETS, ValueType::String)?;
        let datasets = datasets.iter().flat_map(|array| array.strings());
        let datasets = datasets.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        let number = |key: &str| Ok::<_, Error>(gguf.u32(key)?.unwrap_or(0));
        let chunks = (number(CHUNK_COUNT)?, number(CHUNK_SIZE)?);
        let mut entries = BTreeMap::new();
        for sums in gguf.tensors() {
            let Some(name) = sums.name.strip_suffix(SUMS) else { continue };
            let counts = gguf.need_tensor(&format!("{name}{COUNTS}"))?;
            let entry = Entry { sums: values(sums)?, counts: values(&counts)? };
            if !entry.sums.len().is_multiple_of(entry.counts.len()) {
                let (sums, counts) = (entry.sums.len(), entry.counts.len());
                return Err(Error::Invalid(text!(
                    "tensor '{name}': {sums} sums for {counts} counts"
                )));
            }
            entries.insert(name.to_owned(), entry);
        }
        match entries.is_empty() {
            true => Err(Error::Missing(text!("tensors whose names end in {SUMS}"))),
            false => Ok(Self { datasets, chunks, entries }),
        }
    }

    /// Writes the file to `out`, where it appears when it is whole.
    ///
    /// # Errors
    /// [`Error::Io`] naming the path.
    pub fn write(&self, out: &Path) -> Result<()> {
        let datasets = ArrayBuf::strings(&self.datasets);
        let metadata = [
            (TYPE, Value::String(b"imatrix")),
            (DATASETS, datasets.value()),
            (CHUNK_COUNT, Value::U32(self.chunks.0)),
            (CHUNK_SIZE, Value::U32(self.chunks.1)),
        ];
        let plan = |name: String, len: usize, matrices: usize| TensorPlan {
            name,
            kind: TensorType::of(Format::F32),
            dims: vec![len, matrices],
        };
        let plans = self.entries.iter().flat_map(|(name, entry)| {
            let matrices = entry.counts.len();
            let len = entry.sums.len() / matrices;
            [
                plan(format!("{name}{SUMS}"), len, matrices),
                plan(format!("{name}{COUNTS}"), 1, matrices),
            ]
        });
        let mut writer = Writer::create(out, metadata.into_iter(), &plans.collect::<Vec<_>>())?;
        for entry in self.entries.values() {
            for values in [&entry.sums, &entry.counts] {
                let bytes = values.iter().flat_map(|value| (*value as f32).to_le_bytes());
                writer.append(&bytes.collect::<Vec<_>>())?;
            }
        }
        writer.finish()
    }

    /// Tensors it says something of.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Mean square of what each column of each matrix of a tensor is multiplied by; `None` where it is not
    /// known. A matrix that nothing was multiplied by, such as an expert never chosen, has ones.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming a tensor of another shape.
    pub fn columns(&self, tensor: &Tensor) -> Result<Option<Vec<f32>>> {
        let Some(entry) = self.entries.get(&*tensor.name) else { return Ok(None) };
        let len = tensor.row_len();
        let experts = tensor.dims.get(2).copied().unwrap_or(1);
        let matrices = entry.counts.len();
        if entry.sums.len() != matrices * len || matrices != 1 && matrices != experts {
            let (columns, name) = (entry.sums.len() / matrices, &tensor.name);
            return Err(Error::Invalid(text!(
                "importance of tensor '{name}' is for {matrices} matrices of {columns} columns, \
                 expected {experts} of {len}"
            )));
        }
        let columns = entry.sums.chunks_exact(len).zip(&entry.counts).flat_map(|(sums, count)| {
            let mean = move |sum: &f64| if *count > 0.0 { (sum / count) as f32 } else { 1.0 };
            sums.iter().map(mean)
        });
        Ok(Some(columns.collect()))
    }
}

impl Entry {
    fn add(&mut self, matrix: usize, rows: u64, squares: &[f64]) {
        if self.counts.len() <= matrix {
            self.counts.resize(matrix + 1, 0.0);
            self.sums.resize((matrix + 1) * squares.len(), 0.0);
        }
        self.counts[matrix] += rows as f64;
        let sums = &mut self.sums[matrix * squares.len()..];
        sums.iter_mut().zip(squares).for_each(|(sum, square)| *sum += square);
    }
}

/// Values of a tensor of f32 that are sound as sums and counts.
fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    if tensor.format()? != Format::F32 {
        let (name, kind) = (&tensor.name, tensor.kind.name);
        return Err(Error::Invalid(text!("tensor '{name}' is {kind}, expected f32")));
    }
    let bytes = tensor.bytes.as_chunks::<4>().0.iter();
    let values: Vec<f64> = bytes.map(|bytes| f32::from_le_bytes(*bytes).into()).collect();
    match values.iter().find(|value| !value.is_finite() || **value < 0.0) {
        Some(bad) => {
            let name = &tensor.name;
            Err(Error::Invalid(text!("tensor '{name}' has {bad}, expected finite, at least 0")))
        }
        None => Ok(values),
    }
}
