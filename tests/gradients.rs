//! Gradients of every operation against central differences of its definition in double precision, and of
//! whole models against another program's automatic differentiation.
#![cfg(feature = "train")]

mod common;
#[path = "gradients/definitions.rs"]
mod definitions;
#[path = "gradients/experts.rs"]
mod experts;
#[path = "gradients/kit.rs"]
mod kit;
#[path = "gradients/models.rs"]
mod models;
#[path = "../kernels/tests/util/random.rs"]
mod random;
#[path = "gradients/rows.rs"]
mod rows;
