//! What every device must do alike: each operation of the trait `Backend` on odd shapes, against double
//! precision, within bounds derived from how often a device may round. Runs over the CPU with every
//! instruction set and over a graphics device in every configuration that takes other paths.

#[path = "conformance/attention.rs"]
mod attention;
#[path = "conformance/experts.rs"]
mod experts;
#[path = "conformance/fusion.rs"]
mod fusion;
#[path = "conformance/kit.rs"]
mod kit;
#[path = "conformance/limits.rs"]
mod limits;
#[path = "conformance/products.rs"]
mod products;
#[path = "../kernels/tests/util/random.rs"]
mod random;
#[path = "conformance/rows.rs"]
mod rows;
