//! A model on two devices gives the bits of one, wherever it is split.

mod common;

use attar::backend::{Backend, Split, View};
use attar::{Error, Format, Gguf, Options, Session};
use common::device::{Counts, Watched};
use common::{all_logits, any_ids, bits, own, own_models};
use std::collections::VecDeque;
use std::sync::Arc;

const BATCH_LEN: usize = 7;

fn options() -> Options {
    Options {
        context_len: 40,
        batch_len: BATCH_LEN,
        threads: 1,
        cache: Format::F32,
        ..Options::default()
    }
}

fn layers(gguf: &Gguf) -> usize {
    let name = gguf.architecture().expect("a model");
    let count = gguf.usize(&format!("{name}.block_count")).expect("a count");
    count.expect("a number of layers")
}

/// Which layers have such a part; a file may leave it out of some.
fn layers_with(gguf: &Gguf, part: &str) -> Vec<bool> {
    let has = |layer| {
        let prefix = format!("blk.{layer}.{part}");
        gguf.tensors().iter().any(|tensor| tensor.name.starts_with(&prefix))
    };
    (0..layers(gguf)).map(has).collect()
}

/// Whether all layers have the same widths. Where not, they share buffers as wide as the widest, and what a
/// narrower one leaves in a row goes over with it.
fn are_alike(gguf: &Gguf) -> bool {
    let widths = |layer: usize| -> Vec<Vec<usize>> {
        let prefix = format!("blk.{layer}.");
        let own = gguf.tensors().iter().filter(|tensor| tensor.name.starts_with(&prefix));
        own.map(|tensor| tensor.dims.to_vec()).collect()
    };
    (1..layers(gguf)).all(|layer| widths(layer) == widths(0))
}

fn count(these: &[bool]) -> usize {
    these.iter().filter(|own| **own).count()
}

fn watched() -> (Box<Watched>, Arc<Counts>) {
    let device = Box::new(Watched::cpu(&options()));
    let counts = device.counts.clone();
    (device, counts)
}

/// A session whose first layers are on a device of their own, and what the two devices do.
fn split(gguf: &Gguf, layers_on_first: usize) -> (Session, [Arc<Counts>; 2]) {
    let ((first, on_first), (rest, on_rest)) = (watched(), watched());
    let device = Box::new(Split::new(first, rest, layers_on_first));
    let session = Session::open_on(gguf, &options(), device).expect("a session");
    (session, [on_first, on_rest])
}

/// Keys and values of all tokens held.
fn state(session: &Session) -> VecDeque<Vec<u8>> {
    let mut pieces = VecDeque::new();
    let mut keep = |piece: &[u8]| pieces.push_back(piece.to_vec());
    session.cached(session.position(), &mut keep).expect("as many are held");
    pieces
}

fn restore(session: &mut Session, positions: usize, mut pieces: VecDeque<Vec<u8>>) {
    let mut fill = |room: &mut [u8]| room.copy_from_slice(&pieces.pop_front().expect("a piece"));
    session.restore(positions, &mut fill).expect("room");
    assert!(pieces.is_empty());
}

#[test]
fn the_bits_and_the_state_are_those_of_one_device() {
    for path in own_models() {
        let gguf = Gguf::open(&path).expect("a model");
        let mut plain = Session::open(&gguf, &options()).expect("a session");
        let ids = any_ids(plain.vocab_len(), 30);
        let want = bits(&all_logits(&mut plain, &ids));
        let next = bits(plain.feed(&[1, 2, 3]).expect("room"));
        plain.truncate(30).expect("more are held");
        // One more than there are layers brings the head to the first device too.
        for on_first in 0..=layers(&gguf) + 1 {
            let what = format!("{}, {on_first} layers", path.display());
            let (mut session, _) = split(&gguf, on_first);
            assert!(bits(&all_logits(&mut session, &ids)) == want, "{what}");
            assert_eq!(session.plan().cache_bytes, plain.plan().cache_bytes, "{what}");
            assert_eq!(state(&session), state(&plain), "{what}");
            let mut fresh = Session::open(&gguf, &options()).expect("a session");
            restore(&mut fresh, 30, state(&session));
            assert!(bits(fresh.feed(&[1, 2, 3]).expect("room")) == next, "{what}");
            session.clear();
            restore(&mut session, 30, state(&plain));
            assert!(bits(session.feed(&[1, 2, 3]).expect("room")) == next, "{what}");
        }
    }
}

#[test]
fn layers_run_where_they_live_and_rows_move_once_a_border() {
    for path in own_models() {
        let gguf = Gguf::open(&path).expect("a model");
        let all = layers(&gguf);
        let feeds = layers_with(&gguf, "ffn_gate");
        for on_first in 0..=all + 1 {
            let what = format!("{}, {on_first} of {all} layers", path.display());
            let (mut session, [first, rest]) = split(&gguf, on_first);
            for len in [BATCH_LEN, 1, 3] {
                session.feed(&vec![1; len]).expect("room");
                let ((first, from_first), (rest, from_rest)) = (first.take(), rest.take());
                let of_first = count(&feeds[..on_first.min(all)]);
                assert_eq!(first * count(&feeds), (first + rest) * of_first, "{what}");
                // The embedding goes to the first layers, their output comes back; and the logits.
                let want = match on_first {
                    0 => (0, 1),
                    n if n <= all => (1, 2),
                    _ => (1, 0),
                };
                let found = (from_first, from_rest);
                assert!(found == want || !are_alike(&gguf), "{what}, {len} tokens: {found:?}");
            }
        }
    }
}

