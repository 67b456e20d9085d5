//! `attar random`: a file of any shape to measure with.

use super::quantize::format_named;
use super::terminal;
use attar::Result;
use attar::compress::{RandomModel, Shape, write_random};
use std::path::PathBuf;

/// Write a model with random weights, of any shape and format
#[derive(clap::Args)]
#[command(after_help = "Example, 1.1 billion weights:
  attar random -o random-q8_0.gguf --type q8_0
Such a file is for measuring speed and memory: it has no vocabulary and makes no sense.")]
pub(crate) struct Args {
    /// Where to write
    #[arg(long, short, value_name = "OUT")]
    output: PathBuf,
    /// Format of the matrices
    #[arg(long = "type", value_name = "TYPE", default_value = "q8_0")]
    format: String,
    /// Family
    #[arg(long, default_value = "llama")]
    arch: String,
    /// Tokens of the vocabulary
    #[arg(long, value_name = "N", default_value_t = 32000)]
    vocab: usize,
    /// Width of the residual stream
    #[arg(long, value_name = "N", default_value_t = 2048)]
    width: usize,
    /// Layers
    #[arg(long, value_name = "N", default_value_t = 22)]
    layers: usize,
    /// Heads of queries
    #[arg(long, value_name = "N", default_value_t = 32)]
    heads: usize,
    /// Heads of keys and values
    #[arg(long, value_name = "N", default_value_t = 4)]
    kv_heads: usize,
    /// Width of the feed-forward block, or of one expert
    #[arg(long, value_name = "N", default_value_t = 5632)]
    feed: usize,
    /// Experts a layer; 0 for a dense model
    #[arg(long, value_name = "N", default_value_t = 0)]
    experts: usize,
    /// Experts a token uses
    #[arg(long, value_name = "N", default_value_t = 0)]
    experts_used: usize,
    /// Longest context
    #[arg(long, value_name = "N", default_value_t = 2048)]
    context: usize,
    /// Same seed, same file
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let model = RandomModel {
        shape: Shape {
            architecture: args.arch.clone(),
            vocab_len: args.vocab,
            width: args.width,
            layers: args.layers,
            heads: args.heads,
            kv_heads: args.kv_heads,
            feed_len: args.feed,
            experts: args.experts,
            experts_used: args.experts_used,
            context_len: args.context,
            tied: false,
            rope_base: 10000.0,
            norm_epsilon: 1e-5,
        },
        format: format_named(&args.format)?,
        seed: args.seed,
    };
    let bar = terminal::progress(0, "tensors");
    write_random(&model, &args.output, &mut |_| bar.inc(1))?;
    bar.finish_and_clear();
    Ok(())
}
