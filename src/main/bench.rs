//! `attar bench`: how fast, beside how fast the memory can be read in the same minute.

use super::generate::{Generator, SamplerArgs};
use super::model::{self, Cache, SessionArgs};
use super::{allocations, terminal};
use attar::tokenizer::Tokenizer;
use attar::{Error, Gguf, Result};
use serde_json::json;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

/// Measure speed and memory
#[derive(clap::Args)]
#[command(after_help = "Example:
  attar bench model.gguf --prompt-len 512 --gen-len 64 --threads 2
While tokens are generated, every few of them, the read roof is measured: plain loads over the same weights,
with as many threads; so a noisy machine disturbs both alike. Figures are medians over
the rounds with the least and the greatest. The bandwidth share is the weights, keys and values
read a token, times tokens a second, over the roof of the same round. Neither is given where a
graphics device has part of the model: it reads other memory.")]
pub(crate) struct Args {
    /// A GGUF file; the bundled model is too small to say much
    model: Option<PathBuf>,
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 512)]
    prompt_len: usize,
    /// Tokens to generate
    #[arg(long, value_name = "N", default_value_t = 64)]
    gen_len: usize,
    /// How often to repeat
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Encoding of the key-value cache
    #[arg(long, value_enum, default_value_t = Cache::F16)]
    cache: Cache,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    sampler: SamplerArgs,
}

/// What the rounds gave.
#[derive(Default)]
struct Samples {
    prompt: Vec<f64>,
    generation: Vec<f64>,
    first_token: Vec<f64>,
    roof: Vec<f64>,
    /// Of the roof, what generating reached in the same round.
    share: Vec<f64>,
    allocations: u64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.prompt_len == 0 || args.gen_len == 0 || args.rounds == 0 {
        return Err(Error::Invalid("lengths and rounds must be above 0".into()));
    }
    let start = Instant::now();
    let gguf = model::open(args.model.as_ref())?;
    let tokenizer = Tokenizer::load(&gguf)?;
    let room = args.prompt_len + args.gen_len;
    let sizes = SessionArgs { ctx: args.session.ctx.max(room), ..args.session };
    let session = sizes.open(&gguf, args.cache)?;
    let load_seconds = start.elapsed().as_secs_f64();
    let (sampler, _) = args.sampler.sampler(session.vocab_len())?;
    terminal::cancel_on_interrupt(session.cancel_flag())?;
    let resident = peak_resident_bytes();
    let (threads, plan) = (session.threads(), session.plan());
    let mut generator = Generator::new(session, tokenizer, sampler)?;
    let cache_bytes = (plan.cache_bytes as f64 / generator.session.context_len() as f64
        * (args.prompt_len as f64 + args.gen_len as f64 / 2.0)) as usize;
    let token_bytes = bytes_per_token(&gguf)? + cache_bytes;
    let roof = (plan.device_bytes == 0).then(|| shares(&gguf, threads));
    let samples = measure(args, &mut generator, roof.as_deref(), token_bytes)?;
    let report = json!({
        "model": args.model.as_ref().map(|path| path.display().to_string()),
        "kernels": generator.session.device_name(),
        "threads": threads,
        "prompt_len": args.prompt_len,
        "generation_len": args.gen_len,
        "prompt_tokens_per_second": spread(&samples.prompt),
        "generation_tokens_per_second": spread(&samples.generation),
        "first_token_seconds": median(&samples.first_token),
        "load_seconds": load_seconds,
        "bytes_per_token": token_bytes,
        "read_roof_bytes_per_second": roof.as_ref().map(|_| median(&samples.roof)),
        "bandwidth_share": roof.as_ref().map(|_| median(&samples.share)),
        "file_bytes": plan.file_bytes,
        "session_bytes": plan.session_bytes,
        "device_bytes": plan.device_bytes,
        "resident_bytes_after_load": resident,
        "peak_resident_bytes": peak_resident_bytes(),
        "allocations_during_generation": samples.allocations,
    });
    if args.json { terminal::print_json(&report) } else { print(&report) }
}

fn measure(
    args: &Args,
    generator: &mut Generator,
    weights: Option<&[Vec<&[u8]>]>,
    token_bytes: usize,
) -> Result<Samples> {
    let roof_bytes: usize =
        weights.unwrap_or_default().iter().flatten().map(|part| part.len()).sum();
    let mut samples = Samples::default();
    let vocab = generator.session.vocab_len() as u32;
    let prompt: Vec<u32> = (0..args.prompt_len as u32).map(|i| (i * 7919 + 13) % vocab).collect();
    let bar = terminal::progress(args.rounds as u64 + 1, "rounds");
    for round in 0..=args.rounds {
        generator.session.clear();
        let start = Instant::now();
        generator.session.feed(&prompt)?;
        let prompt_seconds = start.elapsed().as_secs_f64();
        let (mut seconds, mut roof_seconds, mut roof_reads) = (0.0, 0.0, 0);
        let (mut id, mut allocated) = (1 % vocab, 0);
        for i in 0..args.gen_len {
            if let Some(weights) = weights.filter(|_| i % TOKENS_BETWEEN_ROOFS == 0) {
                roof_seconds += read_seconds(weights);
                roof_reads += 1;
            }
            // Chooses tokens as `run` does, but never stops early.
            let (start, before) = (Instant::now(), allocations::count());
            id = generator.step(id)?;
            seconds += start.elapsed().as_secs_f64();
            allocated += allocations::count() - before;
        }
        bar.inc(1);
        if round == 0 {
            continue; // brings the file into memory
        }
        let rate = args.gen_len as f64 / seconds;
        samples.prompt.push(args.prompt_len as f64 / prompt_seconds);
        samples.first_token.push(prompt_seconds);
        samples.generation.push(rate);
        if weights.is_some() {
            let roof = (roof_reads * roof_bytes) as f64 / roof_seconds;
            samples.roof.push(roof);
            samples.share.push(rate * token_bytes as f64 / roof);
        }
        samples.allocations = samples.allocations.max(allocated);
    }
    bar.finish_and_clear();
    Ok(samples)
}

