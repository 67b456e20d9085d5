//! A device that is watched: what each weight is multiplied by, and how much each layer changes.
//!
//! What weights, widths and layers are worth is judged by this (arXiv 2306.00978, 2407.14679, 2403.03853).
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "runs on a computer")]

use super::pair::{Device, Handle, Operand, Operation, load, loads, operations};
use super::{
    Backend, Cache, CacheShape, NormShape, Rotary, RotaryShape, RouteShape, Routing, Row, View,
    Weight,
};
use crate::gguf::Tensor;
use crate::memory::{Shared, filled};
use crate::{Error, Result};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The inputs of one matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// The tensor's name.
    pub tensor: String,
    /// Whose matrix of the tensor it is, where experts have one each.
    pub expert: Option<usize>,
    /// Rows that were multiplied.
    pub rows: u64,
    /// Sum over the rows of their weight: 1 each, or what a router gave the expert.
    pub weight: f64,
    /// Sum over the rows of the square of each column.
    pub squares: Vec<f64>,
}

/// What has been seen so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observations {
    /// Of each matrix, in the order of loading.
    pub inputs: Vec<Inputs>,
    /// Of each layer, the cosines between a row of the residual stream before and after: how many
    /// rows, and their sum.
    cosines: Vec<(u64, f64)>,
}

impl Observations {
    /// The inputs of a tensor's matrices: one, or one an expert.
    pub fn of<'a>(&'a self, tensor: &'a str) -> impl Iterator<Item = &'a Inputs> {
        self.inputs.iter().filter(move |inputs| inputs.tensor == tensor)
    }

    /// How much each layer changes the residual stream: 1 less the mean cosine between a row before and
    /// after (block influence, arXiv 2403.03853); 0 to 2.
    pub fn influences(&self) -> Vec<f64> {
        self.cosines.iter().map(|(rows, sum)| 1.0 - sum / (*rows).max(1) as f64).collect()
    }

    /// Adds what was seen on another device of the same model.
    pub fn add(&mut self, other: &Self) {
        if self.inputs.is_empty() {
            self.inputs.clone_from(&other.inputs);
        } else {
            let both = self.inputs.iter_mut().zip(&other.inputs);
            both.for_each(|(own, other)| own.add(other));
        }
        let missing = other.cosines.len().saturating_sub(self.cosines.len());
        self.cosines.extend(std::iter::repeat_n((0, 0.0), missing));
        for (own, other) in self.cosines.iter_mut().zip(&other.cosines) {
            *own = (own.0 + other.0, own.1 + other.1);
        }
    }

    fn note_change(&mut self, layer: usize, before: &[f32], after: &[f32], width: usize) {
        let missing = (layer + 1).saturating_sub(self.cosines.len());
        self.cosines.extend(std::iter::repeat_n((0, 0.0), missing));
        let (count, sum) = &mut self.cosines[layer];
        for (before, after) in before.chunks_exact(width).zip(after.chunks_exact(width)) {
            *count += 1;
            *sum += cosine(before, after);
        }
    }
}

impl Inputs {
    fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.weight += other.weight;
        self.squares.iter_mut().zip(&other.squares).for_each(|(own, other)| *own += other);
    }

    fn note(&mut self, row: &[f32], weight: f32) {
        self.rows += 1;
        self.weight += f64::from(weight);
        for (sum, value) in self.squares.iter_mut().zip(row) {
            *sum += f64::from(*value) * f64::from(*value);
        }
    }
}

/// 1 for equal rows, also of zeros.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { dot(a, b) / lengths } else { f64::from(u8::from(a == b)) }
}

/// Another device, watched. It is as the other to whoever uses it.
pub struct Watch {
    device: Device,
    observations: Shared<Mutex<Observations>>,
    /// The first of [`Observations::inputs`] of each weight, and how many are its.
    places: Vec<(usize, usize)>,
    /// What was last chosen for each routing.
    choices: Vec<Choice>,
    /// Where the residual stream is, once a batch has begun.
    stream: Option<View>,
    /// The layer at work, if it belongs to that batch, and the stream as it found it.
    layer: Option<usize>,
    before: Vec<f32>,
    /// Why a result could not be read; the next reading gives it.
    failed: Option<Error>,
}

/// Experts and weights of the slots of a batch.
struct Choice {
    experts: Vec<u32>,
    weights: Vec<f32>,
}

