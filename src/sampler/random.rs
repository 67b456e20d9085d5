//! The generator xoshiro256++ (Blackman and Vigna, arXiv 1805.01407), seeded by SplitMix64 as its
//! authors advise.

pub(super) struct Random(pub(super) [u64; 4]);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        let mut state = seed;
        Self(core::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }))
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = self.0;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.0 = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// Uniform in `0..1`.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    /// The first outputs for the state 1, 2, 3, 4, worked out by the definition in the paper.
    #[test]
    fn sequence_is_that_of_the_paper() {
        let mut random = Random([1, 2, 3, 4]);
        assert_eq!(random.next(), 41943041);
        assert_eq!(random.next(), 58720359);
        assert_eq!(random.next(), 3588806011781223);
    }
}
