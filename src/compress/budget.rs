//! A format for each matrix, so that a file keeps to a size and predicts as nearly as it can what it did
//! before.
//!
//! The damage of a rounded matrix is taken to be its rounding error times a sensitivity. Errors are
//! computed for every format, sensitivities measured: each is the divergence that rounding one group of
//! matrices brings, over their error. Damages add up, so the least for a number of bytes is found with one
//! price a byte for all matrices (a Lagrange multiplier). The best few recipes are measured.

use super::measure::{Estimate, Measure};
use super::parallel;
use super::quantize::{Choice, Conversion, Recipe, Rounding, is_matrix};
use super::sequences::{Progress, Sequences};
use crate::gguf::{Gguf, Tensor, TensorType};
use crate::memory::text;
use crate::{Error, Result};
use attar_kernels::{FORMATS, Format};
use std::path::{Path, PathBuf};

/// What a file may take, and how it is tried out.
#[derive(Clone, Copy)]
pub struct Budget<'a> {
    /// Bytes of the whole file.
    pub bytes: usize,
    /// Formats to choose among, beside what a matrix has; all where `None`.
    pub formats: Option<&'a [Format]>,
    /// What divergence is measured on, in the model's tokens.
    pub sequences: &'a Sequences,
    /// How to round.
    pub rounding: Rounding<'a>,
    /// A path beside which files to try out may be written; they do not stay.
    pub scratch: &'a Path,
}

/// The recipe that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// What becomes of each tensor.
    pub recipe: Recipe,
    /// Bytes of the whole file.
    pub bytes: usize,
    /// The divergence the sensitivities predict.
    pub predicted: f64,
    /// What was measured: the mean Kullback-Leibler divergence from the model as it is.
    pub kl: Estimate,
    /// Predicted and measured divergence of all recipes that were tried.
    pub tried: Vec<(f64, f64)>,
}

/// Groups of matrices whose sensitivity is measured, about.
const GROUPS: usize = 48;

/// Recipes measured.
const TRIALS: usize = 3;

/// Weights of a matrix that its rounding error is told from.
const SAMPLE: usize = 1 << 20;

/// Bits a weight of the format that sensitivities are measured with: coarse enough to be seen.
const PROBE_BITS: f64 = 4.5;

/// What a matrix may become.
struct Matrix {
    /// Its place among the file's tensors.
    tensor: usize,
    group: usize,
    options: Vec<Candidate>,
}

#[derive(Clone, Copy)]
struct Candidate {
    to: &'static TensorType,
    /// In the file, padding included.
    bytes: usize,
    /// Rounding error, and then the damage of it.
    damage: f64,
}

/// Size of the file with every matrix in the coarsest of `formats`, or of all, that fits.
///
/// # Errors
/// [`Error::Unsupported`] naming a matrix no kernel reads.
pub fn least_bytes(gguf: &Gguf, formats: Option<&[Format]>) -> Result<usize> {
    let all = matrices(gguf, formats)?;
    Ok(rest(gguf, &all) + bytes(&all, &vec![0; all.len()]))
}

/// Bytes of the file that are not matrices.
fn rest(gguf: &Gguf, all: &[Matrix]) -> usize {
    let now = |matrix: &Matrix| padded(gguf.tensors()[matrix.tensor].bytes.len());
    Recipe::identity(gguf).file_bytes(gguf) - all.iter().map(now).sum::<usize>()
}

