//! The program as its users meet it: output, errors, exit codes, the same text for the same seed.

mod common;

use common::{own, read_floats, read_ids, shared};
use serde_json::Value;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_attar"))
}

fn model() -> String {
    own("models/attar-1m.gguf").display().to_string()
}

fn attar(args: &[&str], input: &[u8]) -> Output {
    let mut child = program()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A program that needs no input may have ended already.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().expect("the program's end")
}

/// Standard output of a run that must succeed.
fn text(args: &[&str], input: &[u8]) -> Vec<u8> {
    let output = attar(args, input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "attar {args:?}: {errors}");
    output.stdout
}

fn json(args: &[&str]) -> Value {
    serde_json::from_slice(&text(args, b"")).expect("JSON")
}

/// Standard error of a run that must fail with status 1.
fn failure(args: &[&str]) -> String {
    let output = attar(args, b"");
    assert_eq!(output.status.code(), Some(1), "attar {args:?}");
    assert!(output.stdout.is_empty(), "attar {args:?} printed in spite of its error");
    String::from_utf8(output.stderr).expect("UTF-8")
}

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("attar-cli-{}-{name}", std::process::id()))
}

#[test]
fn help_teaches_by_example() {
    for command in [
        "run", "chat", "inspect", "tokenize", "logits", "score", "eval", "quantize", "bench",
        "random", "corpus",
    ] {
        let help = String::from_utf8(text(&[command, "--help"], b"")).expect("UTF-8");
        assert!(help.contains("Example") && help.contains("  attar "), "{command}: {help}");
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let run = |seed: &str, threads: &str| {
        let args = ["run", "-p", "Once upon a time", "-n", "40", "--seed", seed, "-t", threads];
        String::from_utf8(text(&args, b"")).expect("UTF-8")
    };
    let story = run("7", "1");
    assert!(story.starts_with("Once upon a time"), "{story}");
    assert_eq!(story, run("7", "2"));
    assert_ne!(story, run("8", "1"));
}

#[test]
fn a_prompt_comes_from_an_option_a_file_or_a_pipe() {
    let path = temporary("prompt.txt");
    std::fs::write(&path, "One day, a dog").expect("a file");
    let path = path.to_str().expect("a UTF-8 path");
    let rest = ["-n", "12", "--temp", "0"];
    let by_option = text(&[&["run", "-p", "One day, a dog"], &rest[..]].concat(), b"");
    let by_file = text(&[&["run", "-f", path], &rest[..]].concat(), b"");
    let by_pipe = text(&[&["run", "-p", "-"], &rest[..]].concat(), b"One day, a dog");
    std::fs::remove_file(path).expect("the file");
    assert_eq!(by_option, by_file);
    assert_eq!(by_option, by_pipe);
    let report = json(&[&["run", "-p", "One day, a dog", "--json"], &rest[..]].concat());
    let whole = format!("One day, a dog{}\n", report["text"].as_str().expect("text"));
    assert_eq!(whole.as_bytes(), by_option);
    assert_eq!(report["generated_tokens"], 12);
    assert_eq!(report["stop"], "length");
}

#[test]
fn tokens_go_there_and_back_byte_for_byte() {
    let model = model();
    let input = b"Tom's  dog\n\xff\x00 ran";
    let ids = String::from_utf8(text(&["tokenize", &model, "--json"], input)).expect("UTF-8");
    assert_eq!(text(&["tokenize", &model, "--decode", ids.trim()], b""), input);
    let plain = json(&["tokenize", &model, "--text", "<s>hi", "--json"]);
    let parsed = json(&["tokenize", &model, "--text", "<s>hi", "--json", "--parse-special"]);
    let added = json(&["tokenize", &model, "--text", "hi", "--json", "--add-special"]);
    assert_eq!((&parsed[0], &added[0]), (&Value::from(1), &Value::from(1)));
    assert!(plain.as_array().expect("ids").iter().all(|id| *id != 1));
    assert!(failure(&["tokenize", &model, "--decode", "12 99999"]).contains("99999"));
}

#[test]
fn logits_do_not_depend_on_chunks_and_equal_the_reference() {
    let model = own("tests/golden/qwen3moe.gguf");
    let ids = model.with_extension("ids");
    let logits = |more: &[&str]| {
        let out = temporary(&format!("{}.f32", more.concat()));
        let paths = [&model, &ids, &out].map(|path| path.to_str().expect("a UTF-8 path"));
        let args = ["logits", paths[0], "--ids-file", paths[1], "--out", paths[2]];
        text(&[&args, more].concat(), b"");
        let logits = read_floats(&out);
        std::fs::remove_file(out).expect("the output");
        logits
    };
    let whole = logits(&[]);
    assert_eq!(whole.len() % read_ids(&ids).len(), 0);
    assert!(common::normalized_error(&whole, &read_floats(&model.with_extension("f32"))) < 1e-11);
    for more in [["--chunk", "1"], ["--chunk", "5"], ["--threads", "3"]] {
        let same = logits(&more).iter().zip(&whole).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{more:?}");
    }
    let broken = temporary("ids.txt");
    std::fs::write(&broken, "1\ntwo\n").expect("a file");
    let [model, broken_name] = [&model, &broken].map(|path| path.to_str().expect("UTF-8"));
    let out = temporary("never.f32");
    let out_name = out.to_str().expect("UTF-8");
    let error = failure(&["logits", model, "--ids-file", broken_name, "--out", out_name]);
    assert!(error.contains("line 2") && error.contains("'two'"), "{error}");
    std::fs::write(&broken, "1\n64\n").expect("a file");
    let error = failure(&["logits", model, "--ids-file", broken_name, "--out", out_name]);
    assert!(error.contains("token 64"), "{error}");
    assert!(!out.exists());
    std::fs::remove_file(broken).expect("the file");
}

#[test]
fn scores_follow_the_chain_rule() {
    let scores = json(&["score", &model(), "--json", "I am happy.", "I are happy."]);
    let logprob = |i: usize| scores[i]["logprob"].as_f64().expect("a number");
    assert!(logprob(0) > logprob(1), "{scores}");
    let first = &scores[0];
    let tokens = first["tokens"].as_array().expect("tokens");
    let sum: f64 = tokens.iter().map(|token| token["logprob"].as_f64().expect("a number")).sum();
    assert!((sum - logprob(0)).abs() < 1e-9);
    let bits = -logprob(0) / std::f64::consts::LN_2 / "I am happy.".len() as f64;
    assert!((bits - first["bits_per_byte"].as_f64().expect("a number")).abs() < 1e-9);
    let pieces: String = tokens.iter().map(|t| t["piece"].as_str().expect("a piece")).collect();
    assert_eq!(pieces.trim_start(), "I am happy.");
}

#[test]
fn inspection_shows_what_is_there() {
    let report = json(&["inspect", &model(), "--json", "--strict"]);
    assert_eq!(report["metadata"]["general.architecture"], "llama");
    let gguf = attar::Gguf::open(model().as_ref()).expect("the bundled model");
    let weights: usize = gguf.tensors().iter().map(attar::gguf::Tensor::len).sum();
    assert_eq!(report["parameters"], weights);
    assert_eq!(report["types"]["q4_0"]["bytes"].as_u64().map(|n| n > 500_000), Some(true));
    let plain = String::from_utf8(text(&["inspect", &model()], b"")).expect("UTF-8");
    assert!(
        plain.contains("token_embd.weight") && plain.contains(&format!("{weights} parameters"))
    );
}

#[test]
fn quantising_warns_of_what_does_not_fit_and_leaves_no_half_file() {
    let out = temporary("small.gguf");
    let name = out.to_str().expect("UTF-8");
    let random = temporary("wide.gguf");
    let random_name = random.to_str().expect("UTF-8");
    let make = |width: &str| {
        let shape = "--feed 352 --layers 1 --heads 4 --kv-heads 2 --vocab 99 --type f16 --width";
        let shape: Vec<&str> = shape.split(' ').chain([width]).collect();
        text(&[&["random", "-o", random_name], &shape[..]].concat(), b"");
    };
    // Rows of 128 and 352 are no multiple of 256: that is no use at all.
    make("128");
    let error = failure(&["quantize", random_name, "q4_k", "-o", name]);
    assert!(error.contains("256") && error.contains("that fits is q5_0"), "{error}");
    // Here only the rows of 352 are not.
    make("256");
    let output = attar(&["quantize", random_name, "q4_k", "-o", name], b"");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(errors.contains("warn") && errors.contains("q5_0"), "{errors}");
    std::fs::remove_file(random).expect("the file");
    let report = json(&["inspect", name, "--json", "--strict"]);
    assert_eq!(report["metadata"]["general.file_type"], 14);
    // To a size, with what became of each tensor.
    let data = ["--data", "self", "--tokens", "600", "--seq-len", "60"];
    let path = model();
    let target = ["quantize", &path, "--target-size", "900k", "-o", name];
    let report = json(&[&target[..], &data, &["--json"]].concat());
    let bytes = report["file_bytes"].as_u64().expect("a number");
    assert!((891_000..=900_000).contains(&bytes), "{report}");
    assert_eq!(bytes, std::fs::metadata(name).expect("the file").len());
    assert!(report["kl"]["mean"].as_f64() > Some(0.0), "{report}");
    let mut tensors = report["tensors"].as_array().expect("tensors").iter();
    assert!(tensors.any(|tensor| tensor["weighted_error"].as_f64() > Some(0.0)), "{report}");
    let error = failure(&["quantize", &model(), "--target-bpw", "1", "-o", name]);
    assert!(error.contains("too small") && error.contains("bits a weight"), "{error}");
    let error = failure(&["quantize", &model(), "--target-size", "900k", "-o", name]);
    assert!(error.contains("--data is missing"), "{error}");
    for usage in [&["q8_0", "--target-size", "1M"][..], &[]] {
        let args = [&["quantize", &path, "-o", name], usage].concat();
        assert_eq!(attar(&args, b"").status.code(), Some(2), "{usage:?}");
    }
    let story = text(&["run", name, "-p", "Once upon a time", "-n", "8", "--temp", "0"], b"");
    assert!(story.len() > 30);
    assert!(failure(&["quantize", &model(), "q9_9", "-o", name]).contains("expected one of"));
    std::fs::remove_file(out).expect("the file");
    let nowhere = temporary("no-such-folder/x.gguf");
    let nowhere = nowhere.to_str().expect("UTF-8");
    assert!(failure(&["quantize", &model(), "q8_0", "-o", nowhere]).contains("no-such-folder"));
}

#[test]
fn errors_name_what_is_wrong_and_usage_errors_exit_with_2() {
    assert!(failure(&["run", "no-such-file.gguf", "-p", "x"]).contains("no-such-file.gguf"));
    let script = own("tests/golden/make.py");
    let error = failure(&["inspect", script.to_str().expect("UTF-8")]);
    assert!(error.contains("make.py") && error.contains("GGUF"), "{error}");
    assert!(failure(&["run", "-p", "x", "--top-p", "2"]).contains("top_p is 2"));
    assert!(failure(&["run", "-p", "x", "--ctx", "1"]).contains("context"));
    let textless = own("tests/golden/llama.gguf");
    assert!(failure(&["run", textless.to_str().expect("UTF-8"), "-p", "x"]).contains("only ids"));
    assert_eq!(attar(&["run", "--no-such-option"], b"").status.code(), Some(2));
    let output = program().args(["run", "-p", "x"]).env("ATTAR_ISA", "abacus").output();
    let errors = String::from_utf8(output.expect("the program").stderr).expect("UTF-8");
    assert!(errors.contains("abacus") && errors.contains("scalar"), "{errors}");
}

#[test]
fn a_bench_of_a_random_model_reports_all_figures() {
    let path = temporary("random.gguf");
    let name = path.to_str().expect("UTF-8");
    let shape = "--width 256 --layers 2 --heads 4 --kv-heads 2 --feed 512 --vocab 512 --context 64";
    let shape: Vec<&str> = shape.split(' ').collect();
    text(&[&["random", "-o", name, "--type", "q4_k"], &shape[..]].concat(), b"");
    let lengths = ["--prompt-len", "16", "--gen-len", "4", "--rounds", "2", "--json"];
    let report = json(&[&["bench", name], &lengths[..]].concat());
    for key in ["prompt_tokens_per_second", "generation_tokens_per_second"] {
        let part = |name: &str| report[key][name].as_f64().expect("a number");
        assert!(
            part("min") > 0.0 && part("min") <= part("median") && part("median") <= part("max")
        );
    }
    for key in [
        "first_token_seconds",
        "load_seconds",
        "read_roof_bytes_per_second",
        "bandwidth_share",
        "bytes_per_token",
        "session_bytes",
    ] {
        assert!(report[key].as_f64().is_some_and(|v| v > 0.0), "{key}: {report}");
    }
    assert_eq!(
        (&report["allocations_during_generation"], &report["device_bytes"]),
        (&0.into(), &0.into())
    );
    #[cfg(feature = "gpu")]
    if !attar::backend::Gpu::devices().is_empty() {
        let report = json(&[&["bench", name, "--device", "gpu"], &lengths[..]].concat());
        assert!(report["device_bytes"].as_u64().is_some_and(|n| n > 0), "{report}");
        for key in ["read_roof_bytes_per_second", "bandwidth_share"] {
            assert!(report[key].is_null(), "the host's memory is not what was read: {report}");
        }
    }
    std::fs::remove_file(path).expect("the file");
}

/// The file's pages and what the session claimed, but no second copy of the weights.
#[cfg(target_os = "linux")]
#[test]
fn resident_memory_is_the_file_and_the_plan() {
    let path = temporary("resident.gguf");
    let name = path.to_str().expect("UTF-8");
    let shape = "--width 1024 --layers 4 --heads 8 --kv-heads 2 --feed 2048 --context 128";
    let shape: Vec<&str> = shape.split(' ').collect();
    text(&[&["random", "-o", name, "--type", "q8_0"], &shape[..]].concat(), b"");
    let lengths = ["--prompt-len", "64", "--gen-len", "4", "--rounds", "1", "--json"];
    let report = json(&[&["bench", name], &lengths[..]].concat());
    let bytes = |key: &str| report[key].as_u64().expect("a size");
    std::fs::remove_file(path).expect("the file");
    let planned = bytes("file_bytes") + bytes("session_bytes");
    // The program's own pages: code, the bundled model, stacks, the allocator.
    let own = 16 << 20;
    let peak = bytes("peak_resident_bytes");
    assert!(bytes("file_bytes") > 3 * own, "too small a file to tell a copy");
    assert!(peak <= planned + own, "{peak} bytes resident, {planned} planned");
}

#[test]
fn answers_to_the_corpus_are_scored() {
    let path = temporary("answers.jsonl");
    let name = path.to_str().expect("UTF-8");
    text(&["corpus", "home", "grammar", "--held-out", "--jsonl", "--texts", "40", "-o", name], b"");
    let report = json(&["eval", &model(), "--answers", name, "--json"]);
    let text = std::fs::read_to_string(&path).expect("the file");
    std::fs::remove_file(path).expect("the file");
    let home = text.matches("\"kind\":\"home\"").count() as u64;
    let kinds = &report["answers"]["kinds"];
    assert_eq!(kinds["home"]["count"].as_u64(), Some(home));
    assert_eq!(kinds["grammar"]["count"].as_u64(), Some(40 - home));
    // The bundled model knows commands well, and corrections worse: models/README.md has the figures.
    assert!(kinds["home"]["exact"].as_f64().expect("a share") > 0.5, "{report}");
    let edits = kinds["grammar"]["edits"]["f_half"].as_f64().expect("a figure");
    assert!(edits > 0.02 && edits < 0.5, "{report}");
}

#[test]
fn a_chat_goes_on_until_the_input_ends() {
    let answer = text(&["chat", "--temp", "0", "-n", "8"], b"Once upon a time\n/clear\n/exit\n");
    assert!(answer.len() > 10, "{}", String::from_utf8_lossy(&answer));
}

#[cfg(unix)]
#[test]
fn an_interrupt_stops_cleanly() {
    let Some(model) = shared("models/stories3M-f32.gguf") else { return };
    let mut child = program()
        .args([
            "run",
            model.to_str().expect("UTF-8"),
            "-p",
            "Once",
            "-n",
            "100000",
            "--ctx",
            "100000",
        ])
        .env("ATTAR_ISA", "scalar")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut first = [0; 8];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("the start of the text");
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill").success());
    let output = child.wait_with_output().expect("the program's end");
    assert_eq!(output.status.code(), Some(130));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("interrupted"), "{errors}");
}
