//! Hostile files: cut short, flipped, absurd. Each gives an error that says where, within the memory the
//! file itself takes and a fixed bound.

mod common;

use attar::bytes::Bytes;
use attar::gguf::write::{TensorPlan, Writer};
use attar::gguf::{TensorType, Value, ValueType};
use attar::{Error, Format, Gguf, Options, Session, Tokenizer};
use common::{own, shared};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::PathBuf;

thread_local! {
    /// The largest single allocation of this thread since it was last reset.
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

struct Watching;

#[allow(unsafe_code, reason = "an allocator is unsafe to implement; every call is passed on")]
// SAFETY: every method hands its arguments to the system's allocator, whose contract is the same.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.set(LARGEST.get().max(layout.size()));
        // SAFETY: the caller's promises are those `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.set(LARGEST.get().max(size));
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// What opening may allocate at once beyond the size of the file.
const BOUND: usize = 1 << 20;

fn bundled() -> Vec<u8> {
    std::fs::read(own("models/attar-1m.gguf")).expect("the bundled model")
}

/// Where the tensors' data starts: no byte before it may be missing.
fn header_len(bytes: &[u8]) -> usize {
    let gguf = parse(bytes.to_vec()).expect("a sound file");
    let data: usize = gguf.tensors().iter().map(|t| t.bytes.len().next_multiple_of(32)).sum();
    bytes.len() - data
}

fn parse(bytes: Vec<u8>) -> Result<Gguf, Error> {
    LARGEST.set(0);
    let len = bytes.len();
    let result = Gguf::parse(Bytes::from_vec(bytes).expect("memory"));
    let largest = LARGEST.get();
    assert!(largest <= len + BOUND, "{largest} bytes at once for a file of {len}");
    result
}

/// The text of an error names a place.
fn says_where(error: &Error) {
    let text = error.to_string();
    assert!(text.contains("byte") || text.contains('\''), "{text}");
}

#[test]
fn a_header_cut_anywhere_is_an_error_with_a_place() {
    let bytes = std::fs::read(own("tests/golden/llama.gguf")).expect("a checkpoint");
    let header = header_len(&bytes);
    assert!(header > 1000);
    for len in 0..header {
        let error = parse(bytes[..len].to_vec()).expect_err("a file cut short");
        says_where(&error);
    }
    // A missing end of the data is found too.
    for len in [header, header + 1, bytes.len() - 64, bytes.len() - 33] {
        let error = parse(bytes[..len].to_vec()).expect_err("a file cut short");
        assert!(error.to_string().contains("tensor '"), "{error}");
    }
}

/// A seeded sequence, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }
}

/// Opens, reads the vocabulary and runs a token where that is possible still.
fn use_it(bytes: Vec<u8>) -> bool {
    let Ok(gguf) = parse(bytes) else { return false };
    gguf.metadata().for_each(|(_, value)| drop(format!("{value:?}")));
    if let Ok(tokenizer) = Tokenizer::load(&gguf) {
        // Text may have become impossible to spell; that is an error, not a panic.
        let _ = tokenizer.encode("Once upon é🦙".as_bytes(), true, true);
        (0..600).for_each(|id| drop(tokenizer.piece(id)));
    }
    let options = Options { context_len: 8, batch_len: 4, threads: 1, ..Options::default() };
    let Ok(mut session) = Session::open(&gguf, &options) else { return false };
    session.feed(&[1, 2, 3, 4]).is_ok()
}

#[test]
fn flipped_bits_never_panic() {
    for (name, rounds) in [("tests/golden/qwen2moe.gguf", 3000), ("models/attar-1m.gguf", 600)] {
        let sound = std::fs::read(own(name)).expect("a model");
        let header = header_len(&sound);
        let mut random = Random(name.len() as u64);
        let mut ran = 0;
        for _ in 0..rounds {
            let mut bytes = sound.clone();
            for _ in 0..1 + random.below(3) {
                bytes[random.below(header)] ^= 1 << random.below(8);
            }
            ran += usize::from(use_it(bytes));
        }
        println!("{name}: {ran} of {rounds} still ran");
        assert!(ran < rounds, "{name}: no flip was noticed");
    }
}

#[test]
fn bytes_put_in_and_taken_out_never_panic() {
    let sound = std::fs::read(own("tests/golden/qwen3.gguf")).expect("a model");
    let header = header_len(&sound);
    let mut random = Random(5);
    for _ in 0..2000 {
        let mut bytes = sound.clone();
        let at = random.below(header);
        match random.below(3) {
            0 => drop(bytes.remove(at)),
            1 => bytes.insert(at, random.below(256) as u8),
            _ => bytes[at..at + 8].copy_from_slice(&(u64::MAX >> random.below(64)).to_le_bytes()),
        }
        use_it(bytes);
    }
}

#[test]
fn weights_that_are_no_numbers_never_panic() {
    for name in ["llama", "qwen2moe", "qwen3moe"] {
        let mut bytes = std::fs::read(own(&format!("tests/golden/{name}.gguf"))).expect("a model");
        let header = header_len(&bytes);
        bytes[header..].fill(0xff);
        assert!(use_it(bytes), "{name}: sizes and names are sound, it should run");
    }
}

