//! Real models, through the command line: texts word for word, logits, perplexity, judgements of
//! grammar.

mod common;

use attar::{Format, Options};
use common::{all_logits, open, own, shared};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Runs `attar` and returns its standard output.
fn attar(args: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_attar")).args(args).output().expect("the program");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "attar {args:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&attar(args)).expect("JSON")
}

fn text_of(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

/// `(model, its greedy text, prompt)`.
const GREEDY: [(&str, &str, &str); 3] = [
    ("stories260K-f32", "stories260K.greedy256.txt", ""),
    ("stories260K-f32", "stories260K.dragon200.txt", "Once upon a time, there was a little dragon"),
    ("stories3M-f32", "stories3M-dequant-f32.greedy300.txt", ""),
];

/// This file carries another model's vocabulary; the text is spelt by the reference's ids.
#[test]
fn a_greedy_text_of_characters_is_that_of_the_reference() {
    let Some(model) = shared("models/babyllama-char-f32.gguf") else { return };
    let read = |name: &str| std::fs::read_to_string(model.with_file_name(name)).expect("a file");
    let reference: Value =
        serde_json::from_str(&read("babyllama-tok105.logits.json")).expect("JSON");
    let text = read("babyllama-tok105.greedy256.txt");
    let mut session = open(&model, Options { cache: Format::F32, ..Options::default() });
    let mut ids = vec![1u32];
    while ids.len() < 256 {
        let logits = session.feed(&ids[ids.len() - 1..]).expect("room");
        let best = (0..logits.len()).reduce(|a, b| if logits[b] > logits[a] { b } else { a });
        ids.push(best.expect("logits") as u32);
    }
    let known = reference["cases"][0]["generated_ids"].as_array().expect("ids");
    let known: Vec<u32> = known.iter().map(|id| id.as_u64().expect("an id") as u32).collect();
    assert_eq!(ids[1..=known.len()], known[..]);
    // A space comes first and is not in the text; then each id is one character and back.
    let pairs: std::collections::BTreeSet<(u32, char)> =
        ids[2..].iter().copied().zip(text.trim_end().chars()).collect();
    let ids: std::collections::BTreeSet<u32> = pairs.iter().map(|pair| pair.0).collect();
    let characters: std::collections::BTreeSet<char> = pairs.iter().map(|pair| pair.1).collect();
    assert!(pairs.len() == ids.len() && pairs.len() == characters.len() && pairs.len() > 20);
}

#[test]
fn greedy_texts_are_those_of_the_reference() {
    for (model, text, prompt) in GREEDY {
        let Some(model) = shared(&format!("models/{model}.gguf")) else { continue };
        let want = std::fs::read_to_string(model.with_file_name(text)).expect("a text");
        let options = ["--temp", "0", "-n", "300", "--cache", "f32"];
        let mut args = vec!["run", text_of(&model), "-p", prompt];
        args.extend(options);
        let got = attar(&args);
        let (got, want) = (got.trim(), want.trim());
        let len = got.len().min(want.len());
        assert!(len > 200 && got[..len] == want[..len], "{text}:\n{got}\nexpected\n{want}");
    }
}

#[test]
fn logits_are_those_of_the_reference() {
    for name in ["stories260K", "stories3M-q80-dequant", "babyllama-tok105"] {
        let Some(path) = shared(&format!("models/{name}.logits.json")) else { continue };
        let reference = std::fs::read_to_string(&path).expect("a reference");
        let reference: Value = serde_json::from_str(&reference).expect("JSON");
        let file = match name {
            "stories3M-q80-dequant" => "stories3M-f32.gguf",
            "babyllama-tok105" => "babyllama-char-f32.gguf",
            _ => "stories260K-f32.gguf",
        };
        let options = Options { cache: Format::F32, ..Options::default() };
        let mut session = open(&path.with_file_name(file), options);
        for case in reference["cases"].as_array().expect("cases") {
            let number = |v: &Value| v.as_u64().expect("an id") as u32;
            let ids: Vec<u32> =
                case["prompt_ids"].as_array().expect("ids").iter().map(number).collect();
            let want = case["last_prompt_logits"].as_array().expect("logits");
            let want: Vec<f32> =
                want.iter().map(|v| v.as_f64().expect("a number") as f32).collect();
            let all = all_logits(&mut session, &ids);
            let got = &all[all.len() - want.len()..];
            // The reference prints six decimals and sums in another order.
            let scale = want.iter().fold(1f32, |m, v| m.max(v.abs()));
            let bound = 1e-6 + 64.0 * f32::EPSILON * scale;
            for (id, (g, w)) in got.iter().zip(&want).enumerate() {
                assert!(
                    (g - w).abs() <= bound,
                    "{name} {}: logit {id} is {g}, not {w}",
                    case["prompt"]
                );
            }
        }
    }
}

/// llama.cpp's figures for the same file and method (README), and how much more is allowed.
const PERPLEXITIES: [(&str, f64, f64); 4] =
    [("f32", 7.32, 1.001), ("q8_0", 7.329, 1.01), ("q5_0", 7.747, 1.01), ("q4_0", 8.762, 1.01)];

#[test]
fn perplexity_of_quantised_files_is_that_of_the_peer() {
    let Some(model) = shared("models/stories3M-f32.gguf") else { return };
    let Some(text) = shared("data/tinystories-sample.txt") else { return };
    let folder = std::env::temp_dir().join(format!("attar-stories-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    for (format, peer, factor) in PERPLEXITIES {
        let file = folder.join(format!("{format}.gguf"));
        attar(&["quantize", text_of(&model), format, "-o", text_of(&file)]);
        let options = ["--stream", "--seq-len", "256", "--tokens", "15360", "--json"];
        let args = ["eval", text_of(&file), "--data", text_of(&text)];
        let report = json(&[&args[..], &options].concat());
        let got = report["perplexity"].as_f64().expect("a number");
        println!("{format}: perplexity {got:.3}, llama.cpp {peer}");
        assert!(got <= peer * factor, "{format}: {got} against {peer}");
        assert!(got >= 7.3, "{format}: {got} is better than the model can be");
    }
    std::fs::remove_dir_all(&folder).expect("the temporary folder");
}

#[test]
fn grammar_raises_the_probability_of_a_sentence() {
    let Some(model) = shared("models/stories3M-f32.gguf") else { return };
    let scores = json(&["score", text_of(&model), "--json", "I am happy.", "I are happy."]);
    let logprob = |i: usize| scores[i]["logprob"].as_f64().expect("a number");
    assert!(logprob(0) > logprob(1), "{scores}");
    for i in 0..2 {
        let tokens = scores[i]["tokens"].as_array().expect("tokens");
        let sum: f64 = tokens.iter().map(|t| t["logprob"].as_f64().expect("a number")).sum();
        assert!((sum - logprob(i)).abs() < 1e-4, "{sum} is not {}", logprob(i));
    }
}

/// Chance is 0.5. A story model of 3 M parameters knows the grammar of short common words; the
/// bound is well above chance on 1000 pairs a set (standard error 0.016) and below what was measured.
#[test]
fn minimal_pairs_are_judged_better_than_by_chance() {
    let Some(model) = shared("models/stories3M-f32.gguf") else { return };
    let Some(folder) = shared("data/blimp") else { return };
    let parts = std::env::temp_dir().join(format!("attar-pairs-{}", std::process::id()));
    std::fs::create_dir_all(&parts).expect("a temporary folder");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("a readable folder").path();
        let text = std::fs::read_to_string(&path).expect("a set");
        let first: Vec<&str> = text.lines().take(200).collect();
        files.push(parts.join(path.file_name().expect("a file")));
        std::fs::write(&files[files.len() - 1], first.join("\n")).expect("a part of the set");
    }
    let mut args = vec!["eval", text_of(&model), "--json", "--pairs"];
    args.extend(files.iter().map(|file| text_of(file)));
    let report = json(&args);
    std::fs::remove_dir_all(&parts).expect("the temporary folder");
    let pairs = &report["minimal_pairs"];
    println!("{pairs}");
    let accuracy = pairs["accuracy"].as_f64().expect("a share");
    let sets = pairs["sets"].as_object().expect("sets");
    assert!(pairs["pairs"].as_u64() >= Some(1000) && sets.len() == files.len(), "{pairs}");
    assert!(accuracy > 0.6, "accuracy {accuracy}");
}

/// A file's format, llama.cpp's KL divergence from the F32 file on text of the model's own, and its
/// share of positions with the same likeliest token (`-c 128`, another sample).
const LADDER: [(&str, f64, f64); 3] =
    [("q8_0", 0.0008, 0.985), ("q5_0", 0.0171, 0.934), ("q4_0", 0.0796, 0.860)];

#[test]
fn divergence_of_quantised_files_is_that_of_the_peer() {
    let Some(model) = shared("models/stories260K-f32.gguf") else { return };
    let folder = std::env::temp_dir().join(format!("attar-ladder-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    for (format, peer, same_top) in LADDER {
        let file = folder.join(format!("{format}.gguf"));
        attar(&["quantize", text_of(&model), format, "-o", text_of(&file)]);
        let options = ["--data", "self", "--tokens", "5k", "--seq-len", "128", "--json"];
        let args = ["eval", text_of(&file), "--reference", text_of(&model)];
        let report = json(&[&args[..], &options].concat());
        let kl = report["kl"]["mean"].as_f64().expect("a number");
        let same = report["same_top"].as_f64().expect("a share");
        println!("{format}: KL {kl:.5}, llama.cpp {peer}; same likeliest {same:.3}");
        assert!((0.8 * peer..1.25 * peer).contains(&kl), "{format}: {kl} against {peer}");
        assert!((same - same_top).abs() < 0.02, "{format}: {same} against {same_top}");
    }
    std::fs::remove_dir_all(&folder).expect("the temporary folder");
}

#[test]
fn the_bundled_models_tell_a_story_and_take_commands() {
    for (name, bytes) in [("attar-1m", 1_000_000), ("attar-4m", 4_000_000)] {
        let path = own(&format!("models/{name}.gguf"));
        assert!(path.metadata().expect("the model").len() <= bytes, "{name}");
        let model = path.to_str().expect("a path in Unicode");
        let say = |prompt: &str| attar(&["run", model, "-p", prompt, "-n", "60", "--temp", "0"]);
        let story = say("Once upon a time");
        assert!(story.starts_with("Once upon a time"), "{name}: {story}");
        assert!(story.split_whitespace().count() > 25, "{name}: {story}");
        let said = say("Q: Turn on the kitchen light.\nA:");
        let (_, answer) = said.split_once("A:").expect("the prompt and an answer");
        let answer: serde_json::Value = serde_json::from_str(answer).expect("JSON");
        let wanted = serde_json::json!({"device": "light", "room": "kitchen", "action": "on"});
        assert_eq!(answer, wanted, "{name}");
    }
}

#[test]
fn the_model_inside_the_program_is_the_small_one() {
    let path = own("models/attar-1m.gguf");
    let model = path.to_str().expect("a path in Unicode");
    let tell = |model: &[&str]| {
        attar(&[&["run"], model, &["-p", "One day", "-n", "20", "--temp", "0"]].concat())
    };
    assert_eq!(tell(&[]), tell(&[model]));
}
