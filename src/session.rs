//! A conversation with a model: its cache, its place, and tokens in and logits out.
//!
//! [`Session::open`] claims all memory on the CPU, [`Session::open_on`] on any device; nothing later
//! allocates. The logits of a token depend on the tokens before it and on nothing else: not on the
//! number of threads, nor on how the tokens were divided among calls.

mod choose;
#[cfg(feature = "gpu")]
mod gpu;
mod score;
mod state;

#[cfg(feature = "gpu")]
pub use gpu::GpuLayers;
pub use score::{Score, log_probability, log_total};

use crate::arch::{self, LoadOptions};
use crate::backend::{Backend, Cpu, CpuOptions, Executor, Row};
use crate::gguf::Gguf;
use crate::memory::{self, Block, List, Shared, text};
use crate::model::Decoder;
use crate::model::stack::Layer;
use crate::{Error, Result};
use alloc::boxed::Box;
use attar_kernels::{Format, Isa};
use core::sync::atomic::{AtomicBool, Ordering};

/// How to open a session. The default leaves every choice to the model and the machine.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Positions to have room for; 0 means as many as the model knows, at most 4096.
    pub context_len: usize,
    /// Tokens of a prompt to process together; 0 means 512. More is faster and takes more memory.
    pub batch_len: usize,
    /// Threads, the caller's included; 0 means one a core, or all that are lent.
    pub threads: usize,
    /// Threads to use instead of our own.
    pub executor: Option<&'static dyn Executor>,
    /// Encoding of keys and values: F16, F32 for twice the memory, or Q8_0 for about half where heads are
    /// multiples of 32 wide.
    pub cache: Format,
    /// Kernels to use instead of the fastest the CPU can run.
    pub isa: Option<&'static Isa>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            context_len: 0,
            batch_len: 0,
            threads: 0,
            executor: None,
            cache: Format::F16,
            isa: None,
        }
    }
}

impl Options {
    fn cpu_options(&self) -> CpuOptions {
        CpuOptions { threads: self.threads, executor: self.executor, isa: self.isa }
    }

    /// The CPU that [`Session::open`] runs on.
    ///
    /// # Errors
    /// Those of [`Cpu::new`], and [`Error::Memory`].
    pub fn cpu(&self) -> Result<Box<dyn Backend>> {
        Ok(memory::boxed(Cpu::new(self.cpu_options())?)?)
    }
}

/// What [`Session::read_each`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readout {
    /// Logits, one a token of the vocabulary.
    Logits,
    /// The last layer's output after the last norm, `width` numbers.
    States,
}

/// Where a session's memory is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The file, mapped and used in place.
    pub file_bytes: usize,
    /// Cache, buffers and scratch, claimed when the session was opened. Where memory is lent, all of it
    /// that opening takes; elsewhere without some kilobytes of tables.
    pub session_bytes: usize,
    /// Keys and values, part of `session_bytes` or of `device_bytes`; each position has an equal part.
    pub cache_bytes: usize,
    /// Claimed in a device's own memory, weights included; 0 on the CPU.
    pub device_bytes: usize,
}

/// A model and a place in a text.
pub struct Session {
    backend: Box<dyn Backend>,
    decoder: Decoder,
    position: usize,
    /// The batch at work.
    rows: List<Row>,
    cancel: Shared<AtomicBool>,
    plan: Plan,
}

impl Session {
    /// Reads the model of a file and claims all memory the session will need, on the CPU.
    ///
    /// # Errors
    /// [`Error::Unsupported`] or [`Error::Invalid`] if the file holds no model this build runs,
    /// [`Error::Memory`], and those of starting threads.
    pub fn open(gguf: &Gguf, options: &Options) -> Result<Self> {
        Self::open_made(gguf, options, || options.cpu())
    }

    /// As [`Session::open`], on a device without weights. What `options` say of the CPU has no meaning
    /// then.
    ///
    /// # Errors
    /// As [`Session::open`], and those of the device.
    pub fn open_on(gguf: &Gguf, options: &Options, backend: Box<dyn Backend>) -> Result<Self> {
        Self::open_made(gguf, options, || Ok(backend))
    }

