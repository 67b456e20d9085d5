//! A seeded generator, so that a failing case comes back on the next run and on every machine.
#![allow(dead_code, reason = "each test file uses a part")]

/// SplitMix64 (G. Steele, D. Lea, C. Flood, OOPSLA 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// In 0..1.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller, 1958).
    pub(crate) fn gauss(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        (radius * (core::f64::consts::TAU * self.uniform()).cos()) as f32
    }

    pub(crate) fn gauss_vec(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.gauss()).collect()
    }

    /// Student's t with 3 degrees of freedom, whose tails are those of trained weights with outliers.
    pub(crate) fn heavy_vec(&mut self, len: usize) -> Vec<f32> {
        let square = |random: &mut Self| random.gauss().powi(2);
        (0..len)
            .map(|_| {
                let chi = square(self) + square(self) + square(self);
                self.gauss() / (chi / 3.0).sqrt()
            })
            .collect()
    }

    pub(crate) fn byte_vec(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.bits() as u8).collect()
    }
}
