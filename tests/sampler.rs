//! The sampler against plain definitions, and its promises: order, seed, no allocation.

use attar::{Error, Sampler, SamplerOptions};
use std::collections::BTreeSet;

/// All filters off.
fn plain() -> SamplerOptions {
    SamplerOptions {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        typical_p: 1.0,
        ..SamplerOptions::default()
    }
}

/// Logits without ties, the same in every run.
fn logits(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2862933555777941757).wrapping_add(3037000493);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32 * 8.0 - 4.0
        })
        .collect()
}

fn probabilities(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().cloned().fold(f32::MIN, f32::max);
    let exps: Vec<f64> = logits.iter().map(|l| f64::from(l - max).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.iter().map(|e| e / sum).collect()
}

/// Ids that ever come out in many draws.
fn support(options: &SamplerOptions, logits: &[f32]) -> BTreeSet<u32> {
    let mut sampler = Sampler::new(options, logits.len()).expect("sound options");
    (0..20_000).map(|_| sampler.sample(&mut logits.to_vec())).collect()
}

/// Ids in the order of `key`, up to the one that makes the probabilities reach `sum`.
fn reach(p: &[f64], sum: f64, key: impl Fn(usize) -> f64) -> BTreeSet<u32> {
    let mut ids: Vec<usize> = (0..p.len()).collect();
    ids.sort_by(|a, b| key(*a).total_cmp(&key(*b)));
    let mut reached = 0.0;
    let mut kept = BTreeSet::new();
    for id in ids {
        kept.insert(id as u32);
        reached += p[id];
        if reached >= sum {
            break;
        }
    }
    kept
}

#[test]
fn each_filter_keeps_what_its_definition_says() {
    for seed in 0..8 {
        let logits = logits(24, seed);
        let p = probabilities(&logits);
        let top = p.iter().cloned().fold(0.0, f64::max);
        let options = SamplerOptions { top_k: 5, ..plain() };
        let sorted = reach(&p, 2.0, |i| -p[i]).len();
        assert_eq!(sorted, 24);
        let mut order: Vec<u32> = (0..24).collect();
        order.sort_by(|a, b| p[*b as usize].total_cmp(&p[*a as usize]));
        assert_eq!(support(&options, &logits), order[..5].iter().copied().collect());
        let options = SamplerOptions { top_p: 0.7, ..plain() };
        assert_eq!(support(&options, &logits), reach(&p, 0.7, |i| -p[i]));
        let options = SamplerOptions { min_p: 0.2, ..plain() };
        let expected = (0..24).filter(|i| p[*i as usize] >= 0.2 * top).collect();
        assert_eq!(support(&options, &logits), expected);
        let entropy: f64 = p.iter().map(|p| -p * p.ln()).sum();
        let options = SamplerOptions { typical_p: 0.6, ..plain() };
        let expected = reach(&p, 0.6, |i| (-p[i].ln() - entropy).abs());
        assert_eq!(support(&options, &logits), expected);
    }
}

#[test]
fn draws_follow_the_probabilities() {
    let logits = logits(10, 3);
    let half: Vec<f32> = logits.iter().map(|l| l / 0.5).collect();
    let p = probabilities(&half);
    let options = SamplerOptions { temperature: 0.5, seed: 11, ..plain() };
    let mut sampler = Sampler::new(&options, 10).expect("sound options");
    let draws = 100_000;
    let mut counts = [0f64; 10];
    for _ in 0..draws {
        counts[sampler.sample(&mut logits.clone()) as usize] += 1.0;
    }
    // Chi-squared with at most 9 degrees of freedom exceeds 33.7 once in 10,000 seeds; the seed is fixed.
    let expected = p.iter().map(|p| p * f64::from(draws));
    let chi: f64 = counts.iter().zip(expected).map(|(c, e)| (c - e) * (c - e) / e).sum();
    assert!(chi < 33.7, "chi-squared {chi}");
}

#[test]
fn the_seed_decides() {
    let run = |seed| {
        let mut sampler = Sampler::new(&SamplerOptions { seed, ..plain() }, 50).expect("options");
        (0..100).map(|i| sampler.sample(&mut logits(50, i))).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    let mut sampler = Sampler::new(&SamplerOptions { seed: 1, ..plain() }, 50).expect("options");
    let first = sampler.sample(&mut logits(50, 0));
    for i in 0..9 {
        sampler.sample(&mut logits(50, i));
    }
    sampler.reset();
    assert_eq!(sampler.sample(&mut logits(50, 0)), first);
}

#[test]
fn greedy_takes_the_likeliest_and_of_equals_the_first() {
    let options = SamplerOptions { temperature: 0.0, ..plain() };
    let mut sampler = Sampler::new(&options, 4).expect("options");
    assert_eq!(sampler.sample(&mut [0.0, 3.0, 3.0, f32::NAN]), 1);
    assert_eq!(sampler.sample(&mut [f32::NAN; 4]), 0);
    let mut sampler = Sampler::new(&plain(), 4).expect("options");
    assert_eq!(sampler.sample(&mut [f32::NEG_INFINITY; 4]), 0);
    assert_eq!(sampler.sample(&mut [0.0, f32::INFINITY, 0.0, 1.0]), 1);
}

#[test]
fn penalties_are_those_of_a_hand_made_example() {
    let options = SamplerOptions {
        temperature: 0.0,
        repeat_penalty: 2.0,
        frequency_penalty: 0.5,
        presence_penalty: 0.25,
        penalty_last_n: 4,
        ..plain()
    };
    let mut sampler = Sampler::new(&options, 5).expect("options");
    [4, 0, 1, 1, 2].iter().for_each(|id| sampler.accept(*id)); // the 4 is too long ago
    let mut logits = [4.0, 4.0, -1.0, 1.0, 1.0];
    sampler.sample(&mut logits);
    assert_eq!(logits, [2.0 - 0.75, 2.0 - 1.25, -2.0 - 0.75, 1.0, 1.0]);
}

#[test]
fn dry_lowers_what_would_go_on_with_a_repetition() {
    let options = SamplerOptions {
        temperature: 0.0,
        dry_multiplier: 1.0,
        dry_base: 2.0,
        dry_allowed_len: 2,
        ..plain()
    };
    let mut sampler = Sampler::new(&options, 8).expect("options");
    // The end 1 2 3 was followed by 4; the end 2 3 once by 5.
    [1, 2, 3, 4, 2, 3, 5, 1, 2, 3].iter().for_each(|id| sampler.accept(*id));
    let mut logits = [0.0; 8];
    sampler.sample(&mut logits);
    assert_eq!(logits, [0.0, 0.0, 0.0, 0.0, -2.0, -1.0, 0.0, 0.0]);
    sampler.set_dry_breakers(&[4]);
    let mut logits = [0.0; 8];
    sampler.sample(&mut logits);
    assert_eq!(logits, [0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0]);
}

#[test]
fn nonsense_is_refused_by_name() {
    let refused = |options: SamplerOptions, name: &str| match Sampler::new(&options, 4) {
        Err(error @ Error::Option { .. }) => {
            assert!(error.to_string().starts_with(name), "{error}");
        }
        _ => panic!("{name} was accepted"),
    };
    refused(SamplerOptions { temperature: f32::NAN, ..plain() }, "temperature");
    refused(SamplerOptions { top_p: 1.5, ..plain() }, "top_p");
    refused(SamplerOptions { repeat_penalty: 0.0, ..plain() }, "repeat_penalty");
    refused(SamplerOptions { penalty_last_n: usize::MAX, ..plain() }, "penalty_last_n");
}

#[test]
fn the_largest_logits_are_all_it_looks_at() {
    let likeliest = SamplerOptions { temperature: 0.0, ..plain() };
    let few = SamplerOptions { top_k: 20, top_p: 0.9, min_p: 0.02, typical_p: 0.95, ..plain() };
    for options in [likeliest, few, SamplerOptions::default()] {
        let logits = logits(500, 11);
        let mut sampler = Sampler::new(&options, logits.len()).expect("sound options");
        let mut other = Sampler::new(&options, logits.len()).expect("sound options");
        let count = sampler.candidates().expect("a limit");
        let mut largest: Vec<(f32, u32)> = logits.iter().copied().zip(0..).collect();
        largest.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for _ in 0..200 {
            let want = sampler.sample(&mut logits.clone());
            assert_eq!(other.sample_among(&largest[..count]), want, "{options:?}");
        }
    }
    for options in [plain(), SamplerOptions { repeat_penalty: 1.1, ..few }] {
        let sampler = Sampler::new(&options, 500).expect("sound options");
        assert_eq!(sampler.candidates(), None, "{options:?}");
    }
}