    /// As [`Session::open_on`]; the plan counts what making the device takes.
    fn open_made(
        gguf: &Gguf,
        options: &Options,
        make: impl FnOnce() -> Result<Box<dyn Backend>>,
    ) -> Result<Self> {
        let (session, taken) = memory::taken(|| Self::load(gguf, options, make()?));
        let mut session = session?;
        session.plan.session_bytes = taken.unwrap_or(session.plan.session_bytes);
        Ok(session)
    }

    fn load(gguf: &Gguf, options: &Options, mut backend: Box<dyn Backend>) -> Result<Self> {
        let sizes = LoadOptions {
            context_len: options.context_len,
            batch_len: options.batch_len,
            cache: options.cache,
            sequences: 1,
            logit_rows: 0,
        };
        let decoder = arch::load(gguf, &mut *backend, &sizes)?;
        let batch_len = decoder.shape.batch_len;
        let rows = List::claim(batch_len, Row { sequence: 0, position: 0 })?;
        let cancel = Shared::new(AtomicBool::new(false))?;
        let plan = Plan {
            file_bytes: gguf.file_bytes(),
            session_bytes: backend.claimed_bytes() + Block::<Row>::bytes(batch_len),
            cache_bytes: backend.cache_bytes(),
            device_bytes: backend.device_bytes(),
        };
        Ok(Self { backend, decoder, position: 0, rows, cancel, plan })
    }

