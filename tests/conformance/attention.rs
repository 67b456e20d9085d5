//! The cache and attention over it: several sequences in a batch, groups of query heads, more positions than
//! a part of attention has, and caches that go from one device to another.

use crate::kit::{Area, Device, EPSILON, TINY, assert_near, devices, wide};
use crate::random::Random;
use attar::Format;
use attar::backend::{Backend, Cache, CacheShape, Row};

const SEQUENCES: usize = 3;
const CONTEXT_LEN: usize = 600;
/// The same where bindings are small: such a cache fits one.
const SHORT_CONTEXT_LEN: usize = 41;
const ROWS_MAX: usize = 67;

/// Heads of the cache, query heads, widths of keys and of values.
const HEADS: [[usize; 4]; 6] =
    [[1, 1, 8, 8], [2, 6, 16, 24], [1, 7, 40, 8], [3, 3, 72, 40], [1, 2, 256, 128], [2, 4, 64, 64]];

/// Keys and values as the host knows them, in f64, and queries.
struct Reference {
    shape: CacheShape,
    /// `[sequence][position][head][width]`.
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Reference {
    fn random(shape: CacheShape, random: &mut Random) -> Self {
        let places = shape.sequences * shape.context_len * shape.heads;
        let keys = random.gauss_vec(places * shape.key_len);
        Self { shape, keys, values: random.gauss_vec(places * shape.value_len) }
    }

    fn line(of: &[f32], shape: &CacheShape, row: Row, width: usize) -> Vec<f32> {
        let place = row.sequence as usize * shape.context_len + row.position as usize;
        of[place * width..][..width].to_vec()
    }

    /// What is stored at a row's place: all heads' keys, and values.
    fn at(&self, row: Row) -> (Vec<f32>, Vec<f32>) {
        let CacheShape { heads, key_len, value_len, .. } = self.shape;
        let keys = Self::line(&self.keys, &self.shape, row, heads * key_len);
        (keys, Self::line(&self.values, &self.shape, row, heads * value_len))
    }

    /// Attention of a row's query with bounds.
    ///
    /// A score is a sum of `key_len` terms and its factor. Its exponential is taken relative to a running
    /// maximum, in steps whose arguments are rounded and whose own errors are 3 + 2|x| units in the last
    /// place (WGSL) each; there are as many steps as blocks of 64 positions, and one for joining parts. All
    /// of it moves a position's weight by a factor; weights move the result by how far a value lies from it.
    fn attend(&self, row: Row, query: &[f32], scale: f32) -> Vec<(f64, f64)> {
        let CacheShape { heads, query_heads, key_len, value_len, format, .. } = self.shape;
        let lines: Vec<_> =
            (0..=row.position).map(|position| self.at(Row { position, ..row })).collect();
        let scale = f64::from(scale);
        // A number in an f16 cache is half a unit off, or a whole one where a driver cuts off, as WGSL
        // allows.
        let half = if format == Format::F16 { 1.0 / 1024.0 } else { 0.0 };
        let count = lines.len() as f64;
        let blocks = (count / 64.0).ceil() + 1.0;
        let mut out = Vec::new();
        for (h, query) in query.chunks_exact(key_len).enumerate() {
            let head = h / (query_heads / heads);
            let (mut scores, mut offs) = (Vec::new(), Vec::new());
            for (keys, _) in &lines {
                let terms = wide(&keys[head * key_len..][..key_len]);
                let terms = terms.iter().zip(query).map(|(k, q)| k * f64::from(*q) * scale);
                let (sum, size) = terms.fold((0.0, 0.0), |(s, z), t| (s + t, z + t.abs()));
                scores.push(sum);
                offs.push(size * ((key_len as f64 + 4.0) * EPSILON + half));
            }
            let max = scores.iter().fold(f64::NEG_INFINITY, |max, s| max.max(*s));
            let total: f64 = scores.iter().map(|s| (s - max).exp()).sum();
            let chances: Vec<f64> = scores.iter().map(|s| (s - max).exp() / total).collect();
            let factor = |(s, off): (&f64, &f64)| {
                let steps = 2.0 * (3.0 * blocks + 2.0 * (max - s)) + (max - s);
                (off + (steps + count + 8.0) * EPSILON).exp_m1()
            };
            let factors: Vec<f64> = scores.iter().zip(&offs).map(factor).collect();
            for v in 0..value_len {
                let value = |i: usize| f64::from(lines[i].1[head * value_len + v]);
                let sum: f64 = (0..lines.len()).map(|i| chances[i] * value(i)).sum();
                let moved =
                    |i: usize| (value(i).abs() + sum.abs()) * factors[i] + half * value(i).abs();
                let bound: f64 = (0..lines.len()).map(|i| chances[i] * moved(i)).sum();
                // Once more for the sum of weights, in which the same factors are.
                out.push((sum, 2.0 * bound + TINY));
            }
        }
        out
    }
}

/// A cache on a device, with room for queries, keys, values and results.
struct Case<'a> {
    reference: &'a Reference,
    cache: Cache,
    /// Query, key, value, result, for each number of rows.
    areas: Vec<(usize, [Area; 4])>,
}

