//! `attar eval`: tasks in files, one table, one JSON object, clear refusals.
#![cfg(feature = "cli")]

mod common;

use common::own;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A file of the test's own, gone with it.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("attar-eval-{}-{name}", std::process::id()));
        std::fs::write(&path, text).expect("a file");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a UTF-8 path")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // what cannot be removed is the system's to clean
    }
}

fn eval(args: &[&str]) -> Output {
    let model = own("models/attar-1m.gguf");
    let mut program = Command::new(env!("CARGO_BIN_EXE_attar"));
    program.arg("eval").arg(model).args(args).output().expect("the program")
}

fn text(args: &[&str]) -> String {
    let output = eval(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&text(&[args, &["--json"]].concat())).expect("JSON")
}

fn failure(args: &[&str]) -> String {
    let output = eval(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

/// Told apart by any model of English stories, whatever else it has learned.
const PAIRS: &str = r#"{"sentence_good": "The dog ran home.", "sentence_bad": "Home the ran dog.", "UID": "order"}
{"sentence_good": "Once upon a time, a cat sat.", "sentence_bad": "Time upon a once, sat cat a.", "UID": "order"}
{"sentence_good": "Xq zzv the kkp.", "sentence_bad": "The dog is big.", "UID": "upside_down"}
"#;

#[test]
fn pairs_are_counted_by_set() {
    let file = File::new("pairs.jsonl", PAIRS);
    let report = json(&["--pairs", file.path()]);
    let pairs = &report["minimal_pairs"];
    assert_eq!(pairs["sets"]["order"]["accuracy"], 1.0, "{report}");
    assert_eq!(pairs["sets"]["upside_down"]["accuracy"], 0.0, "{report}");
    assert_eq!((&pairs["pairs"], &pairs["accuracy"]), (&3.into(), &(2.0 / 3.0).into()));
    let table = text(&["--pairs", file.path()]);
    assert!(table.lines().any(|l| l.starts_with("  order") && l.contains("100.00 %")), "{table}");
}

#[test]
fn sentences_that_are_equal_are_the_most_similar() {
    let csv = "sentence1,sentence2,score\n\
               The dog ran home.,The dog ran home.,5\n\
               \"Once upon a time, a cat sat.\",\"Once upon a time, a dog sat.\",4\n\
               The dog ran home.,\"\"\"Look!\"\" said Leo.\",0\n";
    let file = File::new("similar.csv", csv);
    let report = json(&["--similarity", file.path()]);
    assert_eq!(report["similarity"]["pairs"], 3);
    let spearman = report["similarity"]["spearman"].as_f64().expect("a number");
    assert!((spearman - 1.0).abs() < 1e-9, "{report}");
}

#[test]
fn analogies_count_what_is_known() {
    let file = File::new("analogies.txt", ": family\nboy girl he she\nboy xylophone he zebra\n");
    let report = json(&["--analogies", file.path()]);
    let found = &report["analogies"];
    assert_eq!((&found["known"], &found["out_of_vocabulary"]), (&1.into(), &0.5.into()), "{found}");
}

#[test]
fn a_model_is_measured_on_what_it_makes_up() {
    let model = own("models/attar-1m.gguf");
    let model = model.to_str().expect("a UTF-8 path");
    let options = ["--data", "self", "--tokens", "1k", "--seq-len", "100", "--reference", model];
    let report = json(&options);
    assert_eq!((&report["sequences"], &report["tokens"]), (&10.into(), &990.into()));
    assert_eq!(report["same_top"], 1.0);
    assert!(report["kl"]["mean"].as_f64().expect("a number").abs() < 1e-7, "{report}");
    assert_eq!(report["perplexity"], report["reference_perplexity"]);
    assert_eq!(report, json(&[&options[..], &["--threads", "1"]].concat()));
    assert_ne!(
        report["perplexity"],
        json(&[&options[..], &["--seed", "1"]].concat())["perplexity"]
    );
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let empty = File::new("empty.txt", "\n");
    let pairs = File::new("wrong.jsonl", "{\"sentence_good\": \"I am.\"}\n");
    let csv = File::new("wrong.csv", "a,b,1\na,b,c\n");
    let analogies = File::new("wrong.txt", "one two three\n");
    for (args, want) in [
        (&[][..], "nothing to measure: give --data"),
        (&["--data", empty.path()], "empty.txt: data: too short"),
        (&["--data", empty.path(), "--stream"], "empty.txt: data: too short"),
        (&["--data", "self", "--stream"], "--stream cuts a text"),
        (&["--data", "no-such-file"], "cannot read no-such-file"),
        (&["--data", "self", "--seq-len", "1"], "sequences of 1 tokens, expected at least 2"),
        (&["--pairs", empty.path()], "no pairs"),
        (&["--pairs", pairs.path()], "wrong.jsonl: line 1: expected JSON with sentence_good"),
        (&["--similarity", csv.path()], "wrong.csv: line 2: expected a number"),
        (&["--analogies", analogies.path()], "wrong.txt: line 1: expected four words"),
        (&["--data", pairs.path(), "--reference", "tests/golden/llama.gguf"], "cannot be compared"),
    ] {
        let error = failure(args);
        assert!(error.contains(want) && error.lines().count() == 1, "{args:?}: {error}");
    }
}