/// A header of version 3 and what follows.
fn file(tensors: u64, keys: u64, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(tensors.to_le_bytes());
    bytes.extend(keys.to_le_bytes());
    bytes.extend(rest);
    bytes
}

#[test]
fn absurd_sizes_are_refused_before_memory_is_asked_for() {
    let string = |s: &[u8]| [&(s.len() as u64).to_le_bytes(), s].concat();
    let key = |kind: u32, value: &[u8]| {
        [string(b"k"), kind.to_le_bytes().to_vec(), value.into()].concat()
    };
    let huge = u64::MAX.to_le_bytes();
    let array = |kind: u32, len: [u8; 8]| key(9, &[&kind.to_le_bytes()[..], &len].concat());
    let tensor = |dims: &[u64], kind: u32, offset: u64| {
        let mut bytes = string(b"t");
        bytes.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|dim| bytes.extend(dim.to_le_bytes()));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        bytes
    };
    let nested: Vec<u8> = (0..9)
        .flat_map(|_| [9u32.to_le_bytes().to_vec(), 1u64.to_le_bytes().to_vec()].concat())
        .collect();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a million keys", file(0, 1 << 20, &[])),
        ("2^64 tensors", file(u64::MAX, 0, &[])),
        ("a key as long as memory", file(0, 1, &huge)),
        ("a string as long as memory", file(0, 1, &key(8, &huge))),
        ("an array of 2^64 bytes", file(0, 1, &array(0, huge))),
        ("an array of 2^61 doubles", file(0, 1, &array(12, (1u64 << 61).to_le_bytes()))),
        ("an array of 2^64 strings", file(0, 1, &array(8, huge))),
        ("an array of 2^64 arrays", file(0, 1, &array(9, huge))),
        ("arrays nine deep", file(0, 1, &key(9, &nested))),
        ("a value of type 13", file(0, 1, &key(13, &[0; 8]))),
        ("a bool of 2", file(0, 1, &key(7, &[2]))),
        ("no dimensions", file(1, 0, &tensor(&[], 0, 0))),
        ("a dimension of 0", file(1, 0, &tensor(&[4, 0], 0, 0))),
        ("five dimensions", file(1, 0, &tensor(&[1; 5], 0, 0))),
        ("2^64 weights", file(1, 0, &tensor(&[1 << 32, 1 << 32], 0, 0))),
        ("a row of half a block", file(1, 0, &tensor(&[48], 8, 0))),
        ("an unknown type", file(1, 0, &tensor(&[32], 999, 0))),
        ("a withdrawn type", file(1, 0, &tensor(&[32], 31, 0))),
        ("data at an odd place", file(1, 0, &tensor(&[1], 0, 7))),
        ("data beyond the end", file(1, 0, &tensor(&[1], 0, u64::MAX - 31))),
        ("two of one name", file(2, 0, &[tensor(&[1], 0, 0), tensor(&[1], 0, 32)].concat())),
        ("version 4", b"GGUF\x04\0\0\0".to_vec()),
        ("big-endian", b"GGUF\0\0\0\x03".to_vec()),
        ("another magic", b"GGML\x03\0\0\0".to_vec()),
    ];
    for (what, mut bytes) in cases {
        bytes.resize(bytes.len() + 64, 0);
        match parse(bytes) {
            Ok(_) => panic!("{what} was accepted"),
            Err(error) => println!("{what}: {error}"),
        }
    }
}

#[test]
fn overlapping_tensors_and_repeated_keys_are_refused() {
    let sound = std::fs::read(own("tests/golden/llama.gguf")).expect("a checkpoint");
    let gguf = parse(sound.clone()).expect("a sound file");
    // The second tensor's offset, after its name, dimensions and type, becomes that of the first.
    let tensor = &gguf.tensors()[1];
    let name = tensor.name.as_bytes();
    let at = sound.windows(name.len()).position(|w| w == name).expect("its name");
    let at = at + name.len() + 4 + 8 * tensor.dims.len() + 4;
    let mut bytes = sound.clone();
    assert_ne!(bytes[at..at + 8], [0; 8]);
    bytes[at..at + 8].fill(0);
    let error = parse(bytes).expect_err("an overlap");
    assert!(error.to_string().contains("overlap"), "{error}");
    let key = [&3u64.to_le_bytes()[..], b"a.b", &4u32.to_le_bytes(), &7u32.to_le_bytes()].concat();
    let error = parse(file(0, 2, &[&key[..], &key].concat())).expect_err("a key twice");
    assert!(error.to_string().contains("'a.b' occurs twice"), "{error}");
}

