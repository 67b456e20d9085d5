//! Options about the model and its session, shared by commands.

use super::device::DeviceArgs;
use attar::bytes::Bytes;
use attar::{Error, Format, Gguf, Options, Result, Session, kernels};
use std::path::PathBuf;

/// The model the program brings: `models/README.md` tells of it.
static BUNDLED: &[u8] = include_bytes!("../../models/attar-1m.gguf");

/// Opens a file, or the bundled model where none is named.
pub(crate) fn open(path: Option<&PathBuf>) -> Result<Gguf> {
    match path {
        Some(path) => Gguf::open(path),
        None => Gguf::parse(Bytes::from_static(BUNDLED)),
    }
}

/// As many threads as asked for, or, for 0, one a core.
pub(crate) fn threads(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}

/// How to run a model.
#[derive(clap::Args)]
pub(crate) struct SessionArgs {
    /// Tokens the context has room for [default: what the model knows, at most 4096]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) ctx: usize,
    /// Threads [default: one a core]
    #[arg(long, short, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) threads: usize,
    /// Tokens of a prompt to process together [default: 512]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) batch: usize,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

/// Encodings of the key-value cache.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
#[allow(non_camel_case_types, reason = "the name by which the format is known")]
pub(crate) enum Cache {
    /// Exact.
    F32,
    /// Half the memory.
    F16,
    /// A quarter and a little, for heads of whole blocks of 32.
    #[value(name = "q8_0")]
    Q8_0,
}

impl SessionArgs {
    /// The options, with `cache` for keys and values, and the kernels `ATTAR_ISA` names.
    pub(crate) fn options(&self, cache: Cache) -> Result<Options> {
        let cache = match cache {
            Cache::F32 => Format::F32,
            Cache::F16 => Format::F16,
            Cache::Q8_0 => Format::Q8_0,
        };
        let isa = match std::env::var("ATTAR_ISA") {
            Ok(name) => Some(kernels::by_name(&name).ok_or_else(|| {
                let known: Vec<_> = kernels::available().map(|isa| isa.name()).collect();
                let known = known.join(", ");
                Error::Invalid(format!("ATTAR_ISA is '{name}', expected one of {known}").into())
            })?),
            Err(_) => None,
        };
        let (context_len, batch_len, threads) = (self.ctx, self.batch, self.threads);
        Ok(Options { context_len, batch_len, threads, cache, isa, executor: None })
    }

    /// A session over the model.
    pub(crate) fn open(&self, gguf: &Gguf, cache: Cache) -> Result<Session> {
        let session = self.device.open(gguf, &self.options(cache)?)?;
        let (device, threads, plan) = (session.device_name(), session.threads(), session.plan());
        log::info!("{device}, {threads} threads, {plan:?}");
        Ok(session)
    }
}
