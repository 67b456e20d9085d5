//! Weights written to a model's file, and everything a run needs to go on: one GGUF file each.

use super::trainer::Trainer;
use crate::gguf::write::{TensorPlan, Writer};
use crate::gguf::{Gguf, Tensor, TensorType, Value};
use crate::memory::text;
use crate::{Error, Result};
use attar_kernels::Format;
use std::ops::Range;
use std::path::Path;

/// How many steps a run has taken.
const STEP: &str = "attar.train.step";
/// What the run was asked to do: a state of another run is no help.
const RUN: &str = "attar.train.run";
/// What is appended to a tensor's name for the mean of its gradients and of their squares.
const MOMENTS: [&str; 2] = [".first", ".second"];

/// Where the weights of a tensor are among the parameters.
struct Place {
    parameter: usize,
    range: Range<usize>,
}

impl Trainer {
    /// Writes the model that `gguf` is, with the weights learned, in f32, to `out`, which appears when it is
    /// whole. Tensors that are no weights of the model are copied.
    ///
    /// # Errors
    /// [`Error::Io`] naming the path.
    pub fn save(&self, gguf: &Gguf, out: &Path) -> Result<()> {
        let plans: Vec<_> = gguf.tensors().iter().map(|tensor| self.plan(tensor)).collect();
        let metadata = gguf.metadata().filter(|(name, _)| {
            !name.starts_with("split.")
                && !name.starts_with("general.quantization")
                && *name != "general.file_type"
        });
        let metadata = metadata.chain([("general.file_type", Value::U32(0))]);
        let mut writer = Writer::create(out, metadata, &plans)?;
        for tensor in gguf.tensors() {
            match self.place(&tensor.name, tensor.len()) {
                Some(Place { parameter, range }) => {
                    let value = &self.parameters()[parameter].value()[range];
                    writer.append(bytemuck::cast_slice(value))?;
                }
                None => writer.append(&tensor.bytes)?,
            }
        }
        writer.finish()
    }

    fn plan(&self, tensor: &Tensor) -> TensorPlan {
        let kind = match self.place(&tensor.name, tensor.len()) {
            Some(_) => TensorType::of(Format::F32),
            None => tensor.kind,
        };
        TensorPlan { name: tensor.name.to_string(), kind, dims: tensor.dims.to_vec() }
    }

    /// Where the weights of the tensor `name` are, if it learns.
    fn place(&self, name: &str, len: usize) -> Option<Place> {
        self.parameters().iter().enumerate().find_map(|(parameter, p)| {
            let piece = p.pieces().iter().position(|piece| piece.name == name)?;
            let start = piece * (p.value().len() / p.pieces().len());
            p.learns().then_some(Place { parameter, range: start..start + len })
        })
    }

    /// Writes what [`Trainer::resume`] needs to `out`, which appears when it is whole. `run` names all that
    /// the run depends on.
    ///
    /// # Errors
    /// [`Error::Io`] naming the path.
    pub fn checkpoint(&self, run: &str, out: &Path) -> Result<()> {
        let float = TensorType::of(Format::F32);
        let (mut plans, mut data) = (Vec::new(), Vec::new());
        let moments = self.adam.first.iter().zip(&self.adam.second);
        for (parameter, (first, second)) in self.parameters().iter().zip(moments) {
            if !parameter.learns() {
                continue;
            }
            let name = &parameter.pieces()[0].name;
            let values = [parameter.value(), first, second];
            for (values, end) in values.into_iter().zip(["", MOMENTS[0], MOMENTS[1]]) {
                let dims = vec![values.len()];
                plans.push(TensorPlan { name: format!("{name}{end}"), kind: float, dims });
                data.push(values);
            }
        }
        let metadata = [
            ("general.type", Value::String(b"checkpoint")),
            (STEP, Value::U64(self.step)),
            (RUN, Value::String(run.as_bytes())),
        ];
        let mut writer = Writer::create(out, metadata.into_iter(), &plans)?;
        data.iter().try_for_each(|values| writer.append(bytemuck::cast_slice(values)))?;
        writer.finish()
    }

    /// Goes on where a checkpoint of the same `run` was written: later steps have the bits they would have
    /// had without the stop.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the run or a tensor is another; those of opening the file.
    pub fn resume(&mut self, run: &str, path: &Path) -> Result<()> {
        let gguf = Gguf::open(path)?;
        let at = path.display();
        let found = gguf.str(RUN)?.unwrap_or("another program");
        if found != run {
            return Err(Error::Invalid(text!(
                "{at} is of another run: it was '{found}', this is '{run}'"
            )));
        }
        let step = gguf.get(STEP).and_then(|v| u64::try_from(v.integer()?).ok());
        self.step = step.ok_or_else(|| Error::Missing(text!("key '{STEP}' in {at}")))?;
        let read = |name: &str, out: &mut [f32]| -> Result<()> {
            let tensor = gguf.need_tensor(name)?;
            if tensor.len() != out.len() || tensor.format()? != Format::F32 {
                let (found, expected) = (tensor.len(), out.len());
                return Err(Error::Invalid(text!(
                    "{at}: tensor '{name}' has {found} values of {}, expected {expected} of F32",
                    tensor.kind.name
                )));
            }
            Format::F32.info().dequantize(&tensor.bytes, out);
            Ok(())
        };
        let (parameters, adam) = self.learned_mut();
        let moments = adam.first.iter_mut().zip(&mut adam.second);
        for (parameter, (first, second)) in parameters.iter_mut().zip(moments) {
            if parameter.learns() {
                let name = parameter.pieces()[0].name.clone();
                read(&name, parameter.both_mut().0)?;
                read(&format!("{name}{}", MOMENTS[0]), first)?;
                read(&format!("{name}{}", MOMENTS[1]), second)?;
            }
        }
        self.round();
        Ok(())
    }
}
