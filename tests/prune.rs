//! What pruning leaves computes as before where what went did nothing, and what is worth least goes first.
#![cfg(feature = "std")]

mod common;

use attar::compress::prune::{
    Cut, Pruned, Ranking, Request, Shape, Share, choose, drop_by_influence, drop_by_loss,
    write_pruned,
};
use attar::compress::{Measure, Sequences, observe, quantize};
use attar::gguf::{Value, ValueType};
use attar::{Error, Format, Gguf, Options, Session};
use common::{all_logits, any_ids, bits, changed, made, off_grid, own, shared};

fn opened(name: &str) -> Gguf {
    Gguf::open(&own(name)).expect("a model")
}

fn bundled() -> Gguf {
    opened("models/attar-1m.gguf")
}

fn zero_rows(values: &mut [f32], len: usize, rows: std::ops::Range<usize>) {
    values[rows.start * len..rows.end * len].fill(0.0);
}

fn zero_columns(values: &mut [f32], len: usize, columns: std::ops::Range<usize>) {
    values.chunks_exact_mut(len).for_each(|row| row[columns.clone()].fill(0.0));
}

/// The model with zeros for the columns of what a cut leaves out of layers.
fn silenced(gguf: &Gguf, shape: &Shape, cut: &Cut) -> Gguf {
    let silence = |name: &str, values: &mut [f32], row: usize| {
        for layer in &cut.layers {
            let was = shape.layers[layer.layer];
            let group = was.heads / was.kv_heads * shape.value_len;
            let hidden = layer.hidden.as_ref().map(|all| &all[0]);
            let dead: Vec<usize> = if name == format!("blk.{}.ffn_down.weight", layer.layer) {
                (0..row).filter(|i| hidden.is_some_and(|kept| !kept.contains(i))).collect()
            } else if name == format!("blk.{}.attn_output.weight", layer.layer) {
                let kept =
                    |i: &usize| layer.groups.as_ref().is_none_or(|g| g.contains(&(i / group)));
                (0..row).filter(|i| !kept(i)).collect()
            } else {
                continue;
            };
            dead.iter().for_each(|i| zero_columns(values, row, *i..i + 1));
        }
    };
    changed(gguf, None, &silence, None)
}

fn pruned(gguf: &Gguf, cut: &Cut) -> Gguf {
    let shape = Shape::of(gguf).expect("a shape");
    made(|path| {
        write_pruned(gguf, &shape, cut, path, &mut |_| {}).expect("a smaller model");
    })
}

fn logits(gguf: &Gguf, ids: &[u32]) -> Vec<f32> {
    let options = Options { cache: Format::F32, context_len: 64, ..Options::default() };
    let mut session = Session::open(gguf, &options).expect("a session");
    all_logits(&mut session, ids)
}

fn ids_of(gguf: &Gguf) -> Vec<u32> {
    any_ids(Shape::of(gguf).expect("a shape").vocab_len, 24)
}

fn ranking(gguf: &Gguf, text: &Sequences) -> (Shape, Ranking) {
    let shape = Shape::of(gguf).expect("a shape");
    let seen = observe(gguf, text, 2, &|_| true).expect("observations");
    let ranking = Ranking::new(gguf, &shape, &seen).expect("a ranking");
    (shape, ranking)
}

/// What the request leaves of a model, and whether its logits are the same bits.
fn leaves_equal(gguf: &Gguf, request: &Request) -> (Cut, bool) {
    let (shape, ranking) = ranking(gguf, &tokens(gguf));
    let cut = choose(&shape, &ranking, request).expect("a cut");
    let ids = ids_of(gguf);
    let same = bits(&logits(&pruned(gguf, &cut), &ids)) == bits(&logits(gguf, &ids));
    (cut, same)
}

/// A text for models without a tokenizer of text.
fn tokens(gguf: &Gguf) -> Sequences {
    let copy = |key: &str| gguf.get(key).is_some();
    match copy("tokenizer.ggml.bos_token_id") {
        true => Sequences::sampled(gguf, 400, 40, 3, 2, &|_| true).expect("sequences"),
        false => Sequences::of(&[&any_ids(64, 40), &any_ids(64, 30)]),
    }
}