const ROWS: [usize; 4] = [1, 5, 13, ROWS_MAX];

fn case<'a>(device: &Device, backend: &mut dyn Backend, reference: &'a Reference) -> Case<'a> {
    let CacheShape { heads, query_heads, key_len, value_len, .. } = reference.shape;
    let cache = backend.cache(reference.shape).unwrap_or_else(|e| panic!("{}: {e}", device.name));
    let mut areas = Vec::new();
    for rows in ROWS {
        let widths =
            [query_heads * key_len, heads * key_len, heads * value_len, query_heads * value_len];
        if widths.iter().all(|width| device.holds(rows + 2, width + 8)) {
            areas.push((rows, widths.map(|width| Area::claim(backend, rows, width, rows != 5))));
        }
    }
    Case { reference, cache, areas }
}

/// The largest number of rows of those that fit.
fn widest(case: &Case<'_>) -> (usize, [Area; 4]) {
    *case.areas.last().expect("some rows fit")
}

fn what(device: &Device, operation: &str, shape: &CacheShape, rows: usize) -> String {
    let CacheShape { heads, query_heads, key_len, value_len, format, context_len, .. } = shape;
    let heads = format!("{query_heads} heads on {heads} of {key_len} and {value_len}");
    format!("{}: {operation} {format:?}, {heads}, context {context_len}, {rows} rows", device.name)
}

/// Stores all positions, in batches that mix sequences.
fn store_all(device: &Device, backend: &mut dyn Backend, case: &Case<'_>) {
    let (rows, [_, key, value, _]) = widest(case);
    let shape = &case.reference.shape;
    println!("{}", what(device, "store", shape, rows));
    let positions = 0..shape.context_len as u32;
    let places: Vec<_> = positions
        .flat_map(|position| (0..SEQUENCES as u32).map(move |sequence| Row { sequence, position }))
        .collect();
    for places in places.chunks(rows) {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for row in places {
            let (k, v) = case.reference.at(*row);
            keys.extend(k);
            values.extend(v);
        }
        backend.write(key.view.first(places.len()), &keys);
        backend.write(value.view.first(places.len()), &values);
        let (key, value) = (key.view.first(places.len()), value.view.first(places.len()));
        backend.store(case.cache, key, value, places);
    }
}

/// Places of a batch: the last position alone, a run of positions as of a prompt, or rows of many sequences
/// at positions of their own.
fn places(rows: usize, context_len: usize, random: &mut Random) -> Vec<Row> {
    let last = context_len as u32 - 1;
    match rows {
        1 => vec![Row { sequence: 2, position: last }],
        5 => (0..5).map(|r| Row { sequence: 1, position: last.min(255) - 2 + r.min(2) }).collect(),
        _ => (0..rows)
            .map(|r| Row {
                sequence: (r % SEQUENCES) as u32,
                position: if r == 0 { 0 } else { random.below(context_len) as u32 },
            })
            .collect(),
    }
}