const TOKENS_BETWEEN_ROOFS: usize = 4;

/// All tensors' bytes in as many equal parts as there are threads, each a run through the file.
fn shares(gguf: &Gguf, threads: usize) -> Vec<Vec<&[u8]>> {
    let total: usize = gguf.tensors().iter().map(|tensor| tensor.bytes.len()).sum();
    let share = total.div_ceil(threads).max(1);
    let mut shares = vec![Vec::new(); threads];
    let mut start = 0;
    for tensor in gguf.tensors() {
        let mut rest: &[u8] = &tensor.bytes;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.len().min(share - start % share));
            shares[start / share].push(part);
            start += part.len();
            rest = after;
        }
    }
    shares
}

/// How long plain loads of all bytes take, each thread over its share.
fn read_seconds(shares: &[Vec<&[u8]>]) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for share in shares {
            scope.spawn(move || {
                share.iter().map(|part| black_box(sum(part))).fold(0, u64::wrapping_add)
            });
        }
    });
    start.elapsed().as_secs_f64()
}

/// Independent sums, so that additions do not wait for each other.
fn sum(bytes: &[u8]) -> u64 {
    let mut sums = [0u64; 32];
    for chunk in bytes.as_chunks::<256>().0 {
        for (sum, word) in sums.iter_mut().zip(chunk.as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*word));
        }
    }
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}

/// Weights a token needs: all matrices, but of a table of embeddings that is not the head too only a
/// row, and of experts only those used.
fn bytes_per_token(gguf: &Gguf) -> Result<usize> {
    let architecture = gguf.architecture()?;
    let count = |key: &str| gguf.usize(&format!("{architecture}.{key}"));
    let experts = count("expert_count")?.unwrap_or(0).max(1);
    let used = count("expert_used_count")?.unwrap_or(1);
    let tied = gguf.tensor("output.weight").is_none();
    let sizes = gguf.tensors().iter().map(|tensor| match &*tensor.name {
        "token_embd.weight" if !tied => 0,
        name if name.contains("_exps.") => tensor.bytes.len() / experts * used,
        _ => tensor.bytes.len(), // read whole
    });
    Ok(sizes.sum())
}

/// The most memory the process ever had, where the system tells.
fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}

fn spread(samples: &[f64]) -> serde_json::Value {
    let min = samples.iter().copied().fold(f64::INFINITY, f64::min);
    let max = samples.iter().copied().fold(0.0, f64::max);
    json!({"median": median(samples), "min": min, "max": max})
}

fn print(report: &serde_json::Value) -> Result<()> {
    let number = |key: &str| report[key].as_f64().unwrap_or(0.0);
    let rate = |key: &str| {
        let part = |name: &str| report[key][name].as_f64().unwrap_or(0.0);
        format!("{:.2} ({:.2} to {:.2})", part("median"), part("min"), part("max"))
    };
    let megabytes = |key: &str| format!("{:.1} MB", number(key) / 1e6);
    let memory = match report["read_roof_bytes_per_second"].as_f64() {
        Some(roof) => {
            let share = number("bandwidth_share") * 100.0;
            format!(" at {share:.1} % of the read roof of {:.2} GB/s", roof / 1e9)
        }
        None => format!("; {} on the device", megabytes("device_bytes")),
    };
    terminal::print_line(&format!(
        "kernels {}, {} threads
prompt      {} tokens/s
generation  {} tokens/s
first token {:.1} ms after the prompt of {}
load        {:.1} ms
memory      {} read a token{memory}
            file {}, session {}, peak resident {}
heap        {} allocations while generating",
        report["kernels"].as_str().unwrap_or(""),
        report["threads"],
        rate("prompt_tokens_per_second"),
        rate("generation_tokens_per_second"),
        number("first_token_seconds") * 1e3,
        report["prompt_len"],
        number("load_seconds") * 1e3,
        megabytes("bytes_per_token"),
        megabytes("file_bytes"),
        megabytes("session_bytes"),
        megabytes("peak_resident_bytes"),
        report["allocations_during_generation"],
    ))
}
