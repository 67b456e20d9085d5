//! From a budget to a model: it keeps to the size and predicts nearly as before, or says what would.
#![cfg(all(feature = "train", feature = "cli"))]

mod common;

use attar::Gguf;
use common::{own, shared};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn fit(model: &Path, out: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_attar"));
    command.arg("fit").arg(model).arg("-o").arg(out).arg("--json").args(more);
    command.output().expect("the program")
}

/// A folder of this test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("attar-fit-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

#[test]
fn the_best_that_keeps_to_a_size_is_near_the_model() {
    let Some(model) = shared("models/stories260K-f32.gguf") else { return };
    let folder = folder("size");
    let out = folder.join("small.gguf");
    let data = ["--data", "self", "--tokens", "40k", "--seq-len", "128", "--held-out", "4k"];
    let done = fit(&model, &out, &[&["--max-bytes", "190k"][..], &data].concat());
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let result = &report["result"];
    let bytes = std::fs::metadata(&out).expect("the file").len();
    assert!(bytes <= 190_000 && bytes > 180_000, "{bytes} bytes");
    assert_eq!(result["file_bytes"].as_u64(), Some(bytes));
    // Rounding alone takes 242 KB for a divergence of 0.11.
    let kl = result["kl"].as_f64().expect("a divergence");
    assert!(kl < 0.3, "KL {kl}");
    let tried = report["tried"].as_array().expect("trials");
    assert_eq!(tried.len(), 3, "{report}");
    // Lessons that lead away from the model are not kept.
    assert!(
        tried.iter().all(|trial| kl <= trial["kl"].as_f64().expect("a divergence")),
        "{report}"
    );
    Gguf::open(&out).expect("a sound file");
    assert_eq!(std::fs::read_dir(&folder).expect("the folder").count(), 1, "nothing is left over");

    let refused = fit(&model, &out, &[&["--max-bytes", "20k"][..], &data].concat());
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("20000 bytes are too few"), "{said}");
    // What was there stays.
    assert_eq!(std::fs::metadata(&out).expect("the file").len(), bytes);
    std::fs::remove_dir_all(&folder).expect("the folder");
}

#[test]
fn a_speed_out_of_reach_is_refused_with_the_nearest() {
    let (folder, model) = (folder("speed"), own("models/attar-1m.gguf"));
    let out = folder.join("small.gguf");
    let slow = ["--bytes-per-s", "1000", "--min-tokens-per-s", "5"];
    let data = ["--data", "self", "--tokens", "2k", "--seq-len", "50", "--held-out", "500"];
    let refused = fit(&model, &out, &[&["--max-bytes", "900k"][..], &slow, &data].concat());
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("nothing keeps to the limits"), "{said}");
    assert_eq!(std::fs::read_dir(&folder).expect("the folder").count(), 0, "nothing is written");
    std::fs::remove_dir_all(&folder).expect("the folder");
}

/// Killed at any moment it leaves the old file or the new one, and goes on to equal bits; then nothing else stays.
#[test]
fn a_killed_fit_goes_on() {
    let (folder, model) = (folder("kill"), own("models/attar-1m.gguf"));
    let run = |out: &Path, resume: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_attar"));
        command.arg("fit").arg(&model).arg("-o").arg(out).args(["--max-bytes", "900k"]);
        command.args(["--data", "self", "--tokens", "2k", "--seq-len", "50", "--held-out", "500"]);
        // Speeds are not measured: they would decide, and are others each time.
        command.args(["--bytes-per-s", "1G", "--batch", "2", "--checkpoint-after", "0"]);
        command.args(["--train-tokens", "6k"]).args(resume.then_some("--resume"));
        command.stdout(Stdio::null()).spawn().expect("the program")
    };
    let whole = folder.join("whole.gguf");
    assert!(run(&whole, false).wait().expect("an end").success());
    let whole = std::fs::read(whole).expect("the file");
    let out = folder.join("killed.gguf");
    std::fs::write(&out, b"old").expect("an old file");
    let mut killed = 0;
    for round in 0.. {
        let mut child = run(&out, true);
        // Longer each time: it must come to an end.
        std::thread::sleep(Duration::from_millis(400 * (1 + round)));
        if let Some(status) = child.try_wait().expect("a child") {
            assert!(status.success());
            break;
        }
        child.kill().expect("a child to kill");
        child.wait().expect("an end");
        killed += 1;
        let found = std::fs::read(&out).expect("the file");
        assert!(found == b"old" || found == whole, "neither old nor new");
    }
    println!("killed {killed} times");
    assert!(killed > 0 && std::fs::read(&out).expect("the file") == whole);
    assert_eq!(std::fs::read_dir(&folder).expect("the folder").count(), 2, "nothing is left over");
    std::fs::remove_dir_all(&folder).expect("the folder");
}
