//! Whole runs of learning: they go on after a stop with equal bits, leave whole files, and learn.
#![cfg(all(feature = "train", feature = "cli"))]

mod common;

use attar::compress::{Learn, LearnOptions, Measure, Recipe, Sequences, TokenMap, checkpoint_of};
use attar::train::{AdamOptions, Loss};
use attar::{Error, Format, Gguf, Tokenizer};
use common::own;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const TEXT: &str = "Once upon a time, there was a little pony named Fuzzy. He was always hungry. \
    One morning, Fuzzy and Hana wanted to build a house near the river. They were happy. The rain \
    came down, and the house fell. Hana cried. I am sad, she said. You are not alone, said Fuzzy.";

fn bundled() -> Gguf {
    Gguf::open(&own("models/attar-1m.gguf")).expect("the bundled model")
}

fn sequences(gguf: &Gguf) -> Sequences {
    let tokenizer = Tokenizer::load(gguf).expect("a vocabulary");
    Sequences::from_text(&tokenizer, TEXT.as_bytes(), 16).expect("a text")
}

fn options(steps: usize) -> LearnOptions {
    LearnOptions {
        tokens: steps * 30,
        batch_len: 2,
        threads: 2,
        adam: AdamOptions { warmup_steps: 2, ..AdamOptions::default() },
        loss: Loss::TEXT,
        seed: 5,
        checkpoint_after: Duration::from_secs(60),
    }
}

/// A folder of this test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("attar-learn-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn a_run_that_was_stopped_goes_on_with_equal_bits() {
    let (gguf, folder) = (bundled(), folder("stop"));
    let sequences = sequences(&gguf);
    for format in [None, Some(Format::Q4_0)] {
        let recipe = format.map(|format| Recipe::uniform(&gguf, format).expect("a known format"));
        let loss = Loss { teacher_share: 0.5, ..Loss::TEACHER };
        let learn = Learn {
            student: &gguf,
            teacher: Some(&gguf),
            sequences: &sequences,
            recipe: recipe.as_ref(),
            options: LearnOptions { loss, ..options(6) },
        };
        let (whole, parts) = (folder.join("whole.gguf"), folder.join("parts.gguf"));
        learn.run(&whole, false, &mut |_| true).expect("a run");
        for stop in [1, 4] {
            let stopped = learn.run(&parts, true, &mut |step| step.taken != stop);
            assert_eq!(stopped, Err(Error::Cancelled));
            assert!(checkpoint_of(&parts).exists() && !parts.exists());
        }
        let mut first = None;
        learn
            .run(&parts, true, &mut |step| {
                first.get_or_insert(step.taken);
                true
            })
            .expect("the rest");
        assert_eq!(first, Some(5));
        assert!(bytes(&whole) == bytes(&parts), "{format:?}");
        assert_eq!(
            std::fs::read_dir(&folder).expect("a folder").count(),
            2,
            "nothing is left over"
        );
        std::fs::remove_file(&parts).expect("the second file");
    }
    std::fs::remove_dir_all(&folder).expect("the folder");
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let (gguf, folder) = (bundled(), folder("other"));
    let sequences = sequences(&gguf);
    let learn = |options| Learn {
        student: &gguf,
        teacher: None,
        sequences: &sequences,
        recipe: None,
        options,
    };
    let out = folder.join("out.gguf");
    let stopped = learn(options(3)).run(&out, false, &mut |_| false);
    assert_eq!(stopped, Err(Error::Cancelled));
    let other = LearnOptions { seed: 6, ..options(3) };
    let refused = learn(other).run(&out, true, &mut |_| true).expect_err("another seed");
    assert!(refused.to_string().contains("another run"), "{refused}");
    // Without asking to go on, a new run begins.
    learn(other).run(&out, false, &mut |_| true).expect("a new run");
    std::fs::remove_dir_all(&folder).expect("the folder");
}

/// A student whose table is rounded roughly comes nearer to its teacher when it learns with the rounding
/// than by the rounding alone.
#[test]
fn learning_with_rounding_beats_rounding_alone() {
    let (gguf, folder) = (common::off_grid(), folder("rounding"));
    let sequences = sequences(&gguf);
    let (plain, learned) = (folder.join("plain.gguf"), folder.join("learned.gguf"));
    attar::compress::quantize(&gguf, Format::Q4_0, &plain, 2, &mut |_| {}).expect("a file");
    let recipe = Recipe::uniform(&gguf, Format::Q4_0).expect("a known format");
    let adam = AdamOptions { rate: 3e-4, ..options(1).adam };
    let learn = Learn {
        student: &gguf,
        teacher: Some(&gguf),
        sequences: &sequences,
        recipe: Some(&recipe),
        options: LearnOptions { adam, loss: Loss::TEACHER, ..options(40) },
    };
    learn.run(&learned, false, &mut |_| true).expect("a run");
    let kl = |path: &Path| {
        let model = Gguf::open(path).expect("a sound file");
        assert!(TokenMap::new(&model, &gguf).is_ok());
        let measured = Measure::on_threads(2).run(&model, Some(&gguf), &sequences, &|_| true);
        measured.expect("the same vocabulary").divergence.expect("a reference").kl.mean
    };
    let (plain, learned) = (kl(&plain), kl(&learned));
    println!("KL {plain:.4} by rounding, {learned:.4} after learning");
    assert!(learned < 0.5 * plain, "{learned} {plain}");
    std::fs::remove_dir_all(&folder).expect("the folder");
}

/// Killed at any moment, the program leaves the old file or the new one, and goes on with equal bits.
#[test]
fn a_killed_program_leaves_a_whole_file_and_goes_on() {
    let folder = folder("kill");
    let text = folder.join("text.txt");
    std::fs::write(&text, TEXT).expect("a text");
    let model = own("models/attar-1m.gguf");
    let run = |out: &Path, resume: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_attar"));
        command.arg("distill").arg(&model).arg("--teacher").arg(&model).arg("--data").arg(&text);
        command.args([
            "--seq-len",
            "16",
            "--batch",
            "2",
            "--train-tokens",
            "900",
            "--type",
            "q8_0",
        ]);
        command
            .args(["--checkpoint-after", "0", "--loss", "text", "--held-out", "20", "-o"])
            .arg(out);
        command.args(resume.then_some("--resume")).stdout(Stdio::null());
        command.spawn().expect("the program")
    };
    let whole = folder.join("whole.gguf");
    assert!(run(&whole, false).wait().expect("an end").success());
    let out = folder.join("killed.gguf");
    std::fs::write(&out, b"old").expect("an old file");
    let mut killed = 0;
    for round in 0.. {
        let mut child = run(&out, true);
        // Longer each time: it must come to an end.
        std::thread::sleep(Duration::from_millis(150 + 250 * round));
        match child.try_wait().expect("a child") {
            Some(status) => {
                assert!(status.success());
                break;
            }
            None => {
                child.kill().expect("a child to kill");
                child.wait().expect("an end");
                killed += 1;
                let found = bytes(&out);
                assert!(found == b"old" || found == bytes(&whole), "neither old nor new");
            }
        }
    }
    println!("killed {killed} times");
    assert!(killed > 0 && bytes(&out) == bytes(&whole));
    std::fs::remove_dir_all(&folder).expect("the folder");
}
