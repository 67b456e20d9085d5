//! Two devices in step: equal ones never depart, and a fault is named by its layer and operation.

mod common;

use attar::backend::{Compare, Findings};
use attar::memory::Shared;
use attar::{Error, Format, Gguf, Options, Session};
use common::device::Watched;
use common::{all_logits, any_ids, bits, own, own_models};
use std::sync::Mutex;

fn options() -> Options {
    Options {
        context_len: 40,
        batch_len: 8,
        threads: 1,
        cache: Format::F32,
        isa: attar::kernels::by_name("scalar"),
        ..Options::default()
    }
}

/// A session on a device beside the CPU with its fastest kernels, and what is found.
fn compare(gguf: &Gguf, tested: Watched, bound: f32) -> (Session, Shared<Mutex<Findings>>) {
    let fastest = Options { isa: None, ..options() };
    let trusted = fastest.cpu().expect("a CPU");
    let compare = Compare::new(Box::new(tested), trusted, bound).expect("little memory");
    let findings = compare.findings();
    let session = Session::open_on(gguf, &options(), Box::new(compare)).expect("a session");
    (session, findings)
}

#[test]
fn kernels_of_the_same_bits_never_depart() {
    let mut seen = Vec::new();
    for path in own_models() {
        let gguf = Gguf::open(&path).expect("a model");
        let mut plain = Session::open(&gguf, &options()).expect("a session");
        let ids = any_ids(plain.vocab_len(), 20);
        let want = bits(&all_logits(&mut plain, &ids));
        let (mut session, findings) = compare(&gguf, Watched::cpu(&options()), 0.0);
        assert!(bits(&all_logits(&mut session, &ids)) == want, "{}", path.display());
        let findings = findings.lock().expect("no panic");
        assert_eq!(findings.departure, None, "{}", path.display());
        assert!(findings.errors.iter().all(|(_, error)| *error == 0.0));
        seen.extend(findings.errors.iter().map(|(name, _)| *name));
    }
    for name in [
        "embed",
        "matmul",
        "add",
        "norm",
        "swiglu",
        "rope",
        "attention",
        "matmul_experts",
        "combine",
        "add_bias",
        "scale_rows",
    ] {
        assert!(seen.contains(&name), "{name} was never compared");
    }
}

#[test]
fn a_fault_is_named_by_its_layer_and_operation() {
    let gguf = Gguf::open(&own("models/attar-1m.gguf")).expect("the bundled model");
    let mut tested = Watched::cpu(&options());
    tested.spoiled = 3;
    let (mut session, findings) = compare(&gguf, tested, 0.01);
    let ids = any_ids(session.vocab_len(), 8);
    session.feed(&ids).expect("room");
    let findings = findings.lock().expect("no panic");
    let departure = findings.departure.expect("a departure");
    assert_eq!((departure.layer, departure.operation), (2, "swiglu"), "{departure:?}");
    assert!((departure.error - 0.125).abs() < 1e-6, "{departure:?}");
    assert!((departure.found / departure.expected - 1.125).abs() < 1e-6, "{departure:?}");
    assert!(departure.row < ids.len());
    let largest = |name| findings.errors.iter().find(|(of, _)| *of == name).expect("run").1;
    assert_eq!(largest("swiglu"), departure.error);
    assert_eq!(largest("embed"), 0.0, "before the fault all was well");
    assert!(largest("matmul") > 0.0, "what follows works with the spoiled values");
}

#[test]
fn both_devices_take_on_a_state() {
    let gguf = Gguf::open(&own("models/attar-1m.gguf")).expect("the bundled model");
    let mut plain = Session::open(&gguf, &options()).expect("a session");
    let ids = any_ids(plain.vocab_len(), 20);
    plain.feed(&ids[..15]).expect("room");
    let mut pieces = std::collections::VecDeque::new();
    plain.cached(15, &mut |piece| pieces.push_back(piece.to_vec())).expect("as many are held");
    let (mut session, findings) = compare(&gguf, Watched::cpu(&options()), 0.0);
    let fill = &mut |room: &mut [u8]| room.copy_from_slice(&pieces.pop_front().expect("a piece"));
    session.restore(15, fill).expect("room");
    let want = bits(plain.feed(&ids[15..]).expect("room"));
    assert!(bits(session.feed(&ids[15..]).expect("room")) == want);
    assert_eq!(findings.lock().expect("no panic").departure, None);
}

#[test]
fn a_device_that_fails_is_an_error() {
    let gguf = Gguf::open(&own("models/attar-1m.gguf")).expect("the bundled model");
    let mut tested = Watched::cpu(&options());
    tested.failing = 5;
    let (mut session, _) = compare(&gguf, tested, 0.0);
    assert!(matches!(session.feed(&[1, 2]), Err(Error::Device(_))));
}