fn check_attention(device: &Device, backend: &mut dyn Backend, case: &Case<'_>) -> Vec<f32> {
    let mut random = Random(22);
    let mut all = Vec::new();
    let shape = &case.reference.shape;
    for &(rows, [query, .., out]) in &case.areas {
        let what = what(device, "attention", shape, rows);
        println!("{what}");
        let places = places(rows, shape.context_len, &mut random);
        let width = shape.query_heads * shape.key_len;
        let queries = random.gauss_vec(rows * width);
        let scale = 1.3 / (shape.key_len as f32).sqrt();
        query.fill(backend, &queries);
        out.clear(backend);
        backend.attention(out.view, query.view, case.cache, scale, &places);
        let expected: Vec<_> = places
            .iter()
            .zip(queries.chunks_exact(width))
            .flat_map(|(row, query)| case.reference.attend(*row, query, scale))
            .collect();
        let found = out.read(backend, &what);
        assert_near(&found, &expected, &what);
        all.extend(found);
    }
    all
}

fn references(context_len: usize) -> Vec<Reference> {
    let mut random = Random(21);
    let mut all = Vec::new();
    for [heads, query_heads, key_len, value_len] in HEADS {
        for format in [Format::F32, Format::F16] {
            let sequences = SEQUENCES;
            let shape = CacheShape {
                sequences,
                context_len,
                heads,
                query_heads,
                key_len,
                value_len,
                format,
            };
            all.push(Reference::random(shape, &mut random));
        }
    }
    all
}

/// Whether keys and values fit a binding of the device.
fn fits(device: &Device, reference: &Reference) -> bool {
    let CacheShape { sequences, context_len, heads, key_len, value_len, format, .. } =
        reference.shape;
    let bytes = format.info().row_bytes(key_len.max(value_len));
    sequences * heads * context_len * bytes <= device.buffer_bytes
}

fn open<'a>(device: &Device, references: &'a [Reference]) -> (Box<dyn Backend>, Vec<Case<'a>>) {
    let mut backend = device.open();
    let fitting = references.iter().filter(|reference| fits(device, reference));
    let cases: Vec<_> = fitting.map(|r| case(device, &mut *backend, r)).collect();
    backend.seal(ROWS_MAX).unwrap_or_else(|e| panic!("{}: {e}", device.name));
    assert!(cases.len() > 3, "{}: few caches fit", device.name);
    (backend, cases)
}

fn saved(backend: &mut dyn Backend, cases: &[Case<'_>], positions: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for case in cases {
        backend.cached(case.cache, positions, &mut |piece| bytes.extend_from_slice(piece));
    }
    bytes
}

