//! How well a model predicts, and how far it is from a reference.
#![cfg(feature = "std")]

mod common;

use attar::compress::{Measure, Measured, Sequences, TokenMap, quantize};
use attar::gguf::write::{ArrayBuf, TensorPlan, Writer};
use attar::gguf::{Value, ValueType};
use attar::session::log_probability;
use attar::{Error, Format, Gguf, Options};
use common::{made, off_grid, own};

fn bundled() -> Gguf {
    Gguf::open(&own("models/attar-1m.gguf")).expect("the bundled model")
}

fn rounded(gguf: &Gguf, format: Format) -> Gguf {
    made(|path| {
        quantize(gguf, format, path, 2, &mut |_| {}).expect("a smaller model");
    })
}

fn samples(gguf: &Gguf) -> Sequences {
    Sequences::sampled(gguf, 800, 50, 11, 2, &|_| true).expect("sequences")
}

fn measured(measure: Measure<'_>, model: &Gguf, other: Option<&Gguf>, on: &Sequences) -> Measured {
    measure.run(model, other, on, &|_| true).expect("figures")
}

#[test]
fn perplexity_is_that_of_the_logits() {
    let gguf = bundled();
    let sequences = samples(&gguf);
    let options = Options { cache: Format::F32, ..Options::default() };
    let mut session = common::open(&own("models/attar-1m.gguf"), options);
    for skip in [0, 20, 48] {
        let measure = Measure { skip, ..Measure::on_threads(2) };
        let got = measured(measure, &gguf, None, &sequences);
        let (mut sum, mut count) = (0.0, 0);
        for ids in sequences.iter() {
            session.clear();
            let mut each = |i: usize, logits: &[f32]| {
                if i >= skip {
                    sum -= log_probability(logits, ids[i + 1]);
                    count += 1;
                }
            };
            session.feed_each(&ids[..ids.len() - 1], &mut each).expect("logits");
        }
        assert_eq!(got.tokens, count);
        assert!((got.nll.mean - sum / f64::from(count as u32)).abs() < 1e-12, "{got:?}");
        assert!(got.divergence.is_none() && got.nll.error > 0.0);
    }
}

/// A text of one window: its bits are those of [`attar::Session::score_text`].
#[test]
fn bits_per_byte_are_those_of_the_text() {
    let gguf = bundled();
    let tokenizer = attar::Tokenizer::load(&gguf).expect("a vocabulary");
    let text = b"Once upon a time, there was a little cat.";
    let sequences = Sequences::from_text(&tokenizer, text, 200).expect("a sequence");
    let got = measured(Measure::on_threads(1), &gguf, None, &sequences);
    let options = Options { cache: Format::F32, ..Options::default() };
    let mut session = common::open(&own("models/attar-1m.gguf"), options);
    let score = session.score_text(&tokenizer, text).expect("a score");
    let bits = got.bits_per_byte.expect("text");
    assert!((bits / score.bits_per_byte - 1.0).abs() < 1e-9, "{bits} {score:?}");
}

#[test]
fn a_model_is_no_way_from_itself_and_some_from_others() {
    let gguf = off_grid();
    let sequences = samples(&gguf);
    let same = measured(Measure::on_threads(2), &gguf, Some(&gguf), &sequences);
    let d = same.divergence.expect("a reference");
    assert!(d.kl.mean.abs() < 1e-7 && d.kl_max < 1e-6 && d.same_top == 1.0, "{d:?}");
    assert_eq!(d.reference_nll, same.nll);
    let mut before = 0.0;
    for format in [Format::Q5_0, Format::Q4_0] {
        let small = rounded(&gguf, format);
        let got = measured(Measure::on_threads(2), &small, Some(&gguf), &sequences);
        let d = got.divergence.as_ref().expect("a reference");
        assert!(d.kl.mean > 2.0 * before && d.same_top < 1.0, "{format:?}: {d:?}");
        assert!(d.kl_median < d.kl.mean && d.kl.mean < d.kl_99 && d.kl_99 < d.kl_max, "{d:?}");
        assert_eq!(d.reference_nll, same.nll);
        before = d.kl.mean;
        // Neither the threads nor the other way of running change a bit.
        let single = measured(Measure::on_threads(1), &small, Some(&gguf), &sequences);
        assert_eq!(format!("{got:?}"), format!("{single:?}"));
    }
}

