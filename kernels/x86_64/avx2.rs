//! AVX2 and F16C: Haswell (2013) and Zen, on.
use super::has;
use crate::isa::Isa;
use crate::scalar;
pub(crate) static AVX2: Isa = Isa {
    name: "avx2",
    supported: || has!("avx2", "f16c"),
    panel: super::avx2_panel::PANEL,
    pack: super::panel::pack,
    ..scalar::BASE
};
