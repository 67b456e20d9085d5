//! The metadata of what remains.

use super::{Cut, LayerShape, Shape};
use crate::gguf::write::ArrayBuf;
use crate::gguf::{Array, Gguf, Value, ValueType};
use crate::memory::text;
use crate::{Error, Result};
use std::collections::{BTreeMap, HashSet};

/// A value of the file, or a new one.
pub(super) enum Entry<'a> {
    Value(Value<'a>),
    Array(ArrayBuf),
}

impl Entry<'_> {
    pub(super) fn value(&self) -> Value<'_> {
        match self {
            Self::Value(value) => *value,
            Self::Array(array) => array.value(),
        }
    }
}

/// All keys, those that the cut changes with new values.
pub(super) fn metadata<'a>(
    gguf: &'a Gguf,
    shape: &Shape,
    cut: &Cut,
    family: &'static str,
) -> Result<Vec<(String, Entry<'a>)>> {
    let mut sizes = sizes(gguf, shape, cut);
    let vocab = cut.tokens.as_deref().map(|tokens| Renumbering::new(gguf, tokens)).transpose()?;
    let prefix = format!("{}.", shape.family);
    let stale = ["split.", "attar.prune.", "general.size_label", "general.parameter_count"];
    let mut all = Vec::new();
    for (name, value) in gguf.metadata() {
        if stale.iter().any(|stale| name.starts_with(stale)) {
            continue;
        }
        if name == "general.architecture" {
            all.push((name.into(), Entry::Value(Value::String(family.as_bytes()))));
        } else if let Some(key) = name.strip_prefix(&prefix) {
            let entry = sizes.remove(key).unwrap_or_else(|| per_layer(value, shape, cut));
            all.push((format!("{family}.{key}"), entry));
        } else if let Some(vocab) = &vocab {
            all.extend(vocab.entry(name, value)?.map(|entry| (name.into(), entry)));
        } else {
            all.push((name.into(), Entry::Value(value)));
        }
    }
    all.extend(sizes.into_iter().map(|(key, entry)| (format!("{family}.{key}"), entry)));
    all.extend(provenance(shape, cut));
    Ok(all)
}

/// A value a layer is so only of those that remain.
fn per_layer<'a>(value: Value<'a>, shape: &Shape, cut: &Cut) -> Entry<'a> {
    match value {
        Value::Array(array) if array.len == shape.layers.len() => {
            let kept = array.iter().enumerate();
            let kept = kept.filter(|(i, _)| cut.layers.iter().any(|layer| layer.layer == *i));
            Entry::Array(ArrayBuf::new(array.kind, kept.map(|(_, value)| value)))
        }
        value => Entry::Value(value),
    }
}

/// One number where all are the same, otherwise an array.
fn counts(counts: &[usize]) -> Entry<'static> {
    match counts {
        [first, rest @ ..] if rest.iter().all(|count| count == first) => count(*first),
        _ => {
            let values = counts.iter().map(|count| Value::I32(*count as i32));
            Entry::Array(ArrayBuf::new(ValueType::I32, values))
        }
    }
}

fn count(count: usize) -> Entry<'static> {
    Entry::Value(Value::U32(count as u32))
}

/// Keys that say how much there is, without the family's prefix. Widths of heads do not follow from
/// others any more, so they are always said.
fn sizes(gguf: &Gguf, shape: &Shape, cut: &Cut) -> BTreeMap<&'static str, Entry<'static>> {
    let has = |key: &str| gguf.get(&format!("{}.{key}", shape.family)).is_some();
    let left: Vec<LayerShape> = cut.layers.iter().map(|layer| layer.shape(shape)).collect();
    let each = |of: &dyn Fn(&LayerShape) -> usize| counts(&left.iter().map(of).collect::<Vec<_>>());
    let experts = left.iter().any(|layer| layer.experts > 0);
    let hidden = match experts && has("expert_feed_forward_length") {
        true => "expert_feed_forward_length",
        false => "feed_forward_length",
    };
    let mut sizes = BTreeMap::from([
        ("block_count", count(left.len())),
        ("embedding_length", count(cut.width.as_ref().map_or(shape.width, Vec::len))),
        (hidden, each(&|layer| layer.hidden)),
        ("attention.head_count", each(&|layer| layer.heads)),
        ("attention.head_count_kv", each(&|layer| layer.kv_heads)),
        ("attention.key_length", count(shape.key_len)),
        ("attention.value_length", count(shape.value_len)),
    ]);
    if experts {
        sizes.insert("expert_count", each(&|layer| layer.experts));
    }
    if has("vocab_size") {
        let len = cut.tokens.as_ref().map_or(shape.vocab_len, Vec::len);
        sizes.insert("vocab_size", count(len));
    }
    sizes
}

