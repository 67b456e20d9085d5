//! What each way to make a model smaller costs by itself.

use super::{Fit, Observer, Scratch};
use crate::compress::measure::Measure;
use crate::compress::observe::observe;
use crate::compress::prune::{
    Pruned, Ranking, Request, Shape, Share, VocabSize, choose, drop_by_influence, keep_tokens,
    write_pruned,
};
use crate::compress::quantize::{Recipe, Rounding};
use crate::compress::sequences::Sequences;
use crate::compress::vocabulary::TokenMap;
use crate::gguf::Gguf;
use crate::{Result, Tokenizer};
use attar_kernels::Format;
use std::path::Path;

/// Tokens that curves are measured on.
pub(super) const PROBE_TOKENS: usize = 4_000;
/// Tokens that are watched to rank what may be cut.
const WATCHED_TOKENS: usize = 16_000;
/// Formats that tell what rounding to so many bits costs, where all may be chosen.
const FORMATS: [Format; 4] = [Format::Q8_0, Format::Q5_0, Format::Q4_0, Format::Q3_K];
/// Parts of the neurons that may remain.
const HIDDEN: [f64; 4] = [0.875, 0.75, 0.625, 0.5];
/// Most layers, and groups of heads, that are cut at once: one in so many.
const CUT_MAX: usize = 3;

/// A way to cut, and the divergence it brings before any repair.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) request: Request,
    pub(super) kl: f64,
}

/// What was found out about a model.
pub(super) struct Survey {
    pub(super) shape: Shape,
    pub(super) ranking: Ranking,
    pub(super) threads: usize,
    /// Tokens to learn from for each weight.
    lessons: f64,
    /// Tokens that remain; all if few would go.
    tokens: Option<Vec<u32>>,
    /// Of each axis, from nothing cut to most.
    pub(super) layers: Vec<Step>,
    pub(super) hidden: Vec<Step>,
    pub(super) groups: Vec<Step>,
    /// Bits a weight of the matrices, and divergence; from fine to coarse.
    pub(super) rounding: Vec<(f64, f64)>,
    /// Size of the parts of the file: keys and small tensors, and weights of matrices, for a request.
    sizes: Vec<(Request, usize, usize)>,
}

impl Survey {
    pub(super) fn of(
        fit: &Fit<'_>,
        scratch: &Scratch,
        observer: &(dyn Observer + Sync),
    ) -> Result<Self> {
        let gguf = fit.model;
        let threads = match fit.options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let shape = Shape::of(gguf)?;
        let watched = fit.learn.clone().split(WATCHED_TOKENS).0;
        observer.stage("watching", watched.tokens());
        let seen = observe(gguf, &watched, threads, &|tokens| observer.tokens(tokens))?;
        let ranking = Ranking::new(gguf, &shape, &seen)?;
        let mut survey = Self {
            lessons: fit.options.tokens as f64 / weights(gguf) as f64,
            tokens: kept_tokens(gguf, fit.learn, fit.all_bytes)?,
            shape,
            ranking,
            threads,
            layers: Vec::new(),
            hidden: Vec::new(),
            groups: Vec::new(),
            rounding: Vec::new(),
            sizes: Vec::new(),
        };
        survey.measure(fit, scratch, observer)?;
        Ok(survey)
    }

