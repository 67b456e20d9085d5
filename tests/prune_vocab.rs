//! A vocabulary without what is not used makes the same tokens of the same text, and the model the same
//! predictions.
#![cfg(feature = "std")]

mod common;

use attar::compress::prune::{Cut, Shape, VocabSize, keep_tokens, write_pruned};
use attar::compress::{Measure, Sequences, TokenMap};
use attar::gguf::write::{TensorPlan, Writer};
use attar::{Error, Format, Gguf, Options, Session, Tokenizer};
use common::{all_logits, made, own, shared};

/// The model with these tokens alone.
fn trimmed(gguf: &Gguf, tokens: &[u32]) -> Gguf {
    let shape = Shape::of(gguf).expect("a shape");
    let cut = Cut { tokens: Some(tokens.into()), ..Cut::nothing(&shape) };
    made(|path| {
        write_pruned(gguf, &shape, &cut, path, &mut |_| {}).expect("a smaller model");
    })
}

/// A tiny model with the vocabulary of a file that has no model.
fn with_vocabulary_of(vocabulary: &Gguf) -> Gguf {
    let tiny = Gguf::open(&own("tests/golden/llama.gguf")).expect("a model");
    let key = "tokenizer.ggml.tokens";
    let tokens = vocabulary.array(key, attar::gguf::ValueType::String);
    let len = tokens.expect("texts").expect("tokens").len;
    let is_tokenizer = |name: &str| name.starts_with("tokenizer.");
    let keys = tiny.metadata().filter(|(name, _)| !is_tokenizer(name));
    let keys = keys.chain(vocabulary.metadata().filter(|(name, _)| is_tokenizer(name)));
    let plans = tiny.tensors().iter().map(|tensor| TensorPlan {
        name: tensor.name.to_string(),
        kind: tensor.kind,
        dims: match &tensor.dims[..] {
            [width, 64] => vec![*width, len],
            dims => dims.to_vec(),
        },
    });
    let plans: Vec<_> = plans.collect();
    made(|path| {
        let mut writer = Writer::create(path, keys, &plans).expect("a file");
        for (tensor, plan) in tiny.tensors().iter().zip(&plans) {
            let bytes: Vec<u8> = tensor.bytes.iter().copied().cycle().take(plan.bytes()).collect();
            writer.append(&bytes).expect("room");
        }
        writer.finish().expect("room");
    })
}

fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<Vec<u8>> {
    let spell = |id: &u32| {
        let mut piece = Vec::new();
        tokenizer.append_piece(*id, true, &mut piece).expect("memory");
        piece
    };
    ids.iter().map(spell).collect()
}

#[test]
fn text_of_kept_tokens_is_made_of_the_same() {
    let mut models = vec![("bundled", Gguf::open(&own("models/attar-1m.gguf")).expect("a model"))];
    for name in ["gpt-2", "llama-bpe", "llama-spm", "qwen2"] {
        let Some(path) = shared(&format!("vocab/ggml-vocab-{name}.gguf")) else { continue };
        models.push((name, with_vocabulary_of(&Gguf::open(&path).expect("a vocabulary"))));
    }
    let text = std::fs::read_to_string(own("README.md")).expect("text");
    let other = std::fs::read_to_string(own("docs/design.md")).expect("text");
    for (name, gguf) in models {
        let tokenizer = Tokenizer::load(&gguf).expect("a vocabulary");
        let used = Sequences::from_text(&tokenizer, text.as_bytes(), 200).expect("a text");
        let kept = keep_tokens(&gguf, &used, VocabSize::Used, false).expect("tokens");
        assert!(kept.len() < tokenizer.len(), "{name}: {} tokens", kept.len());
        let small = trimmed(&gguf, &kept);
        let less = Tokenizer::load(&small).expect("a vocabulary");
        assert_eq!(less.len(), kept.len());
        assert_eq!(less.bos().map(|id| kept[id as usize]), tokenizer.bos(), "{name}");
        assert_eq!(less.eos().map(|id| kept[id as usize]), tokenizer.eos(), "{name}");
        let (mut same, mut others) = (0, 0);
        for line in text.lines().chain(other.lines()) {
            let ids = tokenizer.encode(line.as_bytes(), true, false).expect("tokens");
            let found = less.encode(line.as_bytes(), true, false);
            if ids.iter().all(|id| kept.binary_search(id).is_ok()) {
                let found = found.expect("tokens");
                let found: Vec<u32> = found.iter().map(|id| kept[*id as usize]).collect();
                assert_eq!(found, ids, "{name}: {line}");
                same += 1;
            } else if line.is_ascii() {
                let found = less.decode(&found.expect("tokens"), false).expect("text");
                assert_eq!(found, line.as_bytes(), "{name}");
                others += 1;
            }
        }
        // Lines within a text are joined to others there; most are made of its tokens all the same.
        assert!(
            same > 100 && others > 0,
            "{name}: {same} lines the same, {others} with other tokens"
        );
        let unknown = pieces(&less, &less.encode(b"Zyx ~`|", false, false).expect("tokens"));
        assert!(!unknown.concat().is_empty(), "{name}");
    }
}

