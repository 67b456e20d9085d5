//! A graphics device beside its own limits: products of one row and of many, and whole models.
//!
//! `cargo bench --bench gpu -- [--device N] [--quick] [--json]`; docs/benchmarks.md says what is printed.

#[path = "gpu/card.rs"]
mod card;

use attar::backend::{Backend, Gpu, GpuOptions, View, Weight};
use attar::compress::{RandomModel, write_random};
use attar::session::GpuLayers;
use attar::{Error, Format, Gguf, Options, Result, Sampler, SamplerOptions, Session};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;

/// Seconds that a timed round takes at least, if repeating makes it so.
const ROUND_SECONDS: f64 = 0.05;
/// Repetitions in a round at most.
const REPEATS_MAX: usize = 64;
const FORMATS: [Format; 5] = [Format::Q4_0, Format::Q8_0, Format::Q4_K, Format::Q6_K, Format::F16];
const MODEL_FORMATS: [Format; 3] = [Format::Q4_0, Format::Q8_0, Format::Q4_K];

/// How much is measured.
struct Sizes {
    /// Rows and columns of the matrices multiplied with.
    side: usize,
    /// Of weights in rotation, and of a copy: far more than caches hold.
    bytes: usize,
    /// Rows of input where there are many.
    rows: usize,
    rounds: usize,
    prompt_len: usize,
    gen_len: usize,
    models: &'static [Shape],
}

/// Of a file of random weights.
struct Shape {
    name: &'static str,
    vocab_len: usize,
    width: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    feed_len: usize,
}

#[rustfmt::skip] // a row is a model
const FULL: Sizes = Sizes {
    side: 4096,
    bytes: 512 << 20,
    rows: 512,
    rounds: 5,
    prompt_len: 512,
    gen_len: 64,
    models: &[
        Shape { name: "0.5 B", vocab_len: 64_000, width: 1024, layers: 24, heads: 16, kv_heads: 2, feed_len: 4864 },
        Shape { name: "1.1 B", vocab_len: 32_000, width: 2048, layers: 22, heads: 32, kv_heads: 4, feed_len: 5632 },
    ],
};

#[rustfmt::skip]
const QUICK: Sizes = Sizes {
    side: 1024,
    bytes: 4 << 20,
    rows: 32,
    rounds: 3,
    prompt_len: 64,
    gen_len: 8,
    models: &[
        Shape { name: "3.5 M", vocab_len: 1000, width: 256, layers: 4, heads: 8, kv_heads: 2, feed_len: 768 },
    ],
};

fn main() {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let Err(error) = run(&args) {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn run(args: &[String]) -> Result<()> {
    let (mut device, mut sizes, mut is_json) = (None, &FULL, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--device" => {
                device = args.next().and_then(|n| n.parse().ok());
                device.ok_or_else(|| invalid("--device takes a number of `attar devices`"))?;
            }
            "--quick" => sizes = &QUICK,
            "--json" => is_json = true,
            _ => return Err(invalid("expected --device N, --quick or --json")),
        }
    }
    let report = measure(device, sizes)?;
    match is_json {
        true => println!("{report}"),
        false => print(&report),
    }
    Ok(())
}

fn invalid(what: &'static str) -> Error {
    Error::Invalid(what.into())
}

fn measure(device: Option<usize>, sizes: &Sizes) -> Result<Value> {
    let devices = Gpu::devices();
    let first = devices.iter().position(|device| device.kind != "program").unwrap_or(0);
    let index = device.unwrap_or(first);
    let Some(info) = devices.get(index) else {
        return Err(Error::Device(format!("no device {index} among {}", devices.len()).into()));
    };
    eprintln!("{}: copies, multiply-adds", info.name);
    let card = card::Card::open(index, &info.name)?;
    let copy_rate = card.copy_rate(sizes.bytes as u64, sizes.rounds)?;
    let peak = card.peak_flops(sizes.rounds)?;
    drop(card);
    let folder = Folder::make()?;
    let mut products = Vec::new();
    for format in FORMATS {
        let (bytes, flops) = product_rates(index, format, sizes, &folder)?;
        products.push(json!({
            "format": format.info().name,
            "one_row_bytes_per_second": bytes,
            "share_of_copy": bytes / copy_rate,
            "many_rows_flops": flops,
            "share_of_peak": flops / peak,
        }));
    }
    let mut models = Vec::new();
    for shape in sizes.models {
        for format in MODEL_FORMATS {
            models.push(model(index, shape, format, sizes, &folder)?);
        }
    }
    Ok(json!({
        "device": info.name,
        "kind": info.kind,
        "interface": info.interface,
        "driver": info.driver,
        "copy_bytes_per_second": copy_rate,
        "peak_flops": peak,
        "side": sizes.side,
        "rows": sizes.rows,
        "prompt_len": sizes.prompt_len,
        "generation_len": sizes.gen_len,
        "products": products,
        "models": models,
    }))
}