    fn measure(
        &mut self,
        fit: &Fit<'_>,
        scratch: &Scratch,
        observer: &(dyn Observer + Sync),
    ) -> Result<()> {
        let (gguf, probe) = (fit.model, fit.held_out.clone().split(PROBE_TOKENS).0);
        let (layers, hidden, groups) = self.requests();
        let formats = fit.formats.unwrap_or(&FORMATS);
        let count = layers.len() + hidden.len() + groups.len() + formats.len();
        observer.stage("measuring what cuts cost", count * probe.tokens());
        let path = scratch.path("probe");
        let kl = |path: &Path| -> Result<f64> {
            let model = Gguf::open(path)?;
            let own = TokenMap::new(&model, gguf)?.translate(&probe);
            let measure = Measure::on_threads(self.threads);
            let measured = measure.run(&model, Some(gguf), &own, &|t| observer.tokens(t))?;
            Ok(measured.divergence.map_or(f64::INFINITY, |divergence| divergence.kl.mean))
        };
        let steps = |requests: Vec<Request>| -> Result<Vec<Step>> {
            let mut steps = vec![Step { request: Request::default(), kl: 0.0 }];
            for request in requests {
                let cut = choose(&self.shape, &self.ranking, &request)?;
                write_pruned(gguf, &self.shape, &cut, &path, &mut |_| {})?;
                steps.push(Step { request, kl: kl(&path)? });
            }
            Ok(steps)
        };
        let (layers, hidden, groups) = (steps(layers)?, steps(hidden)?, steps(groups)?);
        let mut rounding = vec![(32.0, 0.0)];
        // Rows that blocks do not divide would stay wide; candidates have them cut to what blocks divide.
        let uncut = gguf.tensors().iter().filter(|tensor| tensor.dims.len() > 1);
        let even = uncut.map(|tensor| tensor.row_len()).all(|len| len.is_multiple_of(32));
        let cut = hidden.get(usize::from(!even)).map_or(Request::default(), |s| s.request.clone());
        let cut = choose(&self.shape, &self.ranking, &cut)?;
        let (exact, rounded) = (scratch.path("exact"), scratch.path("rounded"));
        write_pruned(gguf, &self.shape, &cut, &exact, &mut |_| {})?;
        let exact = Gguf::open(&exact)?;
        for format in formats {
            let recipe = Recipe::uniform(&exact, *format)?;
            let plain = Rounding { importance: None, threads: self.threads };
            recipe.write(&exact, plain, &rounded, &mut |_| {})?;
            let model = Gguf::open(&rounded)?;
            let measure = Measure::on_threads(self.threads);
            let measured = measure.run(&model, Some(&exact), &probe, &|t| observer.tokens(t))?;
            let kl = measured.divergence.map_or(f64::INFINITY, |divergence| divergence.kl.mean);
            let matrices = model.tensors().iter().filter(|tensor| tensor.dims.len() > 1);
            let (bytes, weights) = matrices
                .fold((0, 0), |sum, tensor| (sum.0 + tensor.bytes.len(), sum.1 + tensor.len()));
            rounding.push((8.0 * bytes as f64 / weights as f64, kl));
        }
        rounding.sort_by(|a, b| b.0.total_cmp(&a.0));
        (self.layers, self.hidden, self.groups, self.rounding) = (layers, hidden, groups, rounding);
        self.size(gguf)
    }

    /// Ways to cut along each axis alone.
    fn requests(&self) -> (Vec<Request>, Vec<Request>, Vec<Request>) {
        let with = |change: &dyn Fn(&mut Request)| {
            let mut request = Request::default();
            change(&mut request);
            request
        };
        let layers = (1..=self.shape.layers.len() / CUT_MAX)
            .map(|n| drop_by_influence(&self.ranking, n))
            .map(|dropped| with(&|request| request.dropped.clone_from(&dropped)));
        let hidden = HIDDEN.iter().filter(|_| self.shape.layers.iter().any(|l| l.hidden > 32));
        let hidden = hidden.map(|part| with(&|request| request.hidden = Some(Share::Part(*part))));
        let kv_heads = self.shape.layers.iter().map(|layer| layer.kv_heads).min().unwrap_or(0);
        let groups = (1..=kv_heads / CUT_MAX).map(|n| kv_heads - n);
        let groups =
            groups.map(|count| with(&|request| request.groups = Some(Share::Count(count))));
        (layers.collect(), hidden.collect(), groups.collect())
    }

    /// Sizes of all ways together.
    fn size(&mut self, gguf: &Gguf) -> Result<()> {
        let (shape, tensors) = (&self.shape, gguf.tensors());
        let header = gguf.file_bytes() - tensors.iter().map(|t| t.bytes.len()).sum::<usize>();
        for (layers, hidden, groups) in self.all() {
            let request = self.request([layers, hidden, groups]);
            let cut = choose(shape, &self.ranking, &request)?;
            let pruned = Pruned::plan(gguf, shape, &cut)?;
            let (small, weights) = parts(&pruned);
            self.sizes.push((request, header + small, weights));
        }
        Ok(())
    }

    /// Every choice on every axis.
    pub(super) fn all(&self) -> Vec<(usize, usize, usize)> {
        let mut all = Vec::new();
        for layers in 0..self.layers.len() {
            for hidden in 0..self.hidden.len() {
                all.extend((0..self.groups.len()).map(|groups| (layers, hidden, groups)));
            }
        }
        all
    }

