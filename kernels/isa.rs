//! One table of function pointers per instruction set, and the choice between them.
#![allow(
    unsafe_code,
    reason = "calls through the table need the CPU features the table was built for"
)]

use crate::activation::{ACTIVATION_BYTES, SUPERBLOCK, activation_bytes};
use crate::{Format, scalar};

/// A matrix by one column: see [`Isa::matvec`]. Unsafe only because the callee may use CPU features.
pub(crate) type MatVec = unsafe fn(w: &[u8], x: &[u8], out: &mut [f32]);
/// A matrix by several columns: see [`Isa::panel`].
pub(crate) type Panel = unsafe fn(panel: PanelArgs<'_>);
/// Adds weighted rows: see [`Isa::weighted_sum`].
pub(crate) type WeightedSum = unsafe fn(out: &mut [f32], rows: &[u8], weights: &[f32], cols: usize);
/// Rearranges one column of activations: see [`Isa::pack`].
pub(crate) type Pack = unsafe fn(format: Format, x: &[u8], out: &mut [u8]);
pub(crate) type Quantize = unsafe fn(x: &[f32], out: &mut [u8]);
pub(crate) type Norm = unsafe fn(x: &mut [f32], weight: Option<&[f32]>, eps: f32);
pub(crate) type Map = unsafe fn(x: &mut [f32]);
pub(crate) type Gate = unsafe fn(gate: &mut [f32], up: &[f32]);

/// Operands of [`Isa::panel`].
pub struct PanelArgs<'a> {
    /// Format of the weights.
    pub format: Format,
    /// `rows` whole rows of weights.
    pub w: &'a [u8],
    /// How many rows `w` holds.
    pub rows: usize,
    /// Weights per row.
    pub len: usize,
    /// `cols` packed columns, each [`packed_bytes`](crate::Isa::packed_bytes) long.
    pub x: &'a [u8],
    /// How many columns `x` holds.
    pub cols: usize,
    /// `[cols, rows]`.
    pub out: &'a mut [f32],
    /// At least [`panel_scratch_bytes`](crate::Isa::panel_scratch_bytes) bytes, any content.
    pub scratch: &'a mut [u8],
}

/// The kernels for one instruction set.
///
/// Invariant: a value of this type is reachable from outside the crate only through
/// [`available`], [`by_name`] and [`best`], which check that this CPU has the features it needs.
#[derive(Clone, Copy)]
pub struct Isa {
    pub(crate) name: &'static str,
    pub(crate) supported: fn() -> bool,
    pub(crate) matvec: [MatVec; Format::COUNT],
    pub(crate) panel: [Panel; Format::COUNT],
    pub(crate) pack: Pack,
    /// For the formats a key-value cache may have; the others are never asked for.
    pub(crate) weighted_sum: [WeightedSum; Format::COUNT],
    pub(crate) quantize: Quantize,
    pub(crate) rms_norm: Norm,
    pub(crate) layer_norm: Norm,
    pub(crate) softmax: Map,
    pub(crate) gelu: Map,
    pub(crate) swiglu: Gate,
}

/// Fastest first. `scalar` is last and always supported.
static ALL: &[&Isa] = &[
    #[cfg(target_arch = "x86_64")]
    &crate::x86_64::AVX512_VNNI,
    #[cfg(target_arch = "x86_64")]
    &crate::x86_64::AVX2,
    #[cfg(arm_dsp)]
    &crate::arm::DSP,
    &scalar::ISA,
];

/// Every instruction set this CPU can run, fastest first; tests and benches loop over it.
pub fn available() -> impl Iterator<Item = &'static Isa> {
    ALL.iter().copied().filter(|isa| (isa.supported)())
}

/// The fastest instruction set this CPU can run.
pub fn best() -> &'static Isa {
    available().next().unwrap_or(&scalar::ISA)
}

/// The instruction set called `name`, if this CPU can run it.
pub fn by_name(name: &str) -> Option<&'static Isa> {
    available().find(|isa| isa.name == name)
}

/// Asks for the cache line at an address to be brought near; any address will do. Does nothing where no
/// such hint is known.
pub fn fetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    crate::x86_64::fetch(address);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Unpacked weights of one panel should stay in a core's second-level cache.
const PANEL_BYTES: usize = 256 * 1024;
/// One superblock of one unpacked row: codes, then 16 scales, then 16 minimums.
pub(crate) const UNPACKED_BYTES: usize = SUPERBLOCK + 128;
/// Room for one superblock of one packed column; each instruction set lays it out for its own panel.
pub(crate) const PACKED_BYTES: usize = SUPERBLOCK + 128 + 64;

impl core::fmt::Debug for Isa {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name)
    }
}

impl Isa {
    /// Rows a panel has at most; a multiple of every tile height.
    pub const PANEL_ROWS_MAX: usize = 64;

    /// Name, as in `scalar`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// `out[r] = dot(row r, x)`: `w` holds as many rows of `format` as `out` is long, `x` activations,
    /// f32 little-endian for a float format, superblocks from [`Isa::quantize`] for the others.
    pub fn matvec(&self, format: Format, w: &[u8], x: &[u8], out: &mut [f32]) {
        let info = format.info();
        let row_bytes = w.len().checked_div(out.len()).unwrap_or(0);
        let len = row_bytes / info.block_bytes * info.block_len;
        assert!(len > 0 && w.len() == out.len() * info.row_bytes(len));
        assert!(x.len() == Self::column_bytes(format, len));
        // SAFETY: `self` came from `available`, so the CPU has this table's features.
        unsafe { (self.matvec[format as usize])(w, x, out) }
    }