/// A copy of the model whose vocabulary is only the first `count` tokens, in reverse order.
fn reversed_part(gguf: &Gguf, count: usize) -> Gguf {
    made(|path| {
        let reverse = |name: &str, kind: ValueType| {
            let array = gguf.array(name, kind).expect("an array").expect("the key");
            let mut values: Vec<_> = array.iter().take(count).collect();
            values.reverse();
            ArrayBuf::new(kind, values)
        };
        let tokens = reverse("tokenizer.ggml.tokens", ValueType::String);
        let scores = reverse("tokenizer.ggml.scores", ValueType::F32);
        let kinds = reverse("tokenizer.ggml.token_type", ValueType::I32);
        let id = |v: u32| Value::U32(count as u32 - 1 - v);
        let metadata = gguf.metadata().map(|(name, value)| match (name, value) {
            ("tokenizer.ggml.tokens", _) => (name, tokens.value()),
            ("tokenizer.ggml.scores", _) => (name, scores.value()),
            ("tokenizer.ggml.token_type", _) => (name, kinds.value()),
            (_, Value::U32(v)) if name.ends_with("_token_id") => (name, id(v)),
            (name, _) if name.ends_with(".vocab_size") => (name, Value::U32(count as u32)),
            _ => (name, value),
        });
        let plans: Vec<_> = gguf
            .tensors()
            .iter()
            .map(|tensor| {
                let mut dims = tensor.dims.to_vec();
                if &*tensor.name == "token_embd.weight" {
                    dims[1] = count;
                }
                TensorPlan { name: tensor.name.to_string(), kind: tensor.kind, dims }
            })
            .collect();
        let mut writer = Writer::create(path, metadata, &plans).expect("a file");
        for tensor in gguf.tensors() {
            if &*tensor.name == "token_embd.weight" {
                let row = tensor.bytes.len() / tensor.dims[1];
                let rows = tensor.bytes.chunks_exact(row).take(count);
                rows.rev().for_each(|row| writer.append(row).expect("a row"));
            } else {
                writer.append(&tensor.bytes).expect("a tensor");
            }
        }
        writer.finish().expect("a file");
    })
}

#[test]
fn a_part_of_a_vocabulary_is_compared_by_text() {
    let gguf = bundled();
    let vocab_len = attar::Tokenizer::load(&gguf).expect("a vocabulary").len();
    let sequences = samples(&gguf);
    // All tokens elsewhere: nothing else changes.
    let whole = reversed_part(&gguf, vocab_len);
    let own = TokenMap::new(&whole, &gguf).expect("a part").translate(&sequences);
    assert_eq!(own.tokens(), sequences.tokens());
    let got = measured(Measure::on_threads(2), &whole, Some(&gguf), &own);
    let plain = measured(Measure::on_threads(2), &gguf, None, &sequences);
    let d = got.divergence.expect("a reference");
    assert!(d.kl.mean.abs() < 1e-7 && d.same_top == 1.0, "{d:?}");
    assert!((got.nll.mean - plain.nll.mean).abs() < 1e-6);
    // Some tokens: the reference's row is renormalised, so there is still no divergence.
    let part = reversed_part(&gguf, vocab_len - 30);
    let own = TokenMap::new(&part, &gguf).expect("a part").translate(&sequences);
    let left = own.tokens() as f64 / sequences.tokens() as f64;
    assert!((0.05..1.0).contains(&left), "{left} of the tokens are left");
    let got = measured(Measure::on_threads(2), &part, Some(&gguf), &own);
    let d = got.divergence.expect("a reference");
    assert!(d.kl.mean.abs() < 1e-7, "{d:?}");
    assert!((d.reference_nll.mean - got.nll.mean).abs() < 1e-7, "{d:?}");
    // The other way round there is no comparison.
    let error = TokenMap::new(&gguf, &part).expect_err("tokens are missing");
    assert!(error.to_string().contains("not in the reference's vocabulary"), "{error}");
}

#[test]
fn measuring_stops_when_told_and_refuses_nothing() {
    let gguf = bundled();
    let sequences = samples(&gguf);
    let stopped = Measure::on_threads(2).run(&gguf, None, &sequences, &|_| false);
    assert!(matches!(stopped, Err(Error::Cancelled)), "{stopped:?}");
    let measure = Measure { skip: 49, ..Measure::on_threads(2) };
    let error = measure.run(&gguf, None, &sequences, &|_| true).expect_err("no token");
    assert!(error.to_string().contains("no token to predict"), "{error}");
}