#[test]
fn neurons_that_do_nothing_go_and_nothing_changes() {
    // In whole blocks, or the last: others would change the order of sums.
    let hidden = Shape::of(&bundled()).expect("a shape").layers[0].hidden;
    for (name, dead, left) in [
        ("tests/golden/llama.gguf", 20..24, 20),
        ("tests/golden/qwen3.gguf", 0..16, 8),
        ("models/attar-1m.gguf", hidden - 32..hidden, hidden - 32),
    ] {
        let gguf = changed(
            &opened(name),
            None,
            &|name, values, len| {
                if name.ends_with("ffn_gate.weight") || name.ends_with("ffn_up.weight") {
                    zero_rows(values, len, dead.clone());
                } else if name.ends_with("ffn_down.weight") {
                    zero_columns(values, len, dead.clone());
                }
            },
            None,
        );
        let request = Request { hidden: Some(Share::Count(left)), ..Request::default() };
        let (cut, same) = leaves_equal(&gguf, &request);
        assert!(same, "{name}");
        for layer in &cut.layers {
            let kept = &layer.hidden.as_ref().expect("neurons")[0];
            assert!(kept.len() == left && kept.iter().all(|i| !dead.contains(i)), "{name}");
        }
    }
}

#[test]
fn groups_of_heads_that_do_nothing_go_and_nothing_changes() {
    for (name, dead) in [
        ("tests/golden/llama.gguf", 0),
        ("tests/golden/qwen2.gguf", 1),
        ("tests/golden/qwen3moe.gguf", 1),
        ("models/attar-1m.gguf", 0),
    ] {
        let gguf = opened(name);
        let shape = Shape::of(&gguf).expect("a shape");
        let value_len = shape.value_len;
        let len = shape.layers[0].heads / shape.layers[0].kv_heads * value_len;
        let gguf = changed(
            &gguf,
            None,
            &|name, values, row| {
                if name.ends_with("attn_output.weight") {
                    zero_columns(values, row, dead * len..(dead + 1) * len);
                }
                // Block formats round all heads' results by one scale: the dead must not set it.
                if name.ends_with("attn_v.weight") {
                    zero_rows(values, row, dead * value_len..(dead + 1) * value_len);
                }
            },
            None,
        );
        let count = shape.layers[0].kv_heads;
        let alive: Vec<usize> = (0..count).filter(|group| *group != dead).collect();
        let request = Request { groups: Some(Share::Count(alive.len())), ..Request::default() };
        let (cut, same) = leaves_equal(&gguf, &request);
        assert!(same, "{name}");
        assert!(cut.layers.iter().all(|layer| layer.groups.as_ref() == Some(&alive)), "{name}");
    }
}

#[test]
fn a_layer_that_does_nothing_goes_and_nothing_changes() {
    for name in ["tests/golden/llama.gguf", "tests/golden/qwen3.gguf", "models/attar-1m.gguf"] {
        let gguf = changed(
            &opened(name),
            None,
            &|name, values, _| {
                if name == "blk.1.attn_output.weight" || name == "blk.1.ffn_down.weight" {
                    values.fill(0.0);
                }
            },
            None,
        );
        let (_, ranking) = ranking(&gguf, &tokens(&gguf));
        let dropped = drop_by_influence(&ranking, 1);
        assert_eq!(dropped, [1], "{name}");
        let (_, same) = leaves_equal(&gguf, &Request { dropped, ..Request::default() });
        assert!(same, "{name}");
    }
}

#[test]
fn an_expert_that_is_never_chosen_goes_and_nothing_changes() {
    // Its score is so low that its probability is nothing, whatever the others' are.
    let gguf = opened("tests/golden/llama-experts.gguf");
    let mut gguf =
        changed(&gguf, None, &|_, _, _| {}, Some(("blk.0.ffn_gate_inp.bias", &[0.0, 0.0, -1e30])));
    gguf =
        changed(&gguf, None, &|_, _, _| {}, Some(("blk.1.ffn_gate_inp.bias", &[0.0, 0.0, -1e30])));
    let request = Request { experts: Some(Share::Count(2)), ..Request::default() };
    let (cut, same) = leaves_equal(&gguf, &request);
    assert!(cut.layers.iter().all(|layer| layer.experts == Some(vec![0, 1])));
    assert!(same);
}

#[test]
fn neurons_of_experts_go_one_expert_at_a_time() {
    let gguf = changed(
        &opened("tests/golden/qwen3moe.gguf"),
        None,
        &|name, values, len| {
            // Each expert's last neurons do nothing, of the second expert four more.
            if name.ends_with("ffn_down_exps.weight") {
                zero_columns(values, len, len - 4..len);
            }
        },
        None,
    );
    let request = Request { hidden: Some(Share::Count(12)), ..Request::default() };
    let (cut, same) = leaves_equal(&gguf, &request);
    assert!(same);
    let kept = cut.layers[0].hidden.as_ref().expect("neurons");
    assert_eq!(kept.len(), 3);
    let (shape, ranking) = ranking(&gguf, &tokens(&gguf));
    let request = Request { hidden: Some(Share::Count(8)), ..Request::default() };
    let cut = choose(&shape, &ranking, &request).expect("a cut");
    let kept = cut.layers[0].hidden.as_ref().expect("neurons");
    assert!(kept[0] != kept[1], "experts have their own choice");
    assert_eq!(logits(&pruned(&gguf, &cut), &ids_of(&gguf)).len(), 24 * 64);
}