#[test]
fn versions_one_to_three_say_the_same() {
    let (Some(one), Some(three)) =
        (shared("models/stories260K-gguf-v1.gguf"), shared("models/stories260K-f32.gguf"))
    else {
        return;
    };
    let (one, three) =
        (Gguf::open(&one).expect("version 1"), Gguf::open(&three).expect("version 3"));
    assert_eq!((one.version(), three.version()), (1, 3));
    let tokens = |gguf: &Gguf| {
        let array = gguf.array("tokenizer.ggml.tokens", ValueType::String).expect("an array");
        array.expect("tokens").strings().map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    assert_eq!(tokens(&one), tokens(&three));
    let options = Options { cache: Format::F32, ..Options::default() };
    let logits = |gguf: &Gguf| {
        let mut session = Session::open(gguf, &options).expect("a session");
        session.feed(&[1, 5, 9, 300]).expect("ids").to_vec()
    };
    assert_eq!(logits(&one), logits(&three));
}

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("attar-files-{}-{name}", std::process::id()))
}

/// The tensors of `gguf` numbered from `first`, with the keys of a part, or of the first part.
fn write_part(
    gguf: &Gguf,
    path: &std::path::Path,
    part: u16,
    parts: u16,
    tensors: std::ops::Range<usize>,
) {
    let count = gguf.tensors().len() as i32;
    let own = [
        ("split.no", Value::U16(part)),
        ("split.count", Value::U16(parts)),
        ("split.tensors.count", Value::I32(count)),
    ];
    let all = gguf.metadata().filter(|_| part == 0).chain(own);
    let tensors = &gguf.tensors()[tensors];
    let plans: Vec<TensorPlan> = tensors
        .iter()
        .map(|t| TensorPlan { name: t.name.to_string(), kind: t.kind, dims: t.dims.to_vec() })
        .collect();
    let mut writer = Writer::create(path, all, &plans).expect("a writer");
    tensors.iter().for_each(|tensor| writer.append(&tensor.bytes).expect("room"));
    writer.finish().expect("a file");
}

#[test]
fn split_files_are_one_model() {
    let gguf = parse(bundled()).expect("the bundled model");
    let count = gguf.tensors().len();
    let name = |i: usize| temporary(&format!("split-{i:05}-of-00003.gguf"));
    for (i, range) in [0..5, 5..20, 20..count].into_iter().enumerate() {
        write_part(&gguf, &name(i + 1), i as u16, 3, range);
    }
    let mut ids = Vec::new();
    for first in 1..=3 {
        let joined = Gguf::open(&name(first)).expect("three parts");
        assert_eq!(joined.tensors().len(), count);
        let mut session = Session::open(&joined, &Options::default()).expect("a session");
        ids.push(session.feed(&[1, 2, 3]).expect("ids").to_vec());
    }
    assert!(ids[0] == ids[1] && ids[1] == ids[2]);
    std::fs::remove_file(name(2)).expect("the second part");
    let error = Gguf::open(&name(1)).expect_err("a part is missing");
    assert!(matches!(&error, Error::Io(text) if text.contains("00002-of-00003")), "{error}");
    std::fs::rename(name(3), name(2)).expect("the third part");
    std::fs::copy(name(2), name(3)).expect("a copy");
    let error = Gguf::open(&name(1)).expect_err("a part is in the wrong place");
    assert!(matches!(&error, Error::Invalid(text) if text.contains("part 3")), "{error}");
    (1..=3).for_each(|i| std::fs::remove_file(name(i)).expect("a part"));
}

#[test]
fn an_unfinished_file_never_appears() {
    let path = temporary("unfinished.gguf");
    let kind = TensorType::of(Format::F32);
    let plan = [TensorPlan { name: "t".into(), kind, dims: vec![8] }];
    let mut writer = Writer::create(&path, std::iter::empty(), &plan).expect("a writer");
    writer.append(&[0; 16]).expect("half of it");
    assert!(writer.append(&[0; 17]).is_err(), "more than the table says");
    assert!(writer.finish().is_err(), "a half is missing");
    assert!(!path.exists());
    let folder = path.parent().expect("a folder");
    let left = std::fs::read_dir(folder).expect("a folder").filter(|entry| {
        let name = entry.as_ref().expect("an entry").file_name();
        name.to_string_lossy().contains("unfinished.gguf")
    });
    assert_eq!(left.count(), 0, "a temporary file was left");
}

/// What the other reader accepts, ours accepts and reads alike.
#[test]
fn two_readers_agree() {
    let sound = std::fs::read(own("tests/golden/llama.gguf")).expect("a checkpoint");
    let header = header_len(&sound);
    let mut random = Random(9);
    let (mut both, mut ours) = (0, 0);
    for _ in 0..3000 {
        let mut bytes = sound.clone();
        bytes[random.below(header)] ^= 1 << random.below(8);
        let other = gguf_rs_lib::reader::GGUFFileReader::new(std::io::Cursor::new(&bytes));
        let own = parse(bytes.clone());
        ours += usize::from(own.is_ok());
        let Ok(other) = other else { continue };
        match &own {
            Ok(own) => {
                both += 1;
                assert_eq!(other.tensor_infos().len(), own.tensors().len());
                for tensor in own.tensors() {
                    let found = other.tensor_infos().iter().find(|t| t.name() == &*tensor.name);
                    assert!(found.is_some(), "{}", tensor.name);
                }
            }
            // The other reader lets sizes of zero pass.
            Err(e) => assert!(e.to_string().contains("a dimension of 0"), "{e}"),
        }
    }
    println!("{both} accepted by both, {ours} by ours");
    assert!(both > 500);
}