    fn request(&self, [layers, hidden, groups]: [usize; 3]) -> Request {
        Request {
            tokens: self.tokens.clone(),
            dropped: self.layers[layers].request.dropped.clone(),
            hidden: self.hidden[hidden].request.hidden,
            groups: self.groups[groups].request.groups,
            ..Request::default()
        }
    }

    /// Candidates that keep to a size, the most promising first.
    pub(super) fn candidates(&self, bytes: usize) -> Result<Vec<Candidate>> {
        let mut candidates = Vec::new();
        for ((layers, hidden, groups), (request, small, weights)) in
            self.all().into_iter().zip(&self.sizes)
        {
            let bits = 8.0 * bytes.saturating_sub(*small) as f64 / *weights as f64;
            let Some(rounding) = self.rounding_kl(bits) else { continue };
            let cut = self.layers[layers].kl + self.hidden[hidden].kl + self.groups[groups].kl;
            let predicted = cut_left(self.lessons) * cut + ROUNDING_LEFT * rounding;
            candidates.push(Candidate { request: request.clone(), bits, predicted });
        }
        candidates.sort_by(|a, b| a.predicted.total_cmp(&b.predicted));
        match candidates.is_empty() {
            true => Err(self.too_small(bytes)),
            false => Ok(candidates),
        }
    }

    /// What rounding to so many bits costs, between the formats measured; none below the coarsest.
    fn rounding_kl(&self, bits: f64) -> Option<f64> {
        let (first, last) = (self.rounding.first()?, self.rounding.last()?);
        if bits >= first.0 {
            return Some(first.1);
        }
        let after = self.rounding.iter().position(|(b, _)| *b <= bits)?;
        let ((b0, kl0), (b1, kl1)) = (self.rounding[after - 1], self.rounding[after]);
        debug_assert!(last.0 <= bits);
        // Errors fall by a factor a bit, not by an amount.
        let (low, high) = (kl0.max(1e-6).ln(), kl1.max(1e-6).ln());
        Some((low + (high - low) * (b0 - bits) / (b0 - b1)).exp())
    }

    /// Bytes of the smallest candidate.
    pub(super) fn least_bytes(&self) -> usize {
        let bits = self.rounding.last().map_or(0.0, |(bits, _)| *bits);
        let size = |(_, small, weights): &(Request, usize, usize)| {
            small + (*weights as f64 * bits / 8.0) as usize
        };
        self.sizes.iter().map(size).min().unwrap_or(0)
    }
}

/// Bytes of small tensors, and weights of matrices.
fn parts(pruned: &Pruned) -> (usize, usize) {
    let (mut small, mut weights) = (0, 0);
    for tensor in &pruned.tensors {
        let len: usize = tensor.dims.iter().product();
        match tensor.dims.len() {
            1 => small += (len * 4).next_multiple_of(32),
            _ => weights += len,
        }
    }
    (small, weights)
}

/// The tokens that the data uses, if that leaves out enough to be worth it.
fn kept_tokens(gguf: &Gguf, data: &Sequences, all_bytes: bool) -> Result<Option<Vec<u32>>> {
    let Ok(tokenizer) = Tokenizer::load(gguf) else { return Ok(None) };
    if tokenizer.is_empty() {
        return Ok(None);
    }
    let kept = keep_tokens(gguf, data, VocabSize::Used, all_bytes)?;
    Ok(Some(kept).filter(|kept| kept.len() * 20 < tokenizer.len() * 19))
}

/// A way to keep to a size.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What remains.
    pub request: Request,
    /// Bits a weight of its matrices may have.
    pub bits: f64,
    /// The divergence that is predicted once it has learned, in nats a token.
    pub predicted: f64,
}

/// What learning leaves of the damage of cuts, for so many tokens a weight. A model of 260 thousand weights without
/// a quarter of its neurons kept 0.32, 0.22, 0.17 and 0.11 of it after 0.46, 1.15, 2.3 and 5: a power of them.
fn cut_left(lessons: f64) -> f64 {
    (0.11 * (5.0 / lessons).powf(0.45)).clamp(0.05, 1.0)
}

/// And of the damage of rounding, where steps see it: 0.030 of 0.080 for Q4_0 of the same model.
const ROUNDING_LEFT: f64 = 0.37;

fn weights(gguf: &Gguf) -> usize {
    gguf.tensors().iter().map(|tensor| tensor.len()).sum()
}
