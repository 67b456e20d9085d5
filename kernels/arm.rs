//! 32-bit ARM: Cortex-M cores, which have no vectors.

mod dsp;
mod halves;
mod instructions;

pub(crate) use dsp::DSP;
