//! What training makes small: cross-entropy against the next token, and divergence from a teacher
//! (Hinton et al., arXiv 1503.02531).

use attar_kernels::{Isa, math};

/// How far a student's distribution `q` is from its teacher's `p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `KL(p || q)`: the student covers all that the teacher may say.
    Forward,
    /// `KL(q || p)`: the student keeps to what the teacher is likely to say (MiniLLM, arXiv 2306.08543).
    Reverse,
}

/// A loss for each token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// Against the teacher.
    pub direction: Direction,
    /// Part of the divergence; the rest is cross-entropy against the text. 0 needs no teacher.
    pub teacher_share: f32,
    /// What both models' logits are divided by for the divergence, which is multiplied by its square so that
    /// gradients keep their size. Above 0.
    pub temperature: f32,
    /// How many of the teacher's tokens count one by one; all others count as one. 0 means all. For the
    /// forward divergence only.
    pub top: usize,
}

impl Loss {
    /// Cross-entropy against the text alone.
    pub const TEXT: Self =
        Self { direction: Direction::Forward, teacher_share: 0.0, temperature: 1.0, top: 0 };
    /// Divergence from the teacher alone.
    pub const TEACHER: Self = Self { teacher_share: 1.0, ..Self::TEXT };

    /// The loss of one row of a student's logits, which become its gradient times `factor`. The teacher's
    /// logits, where there is a teacher, are overwritten.
    pub(crate) fn back(
        &self,
        isa: &Isa,
        logits: &mut [f32],
        teacher: Option<&mut [f32]>,
        target: usize,
        factor: f32,
    ) -> f64 {
        let (mut loss, mut share, mut taught) = (0.0, 0.0, Vec::new());
        if let Some(teacher) = teacher.filter(|_| self.teacher_share > 0.0) {
            share = self.teacher_share;
            taught.extend_from_slice(logits);
            loss = f64::from(share * self.temperature) * self.diverge(isa, &mut taught, teacher);
        }
        let text = 1.0 - share;
        if text > 0.0 {
            let value = logits[target];
            loss += f64::from(text) * f64::from(softmax(isa, logits) - value);
            logits[target] -= 1.0;
        }
        logits.iter_mut().for_each(|d| *d *= text * factor);
        let factor = share * factor;
        logits.iter_mut().zip(&taught).for_each(|(d, taught)| *d += factor * taught);
        loss
    }

    /// The divergence times the temperature; the student's logits become its gradient times the
    /// temperature.
    fn diverge(&self, isa: &Isa, student: &mut [f32], teacher: &mut [f32]) -> f64 {
        let cool = 1.0 / self.temperature;
        student.iter_mut().chain(&mut *teacher).for_each(|z| *z *= cool);
        // The logarithm of p / q, before the logits are gone.
        let mut ratio: Vec<f32> = teacher.iter().zip(&*student).map(|(t, z)| t - z).collect();
        let shift = softmax(isa, teacher) - softmax(isa, student);
        ratio.iter_mut().for_each(|r| *r -= shift);
        let (q, p) = (student, &*teacher);
        let loss = match self.direction {
            Direction::Forward if (1..p.len()).contains(&self.top) => {
                forward_top(q, p, &ratio, self.top)
            }
            Direction::Forward => {
                let loss = p.iter().zip(&ratio).map(|(p, r)| f64::from(p * r)).sum();
                q.iter_mut().zip(p).for_each(|(q, p)| *q -= p);
                loss
            }
            Direction::Reverse => {
                let loss: f64 = q.iter().zip(&ratio).map(|(q, r)| f64::from(-q * r)).sum();
                q.iter_mut().zip(&ratio).for_each(|(q, r)| *q *= -r - loss as f32);
                loss
            }
        };
        q.iter_mut().for_each(|d| *d *= self.temperature);
        loss * f64::from(self.temperature)
    }
}

/// The forward divergence where all but the `top` largest of `p` are one event. `q` becomes the gradient.
fn forward_top(q: &mut [f32], p: &[f32], ratio: &[f32], top: usize) -> f64 {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.select_nth_unstable_by(top - 1, |a, b| p[*b].total_cmp(&p[*a]).then(a.cmp(b)));
    let (kept, rest) = order.split_at(top);
    let sum = |of: &[f32]| -> f32 { rest.iter().map(|i| of[*i]).sum() };
    let (p_rest, q_rest) = (sum(p), sum(q));
    let mut loss: f64 = kept.iter().map(|i| f64::from(p[*i] * ratio[*i])).sum();
    let mut factor = 1.0;
    if p_rest >= f32::MIN_POSITIVE && q_rest >= f32::MIN_POSITIVE {
        loss += f64::from(p_rest * math::ln(p_rest / q_rest));
        factor = 1.0 - p_rest / q_rest;
    }
    kept.iter().for_each(|i| q[*i] -= p[*i]);
    rest.iter().for_each(|i| q[*i] *= factor);
    loss
}