#[test]
fn uneven_layers_are_written_as_what_has_them_and_refused_where_nothing_has() {
    let gguf = off_grid();
    let (shape, mut ranking) = ranking(&gguf, &tokens(&gguf));
    // Whatever the model has learned, in one layer a few neurons are worth nearly all.
    ranking.layers[0].hidden[0].iter_mut().for_each(|worth| *worth = worth.powi(3));
    let request = Request {
        hidden: Some(Share::Part(0.7)),
        groups: Some(Share::Count(1)),
        uneven: true,
        ..Request::default()
    };
    let cut = choose(&shape, &ranking, &request).expect("a cut");
    let small = pruned(&gguf, &cut);
    let found = Shape::of(&small).expect("a shape");
    let even = Request { uneven: false, ..request.clone() };
    let even = choose(&shape, &ranking, &even).expect("a cut");
    let each = even.layers[0].hidden.as_ref().expect("neurons")[0].len();
    let layers = shape.layers.len();
    assert_eq!(small.architecture(), Ok(shape.uneven.expect("one that has them")));
    let widths = |shape: &Shape| shape.layers.iter().map(|layer| layer.hidden).collect::<Vec<_>>();
    assert_eq!(widths(&found).iter().sum::<usize>(), each * layers, "as many in all");
    assert!(widths(&found).iter().any(|width| *width != each), "{:?}", widths(&found));
    assert!(widths(&found).iter().all(|width| width % 32 == 0));
    let group = shape.layers[0].heads / shape.layers[0].kv_heads;
    assert!(found.layers.iter().all(|layer| layer.heads == group));
    // As if what went gave nothing; sums have another order.
    let ids = ids_of(&gguf);
    let (was, is) = (logits(&silenced(&gguf, &shape, &cut), &ids), logits(&small, &ids));
    let error = common::normalized_error(&is, &was);
    assert!(error < 1e-10, "{error}");

    for name in ["tests/golden/qwen2.gguf", "tests/golden/llama-experts.gguf"] {
        let gguf = opened(name);
        let (shape, ranking) = self::ranking(&gguf, &tokens(&gguf));
        let request = Request { hidden: Some(Share::Count(8)), uneven: true, ..Request::default() };
        let refused = choose(&shape, &ranking, &request);
        assert!(matches!(refused, Err(Error::Unsupported(_))), "{name}: {refused:?}");
        let mut cut = Cut::nothing(&shape);
        cut.layers[0].groups = Some(vec![0]);
        let refused = Pruned::plan(&gguf, &shape, &cut).map(|_| ());
        assert!(matches!(refused, Err(Error::Unsupported(_))), "{name}: {refused:?}");
    }
}

#[test]
fn cuts_through_blocks_are_told() {
    let gguf = made(|path| {
        quantize(&bundled(), Format::Q8_0, path, 2, &mut |_| {}).expect("a model of blocks");
    });
    let (shape, ranking) = ranking(&gguf, &tokens(&gguf));
    let hidden = shape.layers[0].hidden;
    for (count, to) in [(hidden - 32, "q8_0"), (hidden - 52, "f16")] {
        let request = Request { hidden: Some(Share::Count(count)), ..Request::default() };
        let cut = choose(&shape, &ranking, &request).expect("a cut");
        let plan = Pruned::plan(&gguf, &shape, &cut).expect("a plan");
        for tensor in &plan.tensors {
            let down = tensor.name.ends_with("ffn_down.weight");
            assert_eq!(tensor.rounded, down, "{}", tensor.name);
            assert!(!down || tensor.to.name == to, "{}: {}", tensor.name, tensor.to.name);
        }
        let small = pruned(&gguf, &cut);
        assert_eq!(small.usize("llama.feed_forward_length"), Ok(Some(count)));
        assert_eq!(small.usize("attar.prune.feed_forward_length"), Ok(Some(hidden)));
        let parameters: usize = small.tensors().iter().map(attar::gguf::Tensor::len).sum();
        assert_eq!(plan.parameters.1, parameters);
        let bytes: usize = small.tensors().iter().map(|tensor| tensor.bytes.len()).sum();
        assert_eq!(plan.bytes.1, bytes);
    }
}

