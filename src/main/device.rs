//! Which device runs a model, and comparing it with the CPU.

#[cfg(feature = "gpu")]
#[path = "gpu.rs"]
mod gpu;
#[cfg(not(feature = "gpu"))]
#[path = "no_gpu.rs"]
mod gpu;

use super::terminal;
use attar::backend::{Backend, Compare, Findings};
use attar::memory::Shared;
use attar::{Error, Gguf, Options, Result, Session};
use std::str::FromStr;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Where to run.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct DeviceArgs {
    /// Where to run: cpu; gpu, or gpu:N of `attar devices`; auto takes a graphics device if there is one
    /// and the CPU otherwise
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: Device,
    /// Layers on the graphics device, the first ones: a number, or auto for as many as it has room for
    #[arg(long, value_name = "N", default_value = "auto")]
    gpu_layers: Layers,
    /// Run this device in step and name the first operation whose results depart; slow
    #[arg(long, value_enum, value_name = "DEVICE")]
    compare: Option<Reference>,
}

/// What `--device` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Device {
    Cpu,
    Auto,
    Gpu(Option<usize>),
}

/// What `--gpu-layers` says; `None` is auto.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layers(pub(super) Option<usize>);

/// What can be compared with.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Reference {
    /// The CPU.
    Cpu,
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "auto" => Ok(Self::Auto),
            "gpu" => Ok(Self::Gpu(None)),
            _ => {
                let index = text.strip_prefix("gpu:").and_then(|n| n.parse().ok());
                index.map(|n| Self::Gpu(Some(n))).ok_or("expected cpu, gpu, gpu:N or auto".into())
            }
        }
    }
}

impl FromStr for Layers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self(None)),
            _ => {
                text.parse().map(|n| Self(Some(n))).map_err(|_| "expected a number or auto".into())
            }
        }
    }
}

/// Error of an operation, relative to its row's largest magnitude, that counts as a departure. The CPU
/// rounds what it multiplies to 8 bits and a graphics device less or not, and each goes on with its own
/// results; a kernel that is wrong shows errors of about 1.
const DEPARTURE: f32 = 0.25;

/// What the comparison of this run has found.
static FINDINGS: OnceLock<Shared<Mutex<Findings>>> = OnceLock::new();

impl DeviceArgs {
    /// Whether it is the CPU by itself, on which several sessions may run.
    pub(crate) fn is_cpu(&self) -> bool {
        self.device == Device::Cpu && self.compare.is_none()
    }

    /// A session over a model on the device asked for.
    pub(crate) fn open(&self, gguf: &Gguf, options: &Options) -> Result<Session> {
        let layers = self.gpu_layers.0;
        match self.device {
            Device::Cpu if self.compare.is_none() => Session::open(gguf, options),
            Device::Cpu => self.open_on(gguf, options, options.cpu()?),
            Device::Gpu(index) => {
                self.open_on(gguf, options, gpu::backend(gguf, options, index, layers)?)
            }
            Device::Auto => match self.open_any(gguf, options) {
                Ok(session) => Ok(session),
                Err(error) => {
                    log::warn!("{error}; running on the CPU");
                    self.open_on(gguf, options, options.cpu()?)
                }
            },
        }
    }

    /// A session on a graphics device that is faster than the CPU.
    fn open_any(&self, gguf: &Gguf, options: &Options) -> Result<Session> {
        let index = gpu::first_hardware()?;
        let backend = gpu::backend(gguf, options, Some(index), self.gpu_layers.0)?;
        self.open_on(gguf, options, backend)
    }

    fn open_on(
        &self,
        gguf: &Gguf,
        options: &Options,
        mut backend: Box<dyn Backend>,
    ) -> Result<Session> {
        if let Some(Reference::Cpu) = self.compare {
            let compare = Compare::new(backend, options.cpu()?, DEPARTURE)?;
            FINDINGS.get_or_init(|| compare.findings());
            backend = Box::new(compare);
        }
        Session::open_on(gguf, options, backend)
    }
}

/// Says what a comparison found, if there was one.
///
/// # Errors
/// [`Error::Device`] naming the first operation that departs.
pub(crate) fn report() -> Result<()> {
    let Some(findings) = FINDINGS.get() else { return Ok(()) };
    let findings = findings.lock().unwrap_or_else(PoisonError::into_inner);
    for (operation, error) in findings.errors.iter() {
        eprintln!("compared {operation}: departs by {error:.2e} of the largest at most");
    }
    let Some(d) = &findings.departure else { return Ok(()) };
    let what = format!(
        "{} in layer {} departs at row {}, column {}: {} instead of {}, {:.3} of the row's largest",
        d.operation, d.layer, d.row, d.column, d.found, d.expected, d.error
    );
    Err(Error::Device(what.into()))
}

/// List the devices that models can run on
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// `attar devices`.
pub(crate) fn list(args: &ListArgs) -> Result<()> {
    let kernels = attar::kernels::best().name();
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let devices = gpu::list();
    if args.json {
        let cpu = serde_json::json!({"kernels": kernels, "cores": cores});
        return terminal::print_json(&serde_json::json!({"cpu": cpu, "gpus": devices}));
    }
    terminal::print_line(&format!("cpu    {cores} cores, kernels {kernels}"))?;
    for (i, device) in devices.iter().enumerate() {
        let text = |key: &str| device[key].as_str().unwrap_or("").to_owned();
        let (name, kind) = (text("name"), text("kind"));
        let (interface, driver) = (text("interface"), text("driver"));
        terminal::print_line(&format!("gpu:{i}  {name}, {kind}, through {interface} ({driver})"))?;
    }
    Ok(())
}
