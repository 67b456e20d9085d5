//! Answers of `attar eval --answers`, and the figures they come to.

use super::Report;
use super::tasks::{percent, read_text, some};
use crate::main::data::watched;
use attar::compress::{Measure, Prompt, accuracy, answers};
use attar::memory::Shared;
use attar::{Error, Gguf, Result};
use serde_json::{Map, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Answers every prompt of the files and reports each kind by itself.
pub(super) fn run(
    paths: &[PathBuf],
    gguf: &Gguf,
    how: &Measure<'_>,
    stop: &Shared<AtomicBool>,
    report: &mut Report,
) -> Result<()> {
    let mut prompts = Vec::new();
    for path in paths {
        prompts.extend(read(path)?);
    }
    let start = Instant::now();
    let said =
        watched(prompts.len(), "answers", stop, |progress| answers(gguf, &prompts, how, progress))?;
    let rate = prompts.len() as f64 / start.elapsed().as_secs_f64().max(1e-9);
    let mut kinds: Vec<&str> = Vec::new();
    for prompt in &prompts {
        if !kinds.contains(&prompt.kind.as_str()) {
            kinds.push(&prompt.kind);
        }
    }
    let mut parts = Map::new();
    for kind in kinds {
        let answered = prompts.iter().zip(&said).filter(|(prompt, _)| prompt.kind == kind);
        let found = accuracy(answered.map(|(prompt, said)| (prompt, said.as_str())));
        let exact = found.exact as f64 / found.count as f64;
        let name = if kind.is_empty() { "answers" } else { kind };
        report.line(name, percent(Some(exact)), format!("exact, of {}", found.count));
        let mut part = json!({"exact": exact, "count": found.count});
        if found.sound > 0 {
            part["json"] = json!(found.sound as f64 / found.count as f64);
        }
        if found.edits.wanted > 0 {
            let edits = found.edits;
            let [precision, recall, f_half] = [edits.precision(), edits.recall(), edits.f_half()];
            part["edits"] = json!({"precision": precision, "recall": recall, "f_half": f_half});
            let remark = format!("precision {precision:.4}, recall {recall:.4}");
            report.line(&format!("  {name}, F0.5"), format!("{f_half:.4}"), remark);
        }
        parts.insert(name.into(), part);
    }
    report.line("answers", format!("{rate:.1}"), "a second".into());
    report.json.insert("answers".into(), json!({"kinds": parts, "per_second": rate}));
    Ok(())
}

fn read(path: &Path) -> Result<Vec<Prompt>> {
    let text = read_text(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let prompts = lines.map(|(i, line)| {
        Prompt::from_json(line)
            .map_err(|e| Error::Invalid(format!("{}: line {}: {e}", path.display(), i + 1).into()))
    });
    some(path, "prompts", prompts.collect::<Result<_>>()?)
}