#[test]
fn a_layer_that_the_first_device_does_not_take_runs_on_the_other() {
    for path in own_models() {
        let gguf = Gguf::open(&path).expect("a model");
        let all = layers(&gguf);
        let mut plain = Session::open(&gguf, &options()).expect("a session");
        let ids = any_ids(plain.vocab_len(), 30);
        let want = bits(&all_logits(&mut plain, &ids));
        let next = bits(plain.feed(&[1, 2, 3]).expect("room"));
        plain.truncate(30).expect("more are held");
        let (feeds, attentions) = (layers_with(&gguf, "ffn_gate"), layers_with(&gguf, "attn_q."));
        for refused in (0..all).filter(|layer| attentions[*layer]) {
            let what = format!("{}, all but layer {refused}", path.display());
            let ((mut first, on_first), (rest, on_rest)) = (watched(), watched());
            first.refused = Some(refused);
            let device = Box::new(Split::new(first, rest, all + 1));
            let mut session = Session::open_on(&gguf, &options(), device).expect("a session");
            assert!(bits(&all_logits(&mut session, &ids)) == want, "{what}");
            // Pieces in the order of layers, wherever these are.
            assert_eq!(state(&session), state(&plain), "{what}");
            let ((here, _), (there, _)) = (on_first.take(), on_rest.take());
            let own = usize::from(feeds[refused]);
            assert_eq!(there * (count(&feeds) - own), here * own, "{what}: {here} and {there}");
            assert_eq!(there > 0, own > 0, "{what}");
            session.clear();
            restore(&mut session, 30, state(&plain));
            assert!(bits(session.feed(&[1, 2, 3]).expect("room")) == next, "{what}");
            // The stream goes over and comes back; and the logits.
            let ((_, from_first), (_, from_rest)) = (on_first.take(), on_rest.take());
            let found = (from_first, from_rest);
            assert!(found == (2, 1) || !are_alike(&gguf), "{what}: {found:?}");
        }
    }
}

#[test]
fn a_plan_is_measured_before_anything_is_claimed() {
    let gguf = Gguf::open(&own("models/attar-1m.gguf")).expect("the bundled model");
    let plain = Session::plan_for(&gguf, &options()).expect("a plan");
    for on_first in 0..=layers(&gguf) {
        let (session, _) = split(&gguf, on_first);
        let planned = Session::plan_on(&gguf, &options(), &|| {
            let (first, rest) = (options().cpu()?, options().cpu()?);
            Ok(Box::new(Split::new(first, rest, on_first)))
        });
        let planned = planned.expect("a plan");
        assert_eq!(planned.cache_bytes, session.plan().cache_bytes);
        assert_eq!((planned.cache_bytes, planned.device_bytes), (plain.cache_bytes, 0));
        // Tables aside, as this program's allocator is not ours.
        let (most, least) = (planned.session_bytes, session.plan().session_bytes);
        assert!(most >= least && most - least < 1 << 16, "{most} planned, {least} claimed");
    }
}

#[test]
fn a_device_that_fails_is_an_error_from_then_on() {
    let gguf = Gguf::open(&own("models/attar-1m.gguf")).expect("the bundled model");
    let (mut first, _) = watched();
    first.failing = 2;
    let rest = options().cpu().expect("a CPU");
    let device = Box::new(Split::new(first, rest, 1));
    let mut session = Session::open_on(&gguf, &options(), device).expect("a session");
    session.feed(&[1, 2]).expect("room");
    for _ in 0..2 {
        assert!(matches!(session.feed(&[3]), Err(Error::Device(_))));
    }
}

/// A rectangle of a buffer.
fn part(whole: View, next: &mut impl FnMut(usize) -> usize) -> View {
    let (row, column) = (next(whole.rows), next(whole.width));
    let (rows, width) = (1 + next(whole.rows - row), 1 + next(whole.width - column));
    View { row, rows, column, width, ..whole }
}

#[test]
fn buffers_are_as_on_one_device_whatever_rectangles_change_where() {
    let mut plain = options().cpu().expect("a CPU");
    let (first, rest) = (options().cpu().expect("a CPU"), options().cpu().expect("a CPU"));
    let mut split = Split::new(first, rest, 1);
    let (rows, width) = (6, 5);
    let buffers = |device: &mut dyn Backend| {
        let buffers = [(); 3].map(|()| device.buffer(rows, width).expect("little memory"));
        device.seal(rows).expect("little memory");
        buffers
    };
    let (wholes, same) = (buffers(&mut *plain), buffers(&mut split));
    assert_eq!(wholes, same);
    let mut state = 1u64;
    let mut next = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    for step in 0..3000 {
        let (from, to) = (next(3), 1 + next(2));
        let out = part(wholes[from], &mut next);
        let x = View { buffer: wholes[(from + to) % 3].buffer, ..out };
        let (layer, operation, value) = (next(2), next(5), next(1000) as f32);
        let values = vec![value; out.rows * out.width];
        for device in [&mut *plain as &mut dyn Backend, &mut split] {
            device.layer(layer);
            match operation {
                0 => device.write(out, &values),
                1 => device.copy(out, x),
                2 => device.add(out, x),
                3 => device.scale(out, 0.5),
                _ => device.scale_rows(out, x.columns(1)),
            }
        }
        let whole = wholes[next(3)];
        let want = bits(plain.read(whole).expect("no fault"));
        assert!(bits(split.read(whole).expect("no fault")) == want, "step {step}");
    }
}