impl Watch {
    /// Watches a device without weights.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn new(device: Box<dyn Backend>) -> Result<Self> {
        Ok(Self {
            device: Device::new(device),
            observations: Shared::new(Mutex::default())?,
            places: Vec::new(),
            choices: Vec::new(),
            stream: None,
            layer: None,
            before: Vec::new(),
            failed: None,
        })
    }

    /// What is seen, to be looked at while and after the device is used.
    pub fn observations(&self) -> Shared<Mutex<Observations>> {
        self.observations.clone()
    }

    fn load<T: Handle>(&mut self, take: &dyn Fn(&mut dyn Backend) -> Result<T>) -> Result<T> {
        load(std::slice::from_mut(&mut self.device), &[true], take)
    }

    /// Gives the next weight its inputs, one for each tensor.
    fn expect(&mut self, tensors: &[Tensor], experts: bool) {
        let inputs = &mut lock(&self.observations).inputs;
        self.places.push((inputs.len(), tensors.len()));
        inputs.extend(tensors.iter().enumerate().map(|(i, tensor)| Inputs {
            tensor: tensor.name.to_string(),
            expert: experts.then_some(i),
            rows: 0,
            weight: 0.0,
            squares: vec![0.0; tensor.row_len()],
        }));
    }

    fn run(&mut self, operation: &Operation<'_>, call: &dyn Fn(&mut Device)) {
        // Before the call, which may overwrite what it reads.
        let seen = match operation.name {
            "route" => self.see_choice(operation),
            "matmul" | "matmul_experts" => self.see_inputs(operation),
            _ => Ok(()),
        };
        if let Err(error) = seen {
            self.failed.get_or_insert(error);
        }
        call(&mut self.device);
        if operation.name == "embed" {
            (self.stream, self.layer) = (operation.out, None);
        }
    }

    /// Chooses as the device is about to.
    fn see_choice(&mut self, operation: &Operation<'_>) -> Result<()> {
        let (Some(routing), Some(shape)) = (
            operation.find(|operand| operand.routing()),
            operation.find(|operand| operand.route()),
        ) else {
            return Ok(());
        };
        let mut scores = rows(&mut self.device, operation.reads[0])?;
        let choice = &mut self.choices[routing.0 as usize];
        let slots = choice.experts.chunks_exact_mut(shape.used);
        let slots = slots.zip(choice.weights.chunks_exact_mut(shape.used));
        let scores = scores.chunks_exact_mut(operation.reads[0].width);
        for (scores, (experts, weights)) in scores.zip(slots) {
            attar_kernels::best().softmax(scores);
            shape.choose(scores, experts, weights);
        }
        Ok(())
    }

    fn see_inputs(&mut self, operation: &Operation<'_>) -> Result<()> {
        let (Some(weight), Some(out)) = (operation.find(|operand| operand.weight()), operation.out)
        else {
            return Ok(());
        };
        let x = operation.reads[0];
        let values = rows(&mut self.device, x)?;
        let (first, count) = self.places[weight.0 as usize];
        let mut all = lock(&self.observations);
        let inputs = &mut all.inputs[first..first + count];
        match operation.find(|operand| operand.routing()) {
            None => values.chunks_exact(x.width).for_each(|row| inputs[0].note(row, 1.0)),
            Some(routing) => {
                let choice = &self.choices[routing.0 as usize];
                let slots_a_row = out.rows / x.rows; // 1 where each choice has a row already
                for slot in 0..out.rows {
                    let row = &values[slot / slots_a_row * x.width..][..x.width];
                    inputs[choice.experts[slot] as usize].note(row, choice.weights[slot]);
                }
            }
        }
        Ok(())
    }

    fn see_change(&mut self, stream: View) -> Result<()> {
        let after = rows(&mut self.device, stream)?;
        if let Some(layer) = self.layer {
            lock(&self.observations).note_change(layer, &self.before, &after, stream.width);
        }
        self.before = after;
        Ok(())
    }
}

/// A copy of a view's values, without other columns of its buffer.
fn rows(device: &mut Device, view: View) -> Result<Vec<f32>> {
    let values = device.read(view)?;
    let rows = values.chunks_exact(values.len() / view.rows.max(1));
    Ok(rows.flat_map(|row| &row[view.column..][..view.width]).copied().collect())
}

fn lock(observations: &Mutex<Observations>) -> MutexGuard<'_, Observations> {
    observations.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Backend for Watch {
    fn name(&self) -> &str {
        self.device.backend.name()
    }

    fn threads(&self) -> usize {
        self.device.backend.threads()
    }

    fn vector(&mut self, tensor: &Tensor) -> Result<Weight> {
        self.expect(&[], false); // nothing is multiplied by rows of it
        self.load(&|backend| backend.vector(tensor))
    }

    fn weight(&mut self, experts: &[Tensor]) -> Result<Weight> {
        self.expect(experts, experts.len() > 1);
        self.load(&|backend| backend.weight(experts))
    }

    fn routing(&mut self, rows: usize, used: usize) -> Result<Routing> {
        let routing = self.load(&|backend| backend.routing(rows, used))?;
        let (experts, weights) = (filled(rows * used, 0)?, filled(rows * used, 0.0)?);
        self.choices.push(Choice { experts, weights });
        Ok(routing)
    }

    fn seal(&mut self, rows: usize) -> Result<()> {
        self.device.backend.seal(rows)
    }

    fn claimed_bytes(&self) -> usize {
        self.device.backend.claimed_bytes()
    }

    fn cache_bytes(&self) -> usize {
        self.device.backend.cache_bytes()
    }

    fn device_bytes(&self) -> usize {
        self.device.backend.device_bytes()
    }

    fn layer(&mut self, index: usize) {
        if let Some(stream) = self.stream {
            if let Err(error) = self.see_change(stream) {
                self.failed.get_or_insert(error);
            }
            self.layer = Some(index);
        }
        self.device.backend.layer(index);
    }

    fn cached(&self, cache: Cache, positions: usize, each: &mut dyn FnMut(&[u8])) {
        self.device.backend.cached(cache.on(&self.device.handles), positions, each);
    }

    fn restore(&mut self, cache: Cache, positions: usize, fill: &mut dyn FnMut(&mut [u8])) {
        let cache = cache.on(&self.device.handles);
        self.device.backend.restore(cache, positions, fill);
    }

    fn read(&mut self, x: View) -> Result<&[f32]> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.device.read(x),
        }
    }

    loads!(buffer cache rotary);
    operations!();
}