impl Budget<'_> {
    /// How many tokens [`Budget::fit`] runs.
    ///
    /// # Errors
    /// As [`least_bytes`].
    pub fn work(&self, gguf: &Gguf) -> Result<usize> {
        let groups = groups(&matrices(gguf, self.formats)?).len();
        Ok(groups * self.probes().tokens() + TRIALS * self.sequences.tokens())
    }

    /// What sensitivities are measured on: they differ by more than a part of the sequences shows.
    fn probes(&self) -> Sequences {
        self.sequences.clone().split(self.sequences.tokens().div_ceil(4)).0
    }

    /// Finds the recipe. `progress` is told of tokens.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a size below [`least_bytes`]; [`Error::Unsupported`] naming a matrix no
    /// kernel reads; [`Error::Cancelled`] once `progress` says so; those of measuring and writing.
    pub fn fit(&self, gguf: &Gguf, progress: Progress<'_>) -> Result<Found> {
        let mut all = matrices(gguf, self.formats)?;
        let least = least_bytes(gguf, self.formats)?;
        if self.bytes < least {
            let wanted = self.bytes;
            return Err(Error::Invalid(text!(
                "{wanted} bytes are too few: the coarsest formats that fit take {least}"
            )));
        }
        let room = self.bytes - rest(gguf, &all);
        self.errors(gguf, &mut all, progress)?;
        self.sensitivities(gguf, &mut all, progress)?;
        let mut best: Option<Found> = None;
        let mut tried = Vec::new();
        for chosen in candidates(&all, room) {
            let recipe = recipe(gguf, &all, &chosen);
            let predicted = damage(&all, &chosen);
            let kl = self.measure(gguf, &recipe, self.sequences, progress)?;
            tried.push((predicted, kl.mean));
            if best.as_ref().is_none_or(|best| kl.mean < best.kl.mean) {
                let bytes = recipe.file_bytes(gguf);
                best = Some(Found { recipe, bytes, predicted, kl, tried: Vec::new() });
            }
        }
        match best {
            Some(found) => Ok(Found { tried, ..found }),
            None => Err(Error::Invalid("no matrix that could be rounded".into())),
        }
    }

    /// The rounding error of every format.
    fn errors(&self, gguf: &Gguf, all: &mut [Matrix], progress: Progress<'_>) -> Result<()> {
        let pairs: Vec<(usize, usize)> = all
            .iter()
            .enumerate()
            .flat_map(|(m, matrix)| (0..matrix.options.len()).map(move |o| (m, o)))
            .collect();
        let threads = self.rounding.threads;
        let errors = parallel::map(
            threads,
            pairs.len(),
            || Ok(()),
            |(), i| {
                let (m, o) = pairs[i];
                let tensor = &gguf.tensors()[all[m].tensor];
                let to = all[m].options[o].to;
                if !progress(0) {
                    return Err(Error::Cancelled);
                }
                match to.format().filter(|_| to != tensor.kind) {
                    Some(to) => Ok(Conversion::new(tensor, to, self.rounding)?.estimate(SAMPLE)),
                    None => Ok(0.0),
                }
            },
        )?;
        for ((m, o), error) in pairs.into_iter().zip(errors) {
            all[m].options[o].damage = error;
        }
        Ok(())
    }

    /// Turns errors into damages.
    fn sensitivities(&self, gguf: &Gguf, all: &mut [Matrix], progress: Progress<'_>) -> Result<()> {
        let probes = self.probes();
        for group in groups(all) {
            let mut recipe = Recipe::identity(gguf);
            let mut error = 0.0;
            for matrix in all.iter().filter(|matrix| matrix.group == group) {
                let weights = gguf.tensors()[matrix.tensor].len() as f64;
                let distance = |o: &&Candidate| (o.bytes as f64 * 8.0 / weights - PROBE_BITS).abs();
                // What costs nothing, as the format it has, tells nothing.
                let options = matrix.options.iter().filter(|option| option.damage > 0.0);
                let nearest = options.min_by(|a, b| distance(a).total_cmp(&distance(b)));
                if let Some(probe) = nearest {
                    recipe.choices[matrix.tensor].to = probe.to;
                    error += probe.damage;
                }
            }
            let kl = self.measure(gguf, &recipe, &probes, progress)?.mean.max(0.0);
            let sensitivity = if error > 0.0 { kl / error } else { 0.0 };
            for matrix in all.iter_mut().filter(|matrix| matrix.group == group) {
                matrix.options.iter_mut().for_each(|option| option.damage *= sensitivity);
            }
        }
        Ok(())
    }

    fn measure(
        &self,
        gguf: &Gguf,
        recipe: &Recipe,
        sequences: &Sequences,
        progress: Progress<'_>,
    ) -> Result<Estimate> {
        let trial = Trial::new(self.scratch);
        recipe.write(gguf, self.rounding, &trial.0, &mut |_| {})?;
        let model = Gguf::open(&trial.0)?;
        let measure = Measure::on_threads(self.rounding.threads);
        let measured = measure.run(&model, Some(gguf), sequences, progress)?;
        let divergence = measured.divergence.map(|divergence| divergence.kl);
        Ok(divergence.unwrap_or(Estimate { mean: 0.0, error: 0.0 }))
    }
}

