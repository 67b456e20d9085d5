//! Two devices in step: both run every operation, and the first whose results depart is kept.
//!
//! The tested device goes on with its own results, so that what follows shows how errors grow.

use super::pair::{Device, Handle, Operand, Operation, load, loads, operations};
use super::{
    Backend, Cache, CacheShape, NormShape, Rotary, RotaryShape, RouteShape, Routing, Row, View,
    Weight,
};
use crate::gguf::Tensor;
use crate::memory::{List, Shared, Text, text};
use crate::{Error, Result};
use alloc::boxed::Box;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// More than there are operations.
const OPERATIONS_MAX: usize = 32;

/// Both devices hold everything.
const BOTH: &[bool] = &[true; 2];

/// Where two devices depart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Departure {
    /// The layer; the number of layers stands for what comes before the first and after the last.
    pub layer: usize,
    /// The operation, by the name of its method.
    pub operation: &'static str,
    /// Row of the result that departs most.
    pub row: usize,
    /// Its column.
    pub column: usize,
    /// What the other device has there.
    pub expected: f32,
    /// What the tested device has there.
    pub found: f32,
    /// Their difference over the largest magnitude of the expected row.
    pub error: f32,
}

/// What comparing has found so far.
#[derive(Debug)]
pub struct Findings {
    /// The first departure beyond the bound.
    pub departure: Option<Departure>,
    /// The largest error of each operation.
    pub errors: List<(&'static str, f32)>,
}

impl Findings {
    fn note(&mut self, largest: Departure, bound: f32) {
        let Departure { operation, error, .. } = largest;
        match self.errors.iter_mut().find(|(name, _)| *name == operation) {
            Some((_, most)) => *most = most.max(error),
            None => self.errors.push((operation, error)),
        }
        if error > bound {
            self.departure.get_or_insert(largest);
        }
    }
}

/// A device under test beside one that is trusted. It is as the tested one to whoever uses it.
pub struct Compare {
    /// The tested one first.
    devices: [Device; 2],
    name: Text,
    bound: f32,
    layer: usize,
    findings: Shared<Mutex<Findings>>,
    /// Why results could not be read; the next reading gives it.
    failed: Option<Error>,
}

impl Compare {
    /// Compares `tested` with `trusted`, both without weights. An error beyond `bound` is a departure.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn new(tested: Box<dyn Backend>, trusted: Box<dyn Backend>, bound: f32) -> Result<Self> {
        let errors = List::claim(OPERATIONS_MAX, ("", 0.0))?;
        Ok(Self {
            name: text!("{} beside {}", tested.name(), trusted.name()),
            devices: [Device::new(tested), Device::new(trusted)],
            bound,
            layer: 0,
            findings: Shared::new(Mutex::new(Findings { departure: None, errors }))?,
            failed: None,
        })
    }

    /// What is found, to be looked at while and after the device is used.
    pub fn findings(&self) -> Shared<Mutex<Findings>> {
        self.findings.clone()
    }

    fn load<T: Handle>(&mut self, take: &dyn Fn(&mut dyn Backend) -> Result<T>) -> Result<T> {
        load(&mut self.devices, BOTH, take)
    }

    fn run(&mut self, operation: &Operation<'_>, call: &dyn Fn(&mut Device)) {
        self.devices.iter_mut().for_each(call);
        let Some(out) = operation.out.filter(|_| operation.results) else { return };
        if let Err(error) = self.compare(operation.name, out) {
            self.failed.get_or_insert(error);
        }
    }

    fn compare(&mut self, operation: &'static str, out: View) -> Result<()> {
        let [tested, trusted] = &mut self.devices;
        let (found, expected) = (tested.read(out)?, trusted.read(out)?);
        let mut largest = Departure {
            operation,
            layer: self.layer,
            row: 0,
            column: 0,
            expected: 0.0,
            found: 0.0,
            error: 0.0,
        };
        let stride = found.len() / out.rows.max(1);
        let rows = found.chunks_exact(stride.max(1)).zip(expected.chunks_exact(stride.max(1)));
        for (row, (found, expected)) in rows.enumerate() {
            let columns = out.column..out.column + out.width;
            let (found, expected) = (&found[columns.clone()], &expected[columns]);
            let scale = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            for (column, (&found, &expected)) in found.iter().zip(expected).enumerate() {
                let error = error(found, expected, scale);
                if error > largest.error {
                    largest = Departure { row, column, expected, found, error, ..largest };
                }
            }
        }
        lock(&self.findings).note(largest, self.bound);
        Ok(())
    }
}

fn lock(findings: &Mutex<Findings>) -> MutexGuard<'_, Findings> {
    findings.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The difference over `scale`; infinite where only one is a number.
fn error(found: f32, expected: f32, scale: f32) -> f32 {
    if found == expected || (found.is_nan() && expected.is_nan()) {
        return 0.0;
    }
    let error = (found - expected).abs() / scale;
    if error.is_nan() { f32::INFINITY } else { error }
}

impl Backend for Compare {
    fn name(&self) -> &str {
        &self.name
    }

    fn threads(&self) -> usize {
        self.devices.iter().map(|device| device.backend.threads()).max().unwrap_or(1)
    }

    fn seal(&mut self, rows: usize) -> Result<()> {
        self.devices.iter_mut().try_for_each(|device| device.backend.seal(rows))
    }

    fn claimed_bytes(&self) -> usize {
        self.devices.iter().map(|device| device.backend.claimed_bytes()).sum()
    }

    fn cache_bytes(&self) -> usize {
        self.devices[0].backend.cache_bytes()
    }

    fn device_bytes(&self) -> usize {
        self.devices.iter().map(|device| device.backend.device_bytes()).sum()
    }

    fn layer(&mut self, index: usize) {
        self.layer = index;
        self.devices.iter_mut().for_each(|device| device.backend.layer(index));
    }

    fn cached(&self, cache: Cache, positions: usize, each: &mut dyn FnMut(&[u8])) {
        let Device { backend, handles } = &self.devices[0];
        backend.cached(cache.on(handles), positions, each);
    }

    fn restore(&mut self, cache: Cache, positions: usize, fill: &mut dyn FnMut(&mut [u8])) {
        let [tested, trusted] = &mut self.devices;
        let (own, other) = (cache.on(&tested.handles), cache.on(&trusted.handles));
        tested.backend.restore(own, positions, fill);
        // Piece by piece from the other: there is no room for all of them.
        let mut n = 0;
        trusted.backend.restore(other, positions, &mut |piece| {
            let mut at = 0;
            tested.backend.cached(own, positions, &mut |other| {
                if at == n {
                    piece.copy_from_slice(other);
                }
                at += 1;
            });
            n += 1;
        });
    }

    fn read(&mut self, x: View) -> Result<&[f32]> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.devices[0].read(x),
        }
    }

    loads!(vector weight buffer cache rotary routing);
    operations!();
}
