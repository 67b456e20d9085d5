//! Bit fields in planes: how every block format spreads narrow codes over bytes.
//!
//! Bytes fall into runs of `RUN`. The lowest `BITS` bits of a run's bytes are its first `RUN` codes,
//! the next bits the next `RUN` codes, and so on; then comes the next run. A format of 5 bits, say,
//! keeps 4 bits of each code in one such array and the fifth in another.

/// Ors the fields of `bytes`, moved up by `shift`, into `codes`.
pub(super) fn read<const BITS: usize, const RUN: usize>(
    bytes: &[u8],
    codes: &mut [u8],
    shift: usize,
) {
    let per_run = RUN * 8 / BITS;
    debug_assert!(codes.len() * BITS == bytes.len() * 8);
    for (run, codes) in bytes.chunks_exact(RUN).zip(codes.chunks_exact_mut(per_run)) {
        for (plane, codes) in codes.chunks_exact_mut(RUN).enumerate() {
            for (code, byte) in codes.iter_mut().zip(run) {
                *code |= (byte >> (plane * BITS) & mask(BITS)) << shift;
            }
        }
    }
}

/// The inverse of [`read`]: fills `bytes` with the `BITS` bits above bit `shift` of each code.
pub(super) fn write<const BITS: usize, const RUN: usize>(
    codes: &[u8],
    bytes: &mut [u8],
    shift: usize,
) {
    let per_run = RUN * 8 / BITS;
    debug_assert!(codes.len() * BITS == bytes.len() * 8);
    for (run, codes) in bytes.chunks_exact_mut(RUN).zip(codes.chunks_exact(per_run)) {
        run.fill(0);
        for (plane, codes) in codes.chunks_exact(RUN).enumerate() {
            for (byte, code) in run.iter_mut().zip(codes) {
                *byte |= (code >> shift & mask(BITS)) << (plane * BITS);
            }
        }
    }
}

const fn mask(bits: usize) -> u8 {
    (1 << bits) - 1
}