#[test]
fn sizes_are_kept_to_and_bytes_kept_when_asked() {
    let gguf = Gguf::open(&own("models/attar-1m.gguf")).expect("a model");
    let tokenizer = Tokenizer::load(&gguf).expect("a vocabulary");
    let text = Sequences::sampled(&gguf, 2000, 100, 5, 2, &|_| true).expect("sequences");
    let keep = |size, bytes| keep_tokens(&gguf, &text, size, bytes);
    let used = keep(VocabSize::Used, false).expect("tokens");
    let few = keep(VocabSize::Count(200), false).expect("tokens");
    let most = keep(VocabSize::Coverage(0.9), false).expect("tokens");
    assert_eq!(few.len(), 200);
    assert!(most.len() < used.len(), "{} of {}", most.len(), used.len());
    let occurring = || text.iter().flatten();
    let covered = occurring().filter(|id| most.binary_search(id).is_ok()).count();
    assert!(covered * 10 >= occurring().count() * 9);
    let with_bytes = keep(VocabSize::Used, true).expect("tokens");
    let is_byte = |id: &&u32| pieces(&tokenizer, &[**id]).concat().len() == 1;
    assert!(with_bytes.iter().filter(is_byte).count() >= 256);
    assert!(used.iter().filter(is_byte).count() < 256);
    let refused = keep(VocabSize::Count(20), false);
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
}

#[test]
fn predictions_of_kept_tokens_keep_their_bits() {
    let gguf = Gguf::open(&own("models/attar-1m.gguf")).expect("a model");
    let text = Sequences::sampled(&gguf, 400, 100, 5, 2, &|_| true).expect("sequences");
    let kept = keep_tokens(&gguf, &text, VocabSize::Used, false).expect("tokens");
    let small = trimmed(&gguf, &kept);
    let options = Options { cache: Format::F32, ..Options::default() };
    let [mut whole, mut part] =
        [&gguf, &small].map(|gguf| Session::open(gguf, &options).expect("a session"));
    let ids = text.get(0);
    let renumbered: Vec<u32> =
        ids.iter().map(|id| kept.binary_search(id).expect("kept") as u32).collect();
    let all = all_logits(&mut whole, ids);
    let want = all
        .chunks_exact(whole.vocab_len())
        .flat_map(|row| kept.iter().map(|id| row[*id as usize].to_bits()).collect::<Vec<_>>());
    let found = all_logits(&mut part, &renumbered);
    assert!(found.iter().map(|value| value.to_bits()).eq(want));
}

#[test]
fn trimming_what_is_not_used_costs_no_perplexity() {
    let Some(path) = shared("models/stories260K-f32.gguf") else { return };
    let gguf = Gguf::open(&path).expect("a model");
    let sample = |tokens, seed| {
        Sequences::sampled(&gguf, tokens, 192, seed, 2, &|_| true).expect("sequences")
    };
    // From fewer tokens, some that the model does find likely would be missing.
    let kept = keep_tokens(&gguf, &sample(100_000, 7), VocabSize::Used, false).expect("tokens");
    assert!(kept.len() < 300, "{} tokens", kept.len());
    let small = trimmed(&gguf, &kept);
    let other = sample(8000, 8);
    let text = TokenMap::new(&small, &gguf).expect("the same texts").translate(&other);
    assert!(text.tokens() * 20 > other.tokens() * 19, "{} tokens of text remain", text.tokens());
    // Against all the tokens there were, not against those that remain.
    let whole: Vec<Vec<u32>> =
        text.iter().map(|ids| ids.iter().map(|id| kept[*id as usize]).collect()).collect();
    let whole = Sequences::of(&whole.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let perplexity = |gguf: &Gguf, text: &Sequences| {
        let measured = Measure::on_threads(2).run(gguf, None, text, &|_| true);
        measured.expect("figures").nll.mean.exp()
    };
    let difference = (perplexity(&small, &text) - perplexity(&gguf, &whole)).abs();
    assert!(difference < 1e-4, "{difference}");
}