#[test]
fn impossible_cuts_are_refused() {
    let gguf = opened("tests/golden/qwen3moe.gguf");
    let (shape, ranking) = ranking(&gguf, &tokens(&gguf));
    let share = |count| Some(Share::Count(count));
    for (request, why) in [
        (Request { dropped: vec![2], ..Request::default() }, "layer 2 of 2"),
        (Request { dropped: vec![0, 1], ..Request::default() }, "no layer"),
        (Request { hidden: share(17), ..Request::default() }, "17 neurons, expected 1 to 16"),
        (Request { groups: share(3), ..Request::default() }, "3 groups of heads"),
        (Request { experts: share(1), ..Request::default() }, "each token goes to 2"),
        (Request { width: share(0), ..Request::default() }, "0 columns"),
    ] {
        let refused = choose(&shape, &ranking, &request).map(|_| ());
        assert!(refused.as_ref().is_err_and(|e| e.to_string().contains(why)), "{why}: {refused:?}");
    }
}

#[test]
fn a_dropped_layer_is_renumbered_and_remembered() {
    let gguf = opened("tests/golden/deci.gguf");
    let shape = Shape::of(&gguf).expect("a shape");
    let mut cut = Cut::nothing(&shape);
    cut.drop_layers(&[1, 4]);
    let small = pruned(&gguf, &cut);
    let counts = |key: &str| -> Vec<i128> {
        let array = small.array(key, ValueType::I32).expect("counts").expect("an array");
        array.iter().filter_map(|value: Value<'_>| value.integer()).collect()
    };
    assert_eq!(small.usize("deci.block_count"), Ok(Some(3)));
    assert_eq!(counts("deci.attention.head_count"), [4, 2, 4]);
    assert_eq!(counts("deci.feed_forward_length"), [24, 16, 0]);
    assert_eq!(counts("attar.prune.layers"), [0, 2, 3]);
    let options = Options { cache: Format::F32, ..Options::default() };
    let mut session = Session::open(&gguf, &options).expect("a session");
    [1, 4].into_iter().for_each(|layer| session.bypass(layer).expect("a layer"));
    assert!(session.bypass(5).is_err());
    let ids = ids_of(&gguf);
    assert!(bits(&logits(&small, &ids)) == bits(&all_logits(&mut session, &ids)));
}

/// KL divergence of what a cut leaves from the model.
fn damage(gguf: &Gguf, cut: &Cut, text: &Sequences) -> f64 {
    let small = pruned(gguf, cut);
    let measured = Measure::on_threads(2).run(&small, Some(gguf), text, &|_| true);
    measured.expect("figures").divergence.expect("a reference").kl.mean
}

#[test]
fn what_is_worth_least_harms_least() {
    let Some(path) = shared("models/stories260K-f32.gguf") else { return };
    let gguf = Gguf::open(&path).expect("a model");
    let sample =
        |seed| Sequences::sampled(&gguf, 18_432, 192, seed, 2, &|_| true).expect("sequences");
    let (text, other) = (sample(1), sample(2));
    let (shape, ranking) = ranking(&gguf, &text);
    assert_eq!(drop_by_influence(&ranking, 1), [2]);
    let lost = drop_by_loss(&gguf, &shape, 1, &other, 2, &|_| true).expect("losses");
    assert_eq!(lost.iter().map(|(layer, _)| *layer).collect::<Vec<_>>(), [2]);

    let request = Request { hidden: Some(Share::Count(128)), ..Request::default() };
    let cut = choose(&shape, &ranking, &request).expect("a cut");
    let kl = damage(&gguf, &cut, &other);
    assert!(kl <= 0.80, "KL {kl}");
    let mut random = cut.clone();
    for layer in &mut random.layers {
        let mut kept: Vec<usize> = (0..172).map(|i| i * 89 % 172).take(128).collect();
        kept.sort_unstable();
        layer.hidden = Some(vec![kept]);
    }
    let random = damage(&gguf, &random, &other);
    assert!(kl < 0.75 * random, "KL {kl}, of neurons at random {random}");
    let uneven = choose(&shape, &ranking, &Request { uneven: true, ..request }).expect("a cut");
    let uneven = damage(&gguf, &uneven, &other);
    // On this model widths of their own gain nothing; they must not lose either.
    assert!(uneven < 1.05 * kl, "KL {uneven} with widths of their own, {kl} with one");

    let request = Request { groups: Some(Share::Count(3)), ..Request::default() };
    let groups = damage(&gguf, &choose(&shape, &ranking, &request).expect("a cut"), &other);
    assert!(groups < 0.25, "KL {groups}");
    let request = Request { width: Some(Share::Count(56)), ..Request::default() };
    let width = damage(&gguf, &choose(&shape, &ranking, &request).expect("a cut"), &other);
    assert!((kl..1.1).contains(&width), "KL {width}: columns of the stream cost most");
}