fn restore(backend: &mut dyn Backend, cases: &[Case<'_>], positions: usize, bytes: &[u8]) {
    let mut rest = bytes;
    for case in cases {
        backend.restore(case.cache, positions, &mut |piece| {
            let (own, after) = rest.split_at(piece.len());
            piece.copy_from_slice(own);
            rest = after;
        });
    }
    assert!(rest.is_empty(), "a device takes as many bytes as another gave");
}

#[test]
fn attention_and_caches_that_change_devices() {
    let (long, short) = (references(CONTEXT_LEN), references(SHORT_CONTEXT_LEN));
    let all = devices();
    for device in &all {
        let few = device.buffer_bytes < usize::MAX;
        let (references, context_len) =
            if few { (&short, SHORT_CONTEXT_LEN) } else { (&long, CONTEXT_LEN) };
        let (mut backend, cases) = open(device, references);
        cases.iter().for_each(|case| store_all(device, &mut *backend, case));
        settle(&mut *backend, &cases);
        let bytes = saved(&mut *backend, &cases, context_len);
        assert_eq!(bytes.len(), backend.cache_bytes(), "{}", device.name);
        for case in &cases {
            check_attention(device, &mut *backend, case);
        }
        check_pieces(device, &mut *backend, &cases, &bytes);
        let fitting = references.iter().filter(|r| fits(device, r));
        if device.keeps_formats {
            check_against_cpu(device, &all[0], &bytes, fitting.collect(), context_len);
        }
    }
}

/// Reads something, so that all that was asked is done.
fn settle(backend: &mut dyn Backend, cases: &[Case<'_>]) {
    let (_, [query, ..]) = widest(&cases[0]);
    query.clear(backend);
    query.read(backend, "a reading");
}

/// Fewer positions are a part of each piece, and what is restored comes back.
fn check_pieces(device: &Device, backend: &mut dyn Backend, cases: &[Case<'_>], bytes: &[u8]) {
    let positions = 7;
    let first = saved(backend, cases, positions);
    let other: Vec<u8> = first.iter().rev().copied().collect();
    restore(backend, cases, positions, &other);
    assert!(saved(backend, cases, positions) == other, "{}: cached after restore", device.name);
    restore(backend, cases, positions, &first);
    let context_len = bytes.len() / (first.len() / positions);
    assert!(
        saved(backend, cases, context_len) == bytes,
        "{}: other positions changed",
        device.name
    );
}

/// The CPU's keys and values differ from the device's by the rounding to f16 alone, and taken on by the
/// device they give the same attention.
fn check_against_cpu(
    device: &Device,
    cpu: &Device,
    bytes: &[u8],
    references: Vec<&Reference>,
    context_len: usize,
) {
    let (mut source, mut target) = (cpu.open(), device.open());
    let of_cpu: Vec<_> = references.iter().map(|r| case(cpu, &mut *source, r)).collect();
    let of_device: Vec<_> = references.iter().map(|r| case(device, &mut *target, r)).collect();
    source.seal(ROWS_MAX).expect("memory");
    target.seal(ROWS_MAX).unwrap_or_else(|e| panic!("{}: {e}", device.name));
    of_cpu.iter().for_each(|case| store_all(cpu, &mut *source, case));
    settle(&mut *source, &of_cpu);
    let own = saved(&mut *source, &of_cpu, context_len);
    assert_eq!(own.len(), bytes.len(), "{}: cached bytes", device.name);
    let same = own.iter().zip(bytes).filter(|(a, b)| a == b).count();
    println!("{}: {same} of {} cached bytes are the CPU's", device.name, own.len());
    restore(&mut *target, &of_device, context_len, &own);
    assert!(
        saved(&mut *target, &of_device, context_len) == own,
        "{}: the CPU's cache",
        device.name
    );
    for case in &of_device {
        check_attention(device, &mut *target, case);
    }
}

/// Pieces of more bytes than a device reads at a time come whole all the same: whoever copies from one
/// device to another counts on it.
#[test]
fn cached_pieces_are_as_long_as_restored_ones() {
    for device in devices() {
        let context_len = if device.buffer_bytes < usize::MAX { 16 } else { 9000 };
        let (sequences, heads, query_heads, key_len, value_len) = (2, 2, 2, 64, 32);
        let format = Format::F32;
        let shape =
            CacheShape { sequences, context_len, heads, query_heads, key_len, value_len, format };
        let mut backend = device.open();
        let cache = backend.cache(shape).expect("a cache");
        backend.seal(1).unwrap_or_else(|e| panic!("{}: {e}", device.name));
        for positions in [context_len, 3, 0] {
            let (mut given, mut taken) = (Vec::new(), Vec::new());
            backend.restore(cache, positions, &mut |piece| {
                let number = taken.len() as u8;
                piece.iter_mut().enumerate().for_each(|(i, byte)| *byte = number ^ i as u8);
                taken.push(piece.to_vec());
            });
            backend.cached(cache, positions, &mut |piece| given.push(piece.to_vec()));
            assert!(given == taken, "{}: {positions} positions", device.name);
            assert_eq!(given.len(), sequences * heads * 2, "{}", device.name);
        }
    }
}