/// Makes logits probabilities; returns what to take off a logit for the logarithm of its own.
fn softmax(isa: &Isa, logits: &mut [f32]) -> f32 {
    let largest = logits.iter().copied().fold(f32::MIN, f32::max);
    isa.softmax(logits);
    // The largest probability is one over the sum of all exponentials.
    let probability = logits.iter().copied().fold(0.0, f32::max);
    largest - math::ln(probability.max(f32::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 37;
    const TARGET: usize = 5;

    fn values(seed: u32) -> Vec<f32> {
        let hash = |i: u32| i.wrapping_mul(31).wrapping_add(seed).wrapping_mul(2_654_435_761) >> 16;
        (0..LEN as u32).map(|i| hash(i) as f32 / 8192.0 - 4.0).collect()
    }

    fn probabilities(z: &[f64]) -> Vec<f64> {
        let sum: f64 = z.iter().map(|z| z.exp()).sum();
        z.iter().map(|z| z.exp() / sum).collect()
    }

    /// The definition in double precision.
    fn reference(loss: &Loss, z: &[f64], t: &[f64]) -> f64 {
        let tau = f64::from(loss.temperature);
        let [q, p] = [z, t].map(|z| probabilities(&z.iter().map(|z| z / tau).collect::<Vec<_>>()));
        let mut events: Vec<(f64, f64)> = p.iter().copied().zip(q).collect();
        if loss.top > 0 {
            events.sort_by(|a, b| b.0.total_cmp(&a.0));
            let rest = events.split_off(loss.top);
            events.push(rest.iter().fold((0.0, 0.0), |sum, e| (sum.0 + e.0, sum.1 + e.1)));
        }
        let kl = |from: fn(&(f64, f64)) -> (f64, f64)| -> f64 {
            events.iter().map(from).map(|(a, b)| a * (a / b).ln()).sum()
        };
        let divergence = match loss.direction {
            Direction::Forward => kl(|e| *e),
            Direction::Reverse => kl(|e| (e.1, e.0)),
        };
        let share = f64::from(loss.teacher_share);
        share * tau * tau * divergence - (1.0 - share) * probabilities(z)[TARGET].ln()
    }

    /// Value and gradient of every kind against the definition and its central differences.
    #[test]
    fn losses_and_gradients_are_those_of_the_definition() {
        let forward = Loss { temperature: 2.0, teacher_share: 0.7, ..Loss::TEACHER };
        let reverse = Loss { direction: Direction::Reverse, ..forward };
        let top = Loss { top: 4, ..forward };
        for loss in [Loss::TEXT, Loss::TEACHER, forward, reverse, top] {
            let (z, t) = (values(1), values(2));
            let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
            let (mut own, mut teacher) = (z.clone(), t.clone());
            let isa = attar_kernels::best();
            let found = loss.back(isa, &mut own, Some(&mut teacher), TARGET, 0.5);
            let expected = reference(&loss, &wide(&z), &wide(&t));
            assert!((found - expected).abs() < 1e-5, "{loss:?}: {found}, expected {expected}");
            for (i, own) in own.iter().enumerate() {
                let at = |step: f64| {
                    let mut z = wide(&z);
                    z[i] += step;
                    reference(&loss, &z, &wide(&t))
                };
                let expected = 0.5 * (at(1e-5) - at(-1e-5)) / 2e-5;
                let error = (f64::from(*own) - expected).abs();
                assert!(error < 2e-6, "{loss:?} [{i}]: {own}, expected {expected}");
            }
        }
    }

    #[test]
    fn a_student_that_is_its_teacher_learns_nothing() {
        let (mut own, mut teacher) = (values(3), values(3));
        let loss = Loss::TEACHER.back(attar_kernels::best(), &mut own, Some(&mut teacher), 0, 1.0);
        assert!(loss.abs() < 1e-6 && own.iter().all(|d| d.abs() < 1e-6));
    }
}
