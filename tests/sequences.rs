//! Token sequences: windows of documents, and what a model makes up.
#![cfg(feature = "std")]

mod common;

use attar::compress::Sequences;
use attar::{Error, Gguf, Tokenizer};
use common::own;
use std::sync::atomic::{AtomicUsize, Ordering};

const TEXT: &str = "Once upon a time, a cat sat down.\nIt was happy.\n<|endoftext|>\nOne day a dog \
                    ran to the big red house and met a friend.\n<|endoftext|>\n";

fn bundled() -> Gguf {
    Gguf::open(&own("models/attar-1m.gguf")).expect("the bundled model")
}

fn sampled(tokens: usize, seed: u64, threads: usize) -> Sequences {
    Sequences::sampled(&bundled(), tokens, 24, seed, threads, &|_| true).expect("sequences")
}

#[test]
fn windows_of_documents_lose_no_token() {
    let tokenizer = Tokenizer::load(&bundled()).expect("a vocabulary");
    let (bos, eos) = (tokenizer.bos().expect("a start"), tokenizer.eos().expect("an end"));
    for len in [4, 7, 1000] {
        let all = Sequences::from_text(&tokenizer, TEXT.as_bytes(), len).expect("sequences");
        assert!(all.iter().all(|s| s[0] == bos && s.len() <= len && !s[1..].contains(&bos)));
        let rest: Vec<u32> = all.iter().flat_map(|s| &s[1..]).copied().collect();
        let documents: Vec<_> = rest.split_inclusive(|id| *id == eos).collect();
        assert_eq!(documents.len(), 2, "{len}");
        let texts = TEXT.split("\n<|endoftext|>\n");
        for (document, text) in documents.iter().zip(texts) {
            let decoded = tokenizer.decode(document, false).expect("text");
            assert_eq!(String::from_utf8_lossy(&decoded), text, "{len}");
        }
    }
}

/// A text without the line has no end, and its windows are llama.cpp's as a stream.
#[test]
fn a_stream_is_whole_windows() {
    let tokenizer = Tokenizer::load(&bundled()).expect("a vocabulary");
    let text = TEXT.split('\n').next().expect("a line").as_bytes();
    let ids = tokenizer.encode(text, true, false).expect("ids");
    let whole = Sequences::from_text(&tokenizer, text, 1000).expect("a sequence");
    assert_eq!(whole.iter().collect::<Vec<_>>(), [&ids[..]]);
    let stream = Sequences::from_stream(&tokenizer, text, 4).expect("sequences");
    assert_eq!(stream.len(), ids.len() / 4);
    for (window, ids) in stream.iter().zip(ids.chunks(4)) {
        assert_eq!((window[0], &window[1..]), (tokenizer.bos().expect("a start"), &ids[1..]));
    }
}

#[test]
fn nonsense_is_refused() {
    let tokenizer = Tokenizer::load(&bundled()).expect("a vocabulary");
    for (text, len) in [("", 8), ("\n<|endoftext|>\n", 8), (TEXT, 1)] {
        let made = Sequences::from_text(&tokenizer, text.as_bytes(), len);
        assert!(matches!(made, Err(Error::Invalid(_))), "{made:?}");
    }
}

#[test]
fn samples_depend_on_seed_and_place_only() {
    let all = sampled(100, 1, 1);
    assert_eq!((all.len(), all.tokens(), all.longest()), (5, 120, 24));
    assert_eq!(all, sampled(100, 1, 3));
    assert_eq!(
        all.iter().take(3).collect::<Vec<_>>(),
        sampled(60, 1, 2).iter().collect::<Vec<_>>()
    );
    let other = sampled(100, 2, 2);
    assert!(all.iter().all(|s| other.iter().all(|o| s != o)), "seeds share sequences");
}

/// Over many draws, the first token comes as often as the model says.
#[test]
fn samples_follow_the_models_probabilities() {
    let gguf = bundled();
    let count = 2000;
    let all = Sequences::sampled(&gguf, count * 2, 2, 5, 2, &|_| true).expect("sequences");
    let mut session = common::open(&own("models/attar-1m.gguf"), attar::Options::default());
    let logits = session.feed(&all.get(0)[..1]).expect("logits").to_vec();
    let total = attar::session::log_total(&logits);
    for (id, logit) in logits.iter().enumerate() {
        let p = (f64::from(*logit) - total).exp();
        let seen = all.iter().filter(|s| s[1] as usize == id).count() as f64 / count as f64;
        let error = (p * (1.0 - p) / count as f64).sqrt();
        assert!((seen - p).abs() <= 5.0 * error + 1e-3, "token {id}: {seen} of {p}");
    }
}

#[test]
fn sampling_tells_of_progress_and_stops_when_told() {
    let done = AtomicUsize::new(0);
    let count = |tokens: usize| {
        done.fetch_add(tokens, Ordering::Relaxed);
        true
    };
    Sequences::sampled(&bundled(), 100, 20, 0, 2, &count).expect("sequences");
    assert_eq!(done.into_inner(), 100);
    let stopped = Sequences::sampled(&bundled(), 100, 20, 0, 2, &|_| false);
    assert!(matches!(stopped, Err(Error::Cancelled)));
}

#[test]
fn parts_of_a_split_make_the_whole() {
    let all = sampled(100, 3, 2);
    for tokens in [0, 1, 24, 25, 119, 120, 1000] {
        let (first, rest) = all.clone().split(tokens);
        assert!(first.tokens() >= tokens.min(120) && first.tokens() < tokens + 24);
        assert!(all.iter().eq(first.iter().chain(rest.iter())), "{tokens}");
    }
}