    /// Bytes of a column of `len` activations as [`Isa::matvec`] reads it.
    pub const fn column_bytes(format: Format, len: usize) -> usize {
        if format.info().is_float() { len * 4 } else { activation_bytes(len) }
    }

    /// Bytes of a column of `len` activations as [`Isa::panel`] reads it.
    pub const fn packed_bytes(format: Format, len: usize) -> usize {
        if format.info().is_float() { len * 4 } else { len.div_ceil(SUPERBLOCK) * PACKED_BYTES }
    }

    /// Rearranges one column from [`Isa::matvec`]'s form to [`Isa::panel`]'s. A float column stays as
    /// it is and need not be packed.
    pub fn pack(&self, format: Format, x: &[u8], out: &mut [u8]) {
        assert!(!format.info().is_float());
        assert!(x.len() / ACTIVATION_BYTES * PACKED_BYTES == out.len());
        // SAFETY: as in `matvec`.
        unsafe { (self.pack)(format, x, out) }
    }

    /// Rows to hand to one call of [`Isa::panel`] for weights of `len` columns.
    pub fn panel_rows(len: usize) -> usize {
        let row = len.div_ceil(SUPERBLOCK) * UNPACKED_BYTES;
        (PANEL_BYTES / row.max(1)).clamp(4, Self::PANEL_ROWS_MAX) & !3
    }

    /// Scratch bytes [`Isa::panel`] needs for up to [`Isa::panel_rows`] rows of `len` weights.
    pub fn panel_scratch_bytes(len: usize) -> usize {
        Self::panel_rows(len) * len.div_ceil(SUPERBLOCK) * UNPACKED_BYTES + 64
    }

    /// `out[c, r] = dot(row r, column c)`, with the same bits as [`Isa::matvec`].
    pub fn panel(&self, args: PanelArgs<'_>) {
        let info = args.format.info();
        assert!(args.w.len() == args.rows * info.row_bytes(args.len));
        assert!(args.x.len() == args.cols * Self::packed_bytes(args.format, args.len));
        assert!(args.out.len() == args.cols * args.rows);
        if !info.is_float() {
            assert!(args.rows <= Self::panel_rows(args.len));
            assert!(args.scratch.len() >= Self::panel_scratch_bytes(args.len));
        }
        // SAFETY: as in `matvec`.
        unsafe { (self.panel[args.format as usize])(args) }
    }

    /// `out[c, d] = sum over t of weights[c, t] * rows[t, d]`, adding in the order of `t`; `out` is
    /// `[cols, width]`, `weights` is `[cols, count]`, `rows` is `[count, width]` in `format`: F32, F16 or
    /// Q8_0.
    pub fn weighted_sum(
        &self,
        format: Format,
        out: &mut [f32],
        rows: &[u8],
        weights: &[f32],
        cols: usize,
    ) {
        assert!(matches!(format, Format::F32 | Format::F16 | Format::Q8_0));
        assert!(cols > 0 && out.len().is_multiple_of(cols) && weights.len().is_multiple_of(cols));
        let (info, width) = (format.info(), out.len() / cols);
        assert!(width.is_multiple_of(info.block_len));
        assert!(rows.len() == weights.len() / cols * info.row_bytes(width));
        // SAFETY: as in `matvec`.
        unsafe { (self.weighted_sum[format as usize])(out, rows, weights, cols) }
    }

    /// Quantises a row of activations; `out` is [`activation_bytes`] long.
    pub fn quantize(&self, x: &[f32], out: &mut [u8]) {
        assert!(out.len() == activation_bytes(x.len()));
        // SAFETY: as in `matvec`.
        unsafe { (self.quantize)(x, out) }
    }

    /// Root-mean-square normalisation of one row, in place.
    pub fn rms_norm(&self, x: &mut [f32], weight: Option<&[f32]>, eps: f32) {
        assert!(weight.is_none_or(|w| w.len() == x.len()));
        // SAFETY: as in `matvec`.
        unsafe { (self.rms_norm)(x, weight, eps) }
    }

    /// Layer normalisation of one row, without the bias, in place.
    pub fn layer_norm(&self, x: &mut [f32], weight: Option<&[f32]>, eps: f32) {
        assert!(weight.is_none_or(|w| w.len() == x.len()));
        // SAFETY: as in `matvec`.
        unsafe { (self.layer_norm)(x, weight, eps) }
    }

    /// Softmax of one row, in place.
    pub fn softmax(&self, x: &mut [f32]) {
        // SAFETY: as in `matvec`.
        unsafe { (self.softmax)(x) }
    }

    /// `x = gelu(x)` by the hyperbolic tangent (arXiv 1606.08415), in place.
    pub fn gelu(&self, x: &mut [f32]) {
        // SAFETY: as in `matvec`.
        unsafe { (self.gelu)(x) }
    }

    /// `gate = silu(gate) * up`, in place.
    pub fn swiglu(&self, gate: &mut [f32], up: &[f32]) {
        assert!(gate.len() == up.len());
        // SAFETY: as in `matvec`.
        unsafe { (self.swiglu)(gate, up) }
    }
}
