//! AVX-512 with VNNI and VBMI: Ice Lake (2019), Zen 4 (2022), on.
use super::has;
use crate::isa::Isa;

pub(crate) static AVX512_VNNI: Isa = Isa {
    name: "avx512_vnni",
    supported: || {
        has!(
            "avx512f",
            "avx512bw",
            "avx512vl",
            "avx512dq",
            "avx512vnni",
            "avx512vbmi",
            "avx2",
            "f16c"
        )
    },
    matvec: super::avx512_matvec::MATVEC,
    panel: super::avx512_panel::PANEL,
    pack: super::panel::pack,
    weighted_sum: super::avx512_sum::WEIGHTED_SUM,
    quantize: super::quantize::quantize,
    rms_norm: super::lanes::avx512::rms_norm,
    layer_norm: super::lanes::avx512::layer_norm,
    softmax: super::lanes::avx512::softmax,
    gelu: super::lanes::avx512::gelu,
    swiglu: super::lanes::avx512::swiglu,
};