/// Repetitions a second, the median of rounds; `run` does as many as it is told and waits.
fn median_rate(rounds: usize, mut run: impl FnMut(usize) -> Result<()>) -> Result<f64> {
    let mut timed = |repeats: usize| -> Result<f64> {
        let start = Instant::now();
        run(repeats)?;
        Ok(start.elapsed().as_secs_f64())
    };
    timed(1)?; // makes pipelines, touches memory
    let repeats = ((ROUND_SECONDS / timed(1)?).ceil() as usize).clamp(1, REPEATS_MAX);
    let mut rates = Vec::new();
    for _ in 0..rounds {
        rates.push(repeats as f64 / timed(repeats)?);
    }
    Ok(median(rates))
}

/// Of an odd number of values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Products with square matrices: bytes of weights a second with one row of input, operations a second
/// with many rows.
fn product_rates(
    index: usize,
    format: Format,
    sizes: &Sizes,
    folder: &Folder,
) -> Result<(f64, f64)> {
    eprintln!("{}: products", format.info().name);
    let side = sizes.side;
    let matrix_bytes = format.info().row_bytes(side) * side;
    // A layer of this shape has seven square matrices.
    let layers = sizes.bytes.div_ceil(7 * matrix_bytes);
    let (width, feed_len) = (side, side);
    let shape = Shape { name: "", vocab_len: 32, width, layers, heads: 32, kv_heads: 32, feed_len };
    let gguf = folder.random(&shape, format)?;
    let mut gpu = Gpu::open(&GpuOptions { index: Some(index), ..GpuOptions::default() })?;
    let matrices = gguf.tensors().iter().filter(|t| t.dims[..] == [side, side]);
    let weights: Vec<Weight> =
        matrices.map(|t| gpu.weight(std::slice::from_ref(t))).collect::<Result<_>>()?;
    let inputs = [gpu.buffer(sizes.rows, side)?, gpu.buffer(sizes.rows, side)?];
    let many = [gpu.buffer(sizes.rows, side)?, gpu.buffer(sizes.rows, side)?];
    let single: Vec<View> = weights.iter().map(|_| gpu.buffer(1, side)).collect::<Result<_>>()?;
    let end = gpu.buffer(1, 4)?;
    gpu.seal(sizes.rows)?;
    for x in inputs {
        let values = (0..sizes.rows * side).map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.5);
        gpu.write(x, &values.collect::<Vec<_>>());
    }
    let mut rate = |outs: &[View]| {
        let rate = median_rate(sizes.rounds, |repeats| {
            for (i, w) in weights.iter().cycle().take(weights.len() * repeats).enumerate() {
                let out = outs[i % outs.len()];
                // Inputs change, or neighbours would become one dispatch.
                gpu.matmul(out, *w, inputs[i % 2].first(out.rows));
            }
            gpu.read(end).map(|_| ())
        });
        Ok::<_, Error>(rate? * weights.len() as f64)
    };
    let bytes = rate(&single)? * matrix_bytes as f64;
    let flops = rate(&many)? * (2 * sizes.rows * side * side) as f64;
    Ok((bytes, flops))
}

/// Tokens a second of a file of random weights, on the device and on the CPU.
fn model(
    index: usize,
    shape: &Shape,
    format: Format,
    sizes: &Sizes,
    folder: &Folder,
) -> Result<Value> {
    let name = format.info().name;
    eprintln!("{} {name}: tokens", shape.name);
    let gguf = folder.random(shape, format)?;
    let context_len = sizes.prompt_len + sizes.gen_len;
    let options = Options { context_len, ..Options::default() };
    let device = GpuOptions { index: Some(index), ..GpuOptions::default() };
    let backend = options.gpu(&gguf, &device, GpuLayers::First(usize::MAX))?;
    let gpu = token_rates(Session::open_on(&gguf, &options, backend)?, sizes)?;
    let cpu = token_rates(Session::open(&gguf, &options)?, sizes)?;
    Ok(json!({
        "model": shape.name,
        "format": name,
        "gpu_prompt_tokens_per_second": gpu.0,
        "gpu_generation_tokens_per_second": gpu.1,
        "cpu_prompt_tokens_per_second": cpu.0,
        "cpu_generation_tokens_per_second": cpu.1,
    }))
}