    /// Where the memory of a session would be, byte for byte, without claiming it.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn plan_for(gguf: &Gguf, options: &Options) -> Result<Plan> {
        let options = Options { threads: Cpu::threads_for(options.cpu_options()), ..*options };
        Self::plan_on(gguf, &options, &|| options.cpu())
    }

    /// The same of a session on the device that `make` makes, perhaps several times. Blocks of the
    /// host's memory are only counted; whether the device's own is claimed is up to the device.
    ///
    /// # Errors
    /// As [`Session::open_on`].
    pub fn plan_on(
        gguf: &Gguf,
        options: &Options,
        make: &dyn Fn() -> Result<Box<dyn Backend>>,
    ) -> Result<Plan> {
        memory::measure(|| Ok(Self::open_made(gguf, options, make)?.plan))
    }

    /// Appends tokens; returns the logits that follow the last, one a token of the vocabulary.
    ///
    /// # Errors
    /// [`Error::Invalid`] for no tokens, [`Error::Token`] for an id beyond the vocabulary,
    /// [`Error::ContextFull`] if the context has no room: nothing is appended then. [`Error::Cancelled`] if the flag of
    /// [`Session::cancel_flag`] was set: of the tokens, whole batches may have been appended, as
    /// [`Session::position`] tells.
    pub fn feed(&mut self, ids: &[u32]) -> Result<&[f32]> {
        let cancel = self.cancel.clone();
        self.feed_while(ids, &|| !cancel.load(Ordering::Relaxed))
    }

    /// As [`Session::feed`], but asks `go_on` before each layer and before the logits instead of looking at the flag.
    ///
    /// # Errors
    /// As [`Session::feed`]; [`Error::Cancelled`] once `go_on` says no.
    pub fn feed_while(&mut self, ids: &[u32], go_on: &dyn Fn() -> bool) -> Result<&[f32]> {
        let last = self.append(ids, go_on)?;
        self.ask(go_on)?;
        self.decoder.logits(&mut *self.backend, last, 1)
    }

    /// Appends tokens; says which row of the last batch is the last of them.
    fn append(&mut self, ids: &[u32], go_on: &dyn Fn() -> bool) -> Result<usize> {
        self.check(ids)?;
        let mut count = 0;
        for ids in ids.chunks(self.decoder.shape.batch_len) {
            self.advance(ids, go_on)?;
            count = ids.len();
        }
        Ok(count - 1)
    }

    /// Appends tokens and calls `each(i, logits that follow the i-th)` for all of them in order.
    ///
    /// # Errors
    /// As [`Session::feed`].
    pub fn feed_each(&mut self, ids: &[u32], each: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        let cancel = self.cancel.clone();
        self.read_each(Readout::Logits, ids, &|| !cancel.load(Ordering::Relaxed), each)
    }

    /// Appends tokens and calls `each(i, what is read out of the i-th)` for all of them in order;
    /// asks `go_on` before each layer and before each reading.
    ///
    /// # Errors
    /// As [`Session::feed_while`].
    pub fn read_each(
        &mut self,
        what: Readout,
        ids: &[u32],
        go_on: &dyn Fn() -> bool,
        each: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()> {
        self.check(ids)?;
        let shape = self.decoder.shape;
        for (batch, ids) in ids.chunks(shape.batch_len).enumerate() {
            self.advance(ids, go_on)?;
            for first in (0..ids.len()).step_by(shape.logit_rows) {
                let count = shape.logit_rows.min(ids.len() - first);
                self.ask(go_on)?;
                let (rows, len) = match what {
                    Readout::Logits => {
                        (self.decoder.logits(&mut *self.backend, first, count)?, shape.vocab_len)
                    }
                    Readout::States => {
                        (self.decoder.states(&mut *self.backend, first, count)?, shape.width)
                    }
                };
                for (r, row) in rows.chunks_exact(len).enumerate() {
                    each(batch * shape.batch_len + first + r, row);
                }
            }
        }
        Ok(())
    }

    fn check(&self, ids: &[u32]) -> Result<()> {
        if ids.is_empty() {
            return Err(Error::Invalid("no tokens to feed".into()));
        }
        let vocab_len = self.decoder.shape.vocab_len;
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocab_len) {
            return Err(Error::Token { id: *id, vocab_len });
        }
        let (position, context_len) = (self.position, self.decoder.shape.context_len);
        if ids.len() > context_len - position {
            return Err(Error::ContextFull { context_len, position, more: ids.len() });
        }
        Ok(())
    }

    /// Goes on, or stops with everything settled.
    fn ask(&mut self, go_on: &dyn Fn() -> bool) -> Result<()> {
        if go_on() {
            return Ok(());
        }
        self.settle();
        Err(Error::Cancelled)
    }

    /// Makes a device that puts work off do it, so that what was appended is in the cache.
    fn settle(&mut self) {
        let row = self.decoder.scratch.x.first(1);
        // What fails here fails the next reading too.
        let _ = self.backend.read(row);
    }

    /// Runs one batch.
    fn advance(&mut self, ids: &[u32], go_on: &dyn Fn() -> bool) -> Result<()> {
        self.ask(go_on)?;
        let start = self.position;
        let places = start..start + ids.len();
        self.rows.set(places.map(|p| Row { sequence: 0, position: p as u32 }));
        let done = self.decoder.forward(&mut *self.backend, ids, &self.rows, go_on);
        if done.is_err() {
            self.settle();
        }
        done?;
        self.position += ids.len();
        Ok(())
    }

    /// Forgets all tokens.
    pub fn clear(&mut self) {
        self.position = 0;
    }

    /// Forgets the tokens from `position` on.
    ///
    /// # Errors
    /// [`Error::Position`] if there are not as many.
    pub fn truncate(&mut self, position: usize) -> Result<()> {
        if position > self.position {
            return Err(Error::Position { position, held: self.position });
        }
        self.position = position;
        Ok(())
    }

    /// Leaves a layer out from now on, as if the file lacked it.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such layer.
    pub fn bypass(&mut self, layer: usize) -> Result<()> {
        let count = self.decoder.layers.len();
        let Some(layer) = self.decoder.layers.get_mut(layer) else {
            return Err(Error::Invalid(text!("layer {layer} of {count}, counted from 0")));
        };
        *layer = Layer { attention: None, feed: None };
        Ok(())
    }

    /// Setting it makes a call under way return [`Error::Cancelled`] within a layer's work; it stays
    /// set until the caller clears it.
    pub fn cancel_flag(&self) -> Shared<AtomicBool> {
        self.cancel.clone()
    }

    /// Tokens held.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Tokens there is room for.
    pub fn context_len(&self) -> usize {
        self.decoder.shape.context_len
    }

    /// Tokens of the vocabulary.
    pub fn vocab_len(&self) -> usize {
        self.decoder.shape.vocab_len
    }

    /// Width of what [`Readout::States`] reads.
    pub fn width(&self) -> usize {
        self.decoder.shape.width
    }

    /// Where the memory is.
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// Threads in use, the caller's included.
    pub fn threads(&self) -> usize {
        self.backend.threads()
    }

    /// What the session runs with: the CPU's kernels, or a graphics device's name.
    pub fn device_name(&self) -> &str {
        self.backend.name()
    }
}
