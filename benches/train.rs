//! Tokens a second of training steps: `cargo bench --bench train -- [--steps N] [--threads N]`. One JSON line a
//! shape, for `benches/compress/step.py`, which runs another program's step of the same shape in between.

use attar::compress::{RandomModel, Shape, write_random};
use attar::train::{AdamOptions, Loss, Trainer, TrainerOptions};
use attar::{Format, Gguf};
use std::time::Instant;

/// The value after an option.
fn option(name: &str, default: usize) -> usize {
    let mut args = std::env::args().skip_while(|arg| arg != name).skip(1);
    args.next().map_or(default, |value| value.parse().expect("a number"))
}

fn main() -> attar::Result<()> {
    let (steps, threads) = (option("--steps", 5), option("--threads", 2));
    let (batch_len, sequence_len) = (option("--batch", 16), option("--tokens", 256) + 1);
    let model = RandomModel {
        shape: Shape {
            architecture: "llama".into(),
            vocab_len: option("--vocab", 1024),
            width: option("--width", 128),
            layers: option("--layers", 8),
            heads: option("--heads", 8),
            kv_heads: option("--kv-heads", 4),
            feed_len: option("--feed", 320),
            experts: 0,
            experts_used: 0,
            context_len: 1024,
            tied: false,
            rope_base: 10000.0,
            norm_epsilon: 1e-5,
        },
        format: Format::F32,
        seed: 1,
    };
    let path = std::env::temp_dir().join(format!("attar-train-{}.gguf", std::process::id()));
    write_random(&model, &path, &mut |_| {})?;
    let gguf = Gguf::open(&path)?;
    let (adam, loss) = (AdamOptions::default(), Loss::TEXT);
    let options = TrainerOptions { sequence_len, batch_len, threads, adam, loss, steps: 1000 };
    let mut trainer = Trainer::new(&gguf, options)?;
    let vocab_len = trainer.vocab_len() as u32;
    let texts: Vec<Vec<u32>> = (0..batch_len as u32)
        .map(|t| (0..sequence_len as u32).map(|i| (i * 7919 + t * 104_729) % vocab_len).collect())
        .collect();
    let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    trainer.step(&texts, None)?;
    let mut seconds = Vec::new();
    let mut tokens = 0;
    for _ in 0..steps {
        let start = Instant::now();
        tokens = trainer.step(&texts, None)?.tokens;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let weights: usize = gguf.tensors().iter().map(|tensor| tensor.len()).sum();
    let rate = tokens as f64 / seconds[seconds.len() / 2];
    println!("{{\"weights\":{weights},\"threads\":{threads},\"tokens_per_s\":{rate:.0}}}");
    std::fs::remove_file(&path).map_err(|e| attar::Error::io("remove the random model", e))
}