/// Of a prompt, its first choice included, and of generation.
fn token_rates(mut session: Session, sizes: &Sizes) -> Result<(f64, f64)> {
    let vocab_len = session.vocab_len();
    let greedy = SamplerOptions { temperature: 0.0, ..SamplerOptions::default() };
    let mut sampler = Sampler::new(&greedy, vocab_len)?;
    let mut logits = vec![0.0; vocab_len];
    let prompt: Vec<u32> =
        (0..sizes.prompt_len).map(|i| ((i * 7919 + 13) % vocab_len) as u32).collect();
    let (mut prompts, mut generations) = (Vec::new(), Vec::new());
    for round in 0..=sizes.rounds {
        session.clear();
        sampler.reset();
        let start = Instant::now();
        let mut id = session.choose(&prompt, &mut sampler, &mut logits)?;
        let middle = Instant::now();
        for _ in 0..sizes.gen_len {
            id = session.choose(&[id], &mut sampler, &mut logits)?;
        }
        if round == 0 {
            continue; // makes pipelines, brings the file into memory
        }
        prompts.push(sizes.prompt_len as f64 / (middle - start).as_secs_f64());
        generations.push(sizes.gen_len as f64 / middle.elapsed().as_secs_f64());
    }
    Ok((median(prompts), median(generations)))
}

/// A temporary folder, gone with its files when dropped.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("attar-bench-{}", std::process::id()));
        let made = std::fs::create_dir_all(&path);
        made.map_err(|e| Error::Invalid(format!("{}: {e}", path.display()).into()))?;
        Ok(Self(path))
    }

    /// A file of random weights, in the place of the last.
    fn random(&self, shape: &Shape, format: Format) -> Result<Gguf> {
        let path = self.0.join("random.gguf");
        let model = RandomModel {
            shape: attar::compress::Shape {
                architecture: "llama".into(),
                vocab_len: shape.vocab_len,
                width: shape.width,
                layers: shape.layers,
                heads: shape.heads,
                kv_heads: shape.kv_heads,
                feed_len: shape.feed_len,
                experts: 0,
                experts_used: 0,
                context_len: 2048,
                tied: false,
                rope_base: 10000.0,
                norm_epsilon: 1e-5,
            },
            format,
            seed: 0,
        };
        write_random(&model, &path, &mut |_| {})?;
        Gguf::open(&path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn print(report: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let gigabytes = |value: &Value| format!("{:.2} GB/s", number(value) / 1e9);
    let gigaflops = |value: &Value| format!("{:.2} GFLOP/s", number(value) / 1e9);
    let share = |value: &Value| format!("{:.1} %", number(value) * 100.0);
    let tokens = |value: &Value| format!("{:.1} tokens/s", number(value));
    let line = |what: &str, device: String, share: String, cpu: String| {
        println!("| {what} | {device} | {share} | {cpu} |");
    };
    let none = String::new;
    let side = &report["side"];
    let list = |key: &str| report[key].as_array().cloned().unwrap_or_default();
    println!("| | {}, {} | of its limit | CPU |", text(&report["device"]), text(&report["driver"]));
    println!("|---|---|---|---|");
    line("copy, read and written", gigabytes(&report["copy_bytes_per_second"]), none(), none());
    line("f32 multiply-adds", gigaflops(&report["peak_flops"]), none(), none());
    for p in list("products") {
        let matrix = format!("{} of {side} x {side}", text(&p["format"]));
        let what = format!("{matrix}, 1 row");
        line(&what, gigabytes(&p["one_row_bytes_per_second"]), share(&p["share_of_copy"]), none());
        let what = format!("{matrix}, {} rows", report["rows"]);
        line(&what, gigaflops(&p["many_rows_flops"]), share(&p["share_of_peak"]), none());
    }
    for m in list("models") {
        let name = format!("{} {}", text(&m["model"]), text(&m["format"]));
        for (key, len) in [("prompt", "prompt_len"), ("generation", "generation_len")] {
            let rate = |device: &str| tokens(&m[format!("{device}_{key}_tokens_per_second")]);
            line(&format!("{name}, {key} of {}", report[len]), rate("gpu"), none(), rate("cpu"));
        }
    }
}