/// A file that goes when it is no longer needed.
struct Trial(PathBuf);

impl Trial {
    fn new(near: &Path) -> Self {
        let name = near.file_name().and_then(|name| name.to_str()).unwrap_or("model");
        Self(near.with_file_name(format!(".{name}.{}.trial", std::process::id())))
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // Nothing more can be done about a file that cannot be removed.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(crate::gguf::write::ALIGNMENT)
}

/// The matrices of a file, each with what it may become, smallest first and itself last.
fn matrices(gguf: &Gguf, formats: Option<&[Format]>) -> Result<Vec<Matrix>> {
    let allowed = |format: Format| formats.is_none_or(|formats| formats.contains(&format));
    let mut all = Vec::new();
    for (place, tensor) in gguf.tensors().iter().enumerate().filter(|(_, t)| is_matrix(t)) {
        tensor.format()?;
        let kinds = FORMATS
            .iter()
            .filter(|info| allowed(info.format) && tensor.row_len().is_multiple_of(info.block_len));
        let options = kinds.map(|info| Candidate {
            to: TensorType::of(info.format),
            bytes: padded(info.row_bytes(tensor.len())),
            damage: 0.0,
        });
        let own = Candidate { to: tensor.kind, bytes: padded(tensor.bytes.len()), damage: 0.0 };
        let mut options: Vec<_> = options.filter(|o| o.bytes < own.bytes).collect();
        options.push(own);
        options.sort_by_key(|option| option.bytes);
        all.push(Matrix { tensor: place, group: 0, options });
    }
    // Groups are matrices of one part of the layers, from a few neighbouring layers.
    let parts: Vec<(String, usize)> = all.iter().map(|m| part(&gguf.tensors()[m.tensor])).collect();
    let mut names: Vec<&str> = parts.iter().map(|(name, _)| &name[..]).collect();
    names.sort_unstable();
    names.dedup();
    let layers = parts.iter().map(|(_, layer)| layer + 1).max().unwrap_or(1);
    let bands = layers.min((GROUPS / names.len().max(1)).max(1));
    for (matrix, (name, layer)) in all.iter_mut().zip(&parts) {
        let name = names.iter().position(|other| other == name).unwrap_or(0);
        matrix.group = name * bands + layer * bands / layers;
    }
    Ok(all)
}

/// What a matrix does, and in which layer; 0 for one outside the layers.
fn part(tensor: &Tensor) -> (String, usize) {
    let inside = tensor.name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    match inside.and_then(|(layer, name)| Some((name, layer.parse().ok()?))) {
        Some((name, layer)) => (format!("blk.{name}"), layer),
        None => (tensor.name.to_string(), 0),
    }
}

fn groups(all: &[Matrix]) -> Vec<usize> {
    let mut groups: Vec<usize> = all.iter().map(|matrix| matrix.group).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

fn bytes(all: &[Matrix], chosen: &[usize]) -> usize {
    all.iter().zip(chosen).map(|(matrix, option)| matrix.options[*option].bytes).sum()
}

fn damage(all: &[Matrix], chosen: &[usize]) -> f64 {
    all.iter().zip(chosen).map(|(matrix, option)| matrix.options[*option].damage).sum()
}

fn recipe(gguf: &Gguf, all: &[Matrix], chosen: &[usize]) -> Recipe {
    let mut recipe = Recipe::identity(gguf);
    for (matrix, option) in all.iter().zip(chosen) {
        recipe.choices[matrix.tensor] = Choice { to: matrix.options[*option].to, instead_of: None };
    }
    recipe
}

/// The recipes worth a trial: the least predicted damage; the same if sensitivities are half as different
/// as measured; and the best of equal bits for all.
fn candidates(all: &[Matrix], room: usize) -> Vec<Vec<usize>> {
    let even = |matrix: &Matrix, option: &Candidate| {
        // The damage of each matrix at its probe, evened out by a square root.
        let most = matrix.options.iter().fold(0f64, |most, option| most.max(option.damage));
        if most > 0.0 { option.damage / most.sqrt() } else { 0.0 }
    };
    let mut found = vec![
        cheapest(all, room, |_, option| option.damage),
        cheapest(all, room, even),
        cheapest(all, room, |matrix, option| option.damage / matrix.options[0].damage.max(1e-300)),
    ];
    found.iter_mut().for_each(|chosen| fill(all, room, chosen));
    found.sort_by(|a, b| damage(all, a).total_cmp(&damage(all, b)));
    found.dedup();
    found.truncate(TRIALS);
    found
}

/// For each matrix the option of least `cost` plus the price of its bytes, at the lowest price for which
/// all have room.
fn cheapest(all: &[Matrix], room: usize, cost: impl Fn(&Matrix, &Candidate) -> f64) -> Vec<usize> {
    let at = |price: f64| -> Vec<usize> {
        let choose = |matrix: &Matrix| {
            let total = |o: &usize| {
                let option = &matrix.options[*o];
                cost(matrix, option) + price * option.bytes as f64
            };
            let least = (0..matrix.options.len()).min_by(|a, b| total(a).total_cmp(&total(b)));
            least.unwrap_or(0)
        };
        all.iter().map(choose).collect()
    };
    // The smallest options are first: no price is too high for them.
    let (mut low, mut high, mut best) = (-80f64, 80f64, vec![0; all.len()]);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        let chosen = at(middle.exp());
        if bytes(all, &chosen) <= room {
            (high, best) = (middle, chosen);
        } else {
            low = middle;
        }
    }
    best
}

/// Spends the bytes that are left where they help most.
fn fill(all: &[Matrix], room: usize, chosen: &mut [usize]) {
    loop {
        let left = room - bytes(all, chosen);
        let mut best: Option<(f64, usize, usize)> = None;
        for (m, matrix) in all.iter().enumerate() {
            let now = matrix.options[chosen[m]];
            for (o, option) in matrix.options.iter().enumerate() {
                let (gain, cost) =
                    (now.damage - option.damage, option.bytes as f64 - now.bytes as f64);
                if gain > 0.0 && cost <= left as f64 {
                    let worth = if cost > 0.0 { gain / cost } else { f64::INFINITY };
                    if best.is_none_or(|best| worth > best.0) {
                        best = Some((worth, m, o));
                    }
                }
            }
        }
        let Some((_, m, o)) = best else { return };
        chosen[m] = o;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::TENSOR_TYPES;

    fn all(damages: &[[f64; 3]], sizes: [usize; 3]) -> Vec<Matrix> {
        let options = |damages: &[f64; 3]| {
            let pairs = damages.iter().zip(sizes);
            let one = |(damage, bytes): (&f64, usize)| Candidate {
                to: &TENSOR_TYPES[0],
                bytes,
                damage: *damage,
            };
            pairs.map(one).collect()
        };
        let matrix = |d: &[f64; 3]| Matrix { tensor: 0, group: 0, options: options(d) };
        damages.iter().map(matrix).collect()
    }

    /// Against every assignment.
    #[test]
    fn the_least_damage_for_the_room_is_found() {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f64 / (1u64 << 24) as f64
        };
        for round in 0..50 {
            let rows: Vec<[f64; 3]> = (0..6)
                .map(|_| {
                    let most = next() + 0.01;
                    [most, most * (0.1 + 0.5 * next()), 0.0]
                })
                .collect();
            let all = all(&rows, [100, 160, 300]);
            let room = 600 + 20 * (round % 40);
            let mut chosen = cheapest(&all, room, |_, option| option.damage);
            fill(&all, room, &mut chosen);
            assert!(bytes(&all, &chosen) <= room);
            let every = (0..729).map(|i| (0..6).map(|m| i / 3usize.pow(m) % 3).collect::<Vec<_>>());
            let fitting = every.filter(|chosen| bytes(&all, chosen) <= room);
            let least = fitting.map(|c| damage(&all, &c)).fold(f64::INFINITY, f64::min);
            let found = damage(&all, &chosen);
            // One price for all is exact on its hull and loses at most a matrix' step between.
            let step = rows.iter().map(|row| row[0] - row[1]).fold(0.0, f64::max);
            assert!(found <= least + step, "{found} against {least} in {room}");
        }
    }
}
