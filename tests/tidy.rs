//! The rules of this project that a program can check: layers, names, sizes, stray marks.

use std::fs;
use std::path::{Path, PathBuf};

/// Layers of `src`, lowest first; a file may use only modules of its own line or of lines above it.
const LAYERS: &[&[&str]] = &[
    &["error", "memory", "bytes"],
    &["gguf", "tokenizer", "sampler", "constraint", "chat", "image", "audio"],
    &["backend"],
    &["model"],
    &["arch"],
    &["session"],
    &["compress", "train"],
    &["capi", "serve", "main"],
];

const LINES_MAX: usize = 600;

/// Files that may contain unsafe code.
const UNSAFE_FILES: &[&str] = &[
    "kernels/arm/instructions.rs",
    "kernels/isa.rs",
    "kernels/trap.rs",
    "kernels/x86_64.rs",
    "src/bytes.rs",
    "src/memory/arena.rs",
    "src/memory/bare.rs",
    "src/memory/block.rs",
    "src/memory/hosted.rs",
    "src/memory/shared.rs",
    "src/backend/gpu/device.rs",
    "src/backend/gpu/shaders.rs",
    "src/backend/threads.rs",
    "src/backend/threads/pool.rs",
    "src/capi/calls.rs",
    "src/capi/handle.rs",
    "src/capi/lent.rs",
    "src/capi/raw.rs",
    "src/capi/source.rs",
    "src/main/allocations.rs",
    "src/train/product.rs",
];

/// Names of model families: only `src/arch` may know them.
const FAMILIES: &[&str] = &["llama", "mistral", "mixtral", "qwen", "deepseek", "baichuan", "gemma"];

/// Names of instruction sets: only `kernels` may know them.
const INSTRUCTION_SETS: &[&str] = &["avx2", "avx512", "vnni", "neon", "simd128", "sse", "dsp"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Rust files below `folder`, with their path relative to the project and their text.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|e| e.expect("a readable folder").path()) {
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|e| e == "rs") => files.push(read(path)),
                false => {}
            }
        }
    }
    files.sort();
    files
}

fn read(path: PathBuf) -> (String, String) {
    let text = fs::read_to_string(&path).expect("source files are UTF-8");
    let name = path.strip_prefix(root()).expect("below the project").display().to_string();
    (name.replace('\\', "/"), text)
}

/// The code of a line, without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn files_use_only_layers_below_them() {
    let mut wrong = Vec::new();
    for (name, text) in sources("src") {
        let module = name.trim_start_matches("src/").split(['/', '.']).next().unwrap_or("");
        let Some(own) = layer_of(module) else {
            assert!(module == "lib", "{name} is in no layer: add it to LAYERS");
            continue;
        };
        for line in text.lines().map(code) {
            for used in line.split("crate::").skip(1) {
                let used =
                    used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
                if layer_of(used).is_some_and(|layer| layer > own) {
                    wrong.push(format!("{name}: {}", line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "uses of a higher layer:\n{}", wrong.join("\n"));
}

#[test]
fn files_are_short_enough_to_read() {
    let folders = ["src", "kernels", "tests", "benches"];
    let long: Vec<String> = folders
        .iter()
        .flat_map(|folder| sources(folder))
        .filter(|(name, text)| !name.ends_with("unicode.rs") && text.lines().count() > LINES_MAX)
        .map(|(name, text)| format!("{name}: {} lines", text.lines().count()))
        .collect();
    assert!(long.is_empty(), "longer than {LINES_MAX} lines:\n{}", long.join("\n"));
}

#[test]
fn no_mod_rs() {
    for (name, _) in sources("src").into_iter().chain(sources("kernels")) {
        assert!(!name.ends_with("/mod.rs"), "{name}: use x.rs beside x/");
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for folder in ["src", "kernels", "tests", "benches"] {
        for (name, text) in sources(folder) {
            assert!(text.starts_with("//!"), "{name} does not open with a //! line");
        }
    }
}

#[test]
fn unsafe_code_stays_where_it_is_allowed() {
    for folder in ["src", "kernels"] {
        for (name, text) in sources(folder) {
            let allowed =
                UNSAFE_FILES.contains(&name.as_str()) || name.starts_with("kernels/x86_64/");
            let named = text.lines().any(|line| code(line).contains("allow(unsafe_code"));
            assert!(allowed || !named, "{name} allows unsafe code");
        }
    }
}

#[test]
fn families_are_named_only_by_their_loaders() {
    // A tokenizer's algorithm is named in files by the family that first had it.
    let exempt = ["src/arch", "src/tokenizer", "src/main"];
    let all = sources("src").into_iter().chain(sources("kernels"));
    for (name, text) in all.filter(|(name, _)| !exempt.iter().any(|e| name.starts_with(e))) {
        assert_no_words(&name, &text, FAMILIES);
    }
}

#[test]
fn instruction_sets_are_named_only_by_kernels() {
    for (name, text) in sources("src") {
        assert_no_words(&name, &text, INSTRUCTION_SETS);
    }
}

/// Comments may name what code may not.
fn assert_no_words(name: &str, text: &str, words: &[&str]) {
    for (i, line) in text.lines().enumerate() {
        let lower = code(line).to_lowercase();
        for word in words {
            let found = lower
                .split(|c: char| !c.is_alphanumeric())
                .any(|w| w.trim_end_matches(|c: char| c.is_ascii_digit()) == *word || w == *word);
            assert!(!found, "{name}:{}: names {word}: {}", i + 1, line.trim());
        }
    }
}

#[test]
fn no_stray_marks() {
    let marks =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("dbg", "!(")];
    let marks = marks.iter().chain(&[concat!("todo", "!("), concat!("unimplemented", "!(")]);
    for folder in ["src", "kernels", "tests", "benches"] {
        for (name, text) in sources(folder) {
            for mark in marks.clone() {
                assert!(!text.contains(mark), "{name} contains {mark}");
            }
        }
    }
}
