//! `attar inspect`: what is in a file.

use super::{model, terminal};
use attar::gguf::{Array, Value};
use attar::{Error, Gguf, Result};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Show a file's metadata and tensors
#[derive(clap::Args)]
#[command(after_help = "Examples:
  attar inspect model.gguf
  attar inspect model.gguf --json | jq .parameters
--strict has the file read by a second reader too, one that is stricter than most files deserve: it
refuses keys with dashes and versions before 3.")]
pub(crate) struct Args {
    /// A GGUF file
    model: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Fail unless a second, strict reader accepts the file as well
    #[arg(long)]
    strict: bool,
}

/// Elements of an array that are shown.
const SHOWN: usize = 5;

pub(crate) fn run(args: &Args) -> Result<()> {
    let gguf = model::open(Some(&args.model))?;
    if args.strict {
        check_strictly(&args.model)?;
    }
    if args.json { terminal::print_json(&describe(&gguf)) } else { print(&gguf) }
}

fn check_strictly(path: &std::path::Path) -> Result<()> {
    let name = path.display();
    let file = std::fs::File::open(path).map_err(|e| Error::io(&format!("open {name}"), e))?;
    gguf_rs_lib::reader::GGUFFileReader::new(std::io::BufReader::new(file))
        .map(drop)
        .map_err(|e| Error::Invalid(format!("{name}: the strict reader refuses it: {e}").into()))
}

fn parameters(gguf: &Gguf) -> usize {
    gguf.tensors().iter().map(|tensor| tensor.len()).sum()
}

/// Number of tensors, weights and bytes of each type.
fn types(gguf: &Gguf) -> BTreeMap<&'static str, (usize, usize, usize)> {
    let mut types = BTreeMap::new();
    for tensor in gguf.tensors() {
        let row = types.entry(tensor.kind.name).or_insert((0, 0, 0));
        *row = (row.0 + 1, row.1 + tensor.len(), row.2 + tensor.bytes.len());
    }
    types
}

fn describe(gguf: &Gguf) -> serde_json::Value {
    let metadata = gguf.metadata().map(|(key, value)| (key.to_string(), to_json(value)));
    let tensors = gguf.tensors().iter().map(|tensor| {
        json!({
            "name": &*tensor.name,
            "type": tensor.kind.name,
            "dims": &*tensor.dims,
            "bytes": tensor.bytes.len(),
            "runs": tensor.kind.format().is_some(),
        })
    });
    let types = types(gguf).into_iter().map(|(name, (tensors, weights, bytes))| {
        (name.to_string(), json!({"tensors": tensors, "parameters": weights, "bytes": bytes}))
    });
    json!({
        "version": gguf.version(),
        "alignment": gguf.alignment(),
        "file_bytes": gguf.file_bytes(),
        "parameters": parameters(gguf),
        "types": types.collect::<serde_json::Map<_, _>>(),
        "metadata": metadata.collect::<serde_json::Map<_, _>>(),
        "tensors": tensors.collect::<Vec<_>>(),
    })
}

/// Arrays become their type and length: a vocabulary would drown the rest.
fn to_json(value: Value<'_>) -> serde_json::Value {
    match value {
        Value::Bool(v) => json!(v),
        Value::F32(v) => json!(v),
        Value::F64(v) => json!(v),
        Value::String(v) => json!(String::from_utf8_lossy(v)),
        Value::Array(v) => {
            let first: Vec<_> = v.iter().take(SHOWN).map(to_json).collect();
            json!({"type": v.kind.name(), "len": v.len, "first": first})
        }
        Value::U64(v) => json!(v),
        Value::I64(v) => json!(v),
        Value::U8(_)
        | Value::I8(_)
        | Value::U16(_)
        | Value::I16(_)
        | Value::U32(_)
        | Value::I32(_) => json!(value.integer().map(|v| v as i64)),
    }
}

fn print(gguf: &Gguf) -> Result<()> {
    let mut text = format!(
        "GGUF version {}, {} bytes, {} parameters\n\nmetadata\n",
        gguf.version(),
        gguf.file_bytes(),
        parameters(gguf)
    );
    for (key, value) in gguf.metadata() {
        text.push_str(&format!("  {key} = {}\n", show(value)));
    }
    text.push_str("\ntensors\n");
    for tensor in gguf.tensors() {
        let dims: Vec<_> = tensor.dims.iter().map(ToString::to_string).collect();
        let (name, kind, size) = (&tensor.name, tensor.kind.name, tensor.bytes.len());
        text.push_str(&format!("  {name:<40} {kind:<8} {:>20} {size:>12}\n", dims.join(" x ")));
    }
    text.push_str("\ntypes\n");
    for (name, (tensors, weights, bytes)) in types(gguf) {
        text.push_str(&format!(
            "  {name:<8} {tensors:>6} tensors {weights:>14} parameters {bytes:>14} bytes\n"
        ));
    }
    terminal::print(text.as_bytes())
}

fn show(value: Value<'_>) -> String {
    match value {
        Value::Array(array) => show_array(array),
        Value::String(text) => {
            let text = String::from_utf8_lossy(text);
            let short: String = text.chars().take(80).collect();
            format!("{short:?}{}", if short.len() < text.len() { "..." } else { "" })
        }
        other => to_json(other).to_string(),
    }
}

fn show_array(array: Array<'_>) -> String {
    let first: Vec<_> = array.iter().take(SHOWN).map(show).collect();
    let more = if array.len > SHOWN { ", ..." } else { "" };
    format!("{} {} [{}{more}]", array.len, array.kind.name(), first.join(", "))
}
