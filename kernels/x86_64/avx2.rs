//! AVX2 and F16C: Haswell (2013) and Zen, on.
use super::has;
use crate::isa::Isa;

pub(crate) static AVX2: Isa = Isa {
    name: "avx2",
    supported: || has!("avx2", "f16c"),
    matvec: super::avx2_matvec::MATVEC,
    panel: super::avx2_panel::PANEL,
    pack: super::panel::pack,
    weighted_sum: super::lanes::WEIGHTED_SUM,
    quantize: super::quantize::quantize,
    rms_norm: super::lanes::avx2::rms_norm,
    layer_norm: super::lanes::avx2::layer_norm,
    softmax: super::lanes::avx2::softmax,
    gelu: super::lanes::avx2::gelu,
    swiglu: super::lanes::avx2::swiglu,
};