/// What there was before, where something was cut.
fn provenance(shape: &Shape, cut: &Cut) -> Vec<(String, Entry<'static>)> {
    let before = |of: &dyn Fn(&LayerShape) -> usize| {
        counts(&shape.layers.iter().map(of).collect::<Vec<_>>())
    };
    let any = |cut_there: &dyn Fn(&super::LayerCut) -> bool| cut.layers.iter().any(cut_there);
    let mut all = Vec::new();
    let mut say = |was_cut: bool, key: &str, entry: Entry<'static>| {
        all.extend(was_cut.then(|| (format!("attar.prune.{key}"), entry)));
    };
    say(cut.tokens.is_some(), "vocab_size", count(shape.vocab_len));
    say(cut.width.is_some(), "embedding_length", count(shape.width));
    let kept = cut.layers.iter().map(|layer| Value::I32(layer.layer as i32));
    let kept = Entry::Array(ArrayBuf::new(ValueType::I32, kept));
    say(cut.layers.len() < shape.layers.len(), "layers", kept);
    let hidden = before(&|layer| layer.hidden);
    say(any(&|layer| layer.hidden.is_some()), "feed_forward_length", hidden);
    let groups = before(&|layer| layer.kv_heads);
    say(any(&|layer| layer.groups.is_some()), "head_count_kv", groups);
    let experts = before(&|layer| layer.experts);
    say(any(&|layer| layer.experts.is_some()), "expert_count", experts);
    all
}

/// Tokens under new ids.
struct Renumbering<'a> {
    tokens: &'a [u32],
    texts: HashSet<&'a [u8]>,
}

impl<'a> Renumbering<'a> {
    fn new(gguf: &'a Gguf, tokens: &'a [u32]) -> Result<Self> {
        let key = "tokenizer.ggml.tokens";
        let all = gguf.array(key, ValueType::String)?;
        let all = all.ok_or_else(|| Error::Missing(text!("key '{key}'")))?;
        let mut next = tokens.iter().copied().peekable();
        let kept = all.strings().enumerate();
        let kept = kept.filter(|(id, _)| next.next_if(|next| *next as usize == *id).is_some());
        let texts = kept.map(|(_, text)| text).collect();
        match next.next() {
            Some(id) => Err(Error::Token { id, vocab_len: all.len }),
            None => Ok(Self { tokens, texts }),
        }
    }

    /// The value under a key that is not the family's, `None` where it would not be true any more.
    fn entry<'v>(&self, name: &str, value: Value<'v>) -> Result<Option<Entry<'v>>> {
        let Some(key) = name.strip_prefix("tokenizer.ggml.") else {
            let stale = name == "tokenizer.huggingface.json";
            return Ok((!stale).then_some(Entry::Value(value)));
        };
        Ok(Some(match value {
            Value::Array(array) if ["tokens", "scores", "token_type"].contains(&key) => {
                Entry::Array(self.pick(array))
            }
            Value::Array(array) if key == "merges" => Entry::Array(self.merges(array)),
            _ if key.ends_with("_token_id") => match value.integer() {
                Some(id) => count(self.place(name, id)?),
                None => Entry::Value(value),
            },
            value => Entry::Value(value),
        }))
    }

    fn pick(&self, array: Array<'_>) -> ArrayBuf {
        let mut next = self.tokens.iter().peekable();
        let values = array.iter().enumerate();
        let kept = values.filter(|(id, _)| next.next_if(|next| **next as usize == *id).is_some());
        ArrayBuf::new(array.kind, kept.map(|(_, value)| value))
    }

    /// Merges of tokens that remain into one that remains.
    fn merges(&self, array: Array<'_>) -> ArrayBuf {
        let remains = |merge: &&[u8]| {
            let space = merge.iter().skip(1).position(|byte| *byte == b' ').map(|at| at + 1);
            space.is_some_and(|space| {
                let (left, right) = (&merge[..space], &merge[space + 1..]);
                [left, right, &[left, right].concat()].iter().all(|text| self.texts.contains(text))
            })
        };
        ArrayBuf::strings(&array.strings().filter(remains).collect::<Vec<_>>())
    }

    fn place(&self, name: &str, id: i128) -> Result<usize> {
        let place = self.tokens.iter().position(|kept| i128::from(*kept) == id);
        place.ok_or_else(|| Error::Invalid(text!("key '{name}' is {id}, which does not remain")))
    }
}
