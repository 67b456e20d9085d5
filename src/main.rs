//! The program `attar`: one command a row. Results go to standard output, everything else to standard
//! error. Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

/// The commands, and what they share.
mod main {
    pub(crate) mod allocations;
    pub(crate) mod bench;
    pub(crate) mod chat;
    pub(crate) mod corpus;
    pub(crate) mod data;
    pub(crate) mod device;
    pub(crate) mod distill;
    pub(crate) mod eval;
    pub(crate) mod fit;
    pub(crate) mod generate;
    pub(crate) mod importance;
    pub(crate) mod inspect;
    pub(crate) mod learn;
    pub(crate) mod logits;
    pub(crate) mod model;
    pub(crate) mod pretrain;
    pub(crate) mod prune;
    pub(crate) mod quantize;
    pub(crate) mod random;
    pub(crate) mod run;
    pub(crate) mod sample;
    pub(crate) mod score;
    pub(crate) mod terminal;
    pub(crate) mod tokenize;
}

use attar::Error;
use clap::{Parser, Subcommand};
use main::{
    allocations, bench, chat, corpus, device, distill, eval, fit, importance, inspect, logits,
    pretrain, prune, quantize, random, run, sample, score, terminal, tokenize,
};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

/// Runs language models from GGUF files.
#[derive(Parser)]
#[command(version, about, after_help = EXAMPLES)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  attar run -p 'Once upon a time'                  a story from the bundled model
  attar run model.gguf -p - < prompt.txt           continue a prompt from standard input
  attar score model.gguf 'I am happy.' 'I are happy.'
  attar quantize model.gguf q4_k -o small.gguf
  attar bench model.gguf --json
Set ATTAR_ISA=scalar (or another name from the log) to choose kernels, RUST_LOG=info to hear more.";

#[derive(Subcommand)]
enum Command {
    Run(run::Args),
    Chat(chat::Args),
    Inspect(inspect::Args),
    Tokenize(tokenize::Args),
    Logits(logits::Args),
    Score(score::Args),
    Eval(eval::Args),
    Importance(importance::Args),
    Quantize(quantize::Args),
    Prune(prune::Args),
    Sample(sample::Args),
    Distill(distill::Args),
    Pretrain(pretrain::Args),
    Fit(fit::Args),
    Bench(bench::Args),
    Random(random::Args),
    Corpus(corpus::Args),
    Devices(device::ListArgs),
}

fn main() -> ExitCode {
    let program = Program::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn"))
        .format(|out, record| {
            use std::io::Write;
            writeln!(out, "{}: {}", record.level().as_str().to_lowercase(), record.args())
        })
        .init();
    let result = match &program.command {
        Command::Run(args) => run::run(args),
        Command::Chat(args) => chat::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Tokenize(args) => tokenize::run(args),
        Command::Logits(args) => logits::run(args),
        Command::Score(args) => score::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Importance(args) => importance::run(args),
        Command::Quantize(args) => quantize::run(args),
        Command::Prune(args) => prune::run(args),
        Command::Sample(args) => sample::run(args),
        Command::Distill(args) => distill::run(args),
        Command::Pretrain(args) => pretrain::run(args),
        Command::Fit(args) => fit::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Random(args) => random::run(args),
        Command::Corpus(args) => corpus::run(args),
        Command::Devices(args) => device::list(args),
    };
    match result.and_then(|()| device::report()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Cancelled) => ExitCode::from(terminal::INTERRUPTED),
        Err(error) => {
            eprintln!("attar: {error}");
            ExitCode::FAILURE
        }
    }
}
