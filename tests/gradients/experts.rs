//! Mixture of experts: routing, the products it directs, and their sum.

use crate::definitions::{product, softmax};
use crate::kit::Case;
use attar::backend::{Backend, RouteShape};

const ROWS: usize = 9;
const WIDTH: usize = 6;
const HIDDEN: usize = 5;
const EXPERTS: usize = 4;

/// The chosen of a row of scores with their weights.
fn routed(scores: &[f64], shape: RouteShape) -> Vec<(usize, f64)> {
    let p = softmax(scores);
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*b].total_cmp(&p[*a]));
    order.truncate(shape.used);
    let sum: f64 = order.iter().map(|e| p[*e]).sum();
    let factor = f64::from(shape.scale) / if shape.normalize { sum } else { 1.0 };
    order.into_iter().map(|e| (e, p[e] * factor)).collect()
}

#[test]
fn experts_and_their_router() {
    for (used, normalize) in [(1, false), (2, true), (2, false), (4, true)] {
        let shape = RouteShape { used, normalize, scale: 1.5 };
        Case {
            what: format!("experts {used} normalize {normalize}"),
            inputs: &[[ROWS, WIDTH], [ROWS, EXPERTS]],
            weights: &[[HIDDEN, WIDTH], [WIDTH, HIDDEN]],
            experts: EXPERTS,
            run: &move |tape, x, w| {
                let routing = tape.routing(ROWS, used).expect("memory");
                let hidden = tape.buffer(ROWS * used, HIDDEN).expect("memory");
                let down = tape.buffer(ROWS * used, WIDTH).expect("memory");
                let out = tape.buffer(ROWS, WIDTH).expect("memory");
                tape.route(routing, x[1], shape);
                tape.matmul_experts(hidden, w[0], x[0], routing);
                tape.matmul_experts(down, w[1], hidden, routing);
                tape.combine(out, down, routing);
                out
            },
            definition: &move |x, w| {
                let expert = |w: &[f64], e: usize, len: usize| w[e * len..][..len].to_vec();
                let mut out = Vec::new();
                for (row, scores) in x[0].chunks_exact(WIDTH).zip(x[1].chunks_exact(EXPERTS)) {
                    let mut sum = vec![0.0; WIDTH];
                    for (e, weight) in routed(scores, shape) {
                        let hidden = product(&expert(&w[0], e, HIDDEN * WIDTH), row, WIDTH);
                        let y = product(&expert(&w[1], e, HIDDEN * WIDTH), &hidden, HIDDEN);
                        sum.iter_mut().zip(y).for_each(|(s, y)| *s += weight * y);
                    }
                    out.extend(sum);
                }
                out
            },
        }
        .check();
    }
}

/// Factors of experts, in a vector.
#[test]
fn factors_of_experts() {
    let shape = RouteShape { used: 2, normalize: true, scale: 1.0 };
    Case {
        what: "scale_experts".to_owned(),
        inputs: &[[ROWS * 2, WIDTH], [ROWS, EXPERTS]],
        weights: &[[1, EXPERTS]],
        experts: 1,
        run: &move |tape, x, w| {
            let routing = tape.routing(ROWS, 2).expect("memory");
            let out = tape.buffer(ROWS, WIDTH).expect("memory");
            tape.route(routing, x[1], shape);
            tape.scale_experts(x[0], w[0], routing);
            tape.combine(out, x[0], routing);
            out
        },
        definition: &move |x, w| {
            let mut out = vec![0.0; ROWS * WIDTH];
            for (r, scores) in x[1].chunks_exact(EXPERTS).enumerate() {
                for (j, (e, weight)) in routed(scores, shape).into_iter().enumerate() {
                    for i in 0..WIDTH {
                        out[r * WIDTH + i] += weight * w[0][e] * x[0][(r * 2 + j) * WIDTH + i];
                    }
                }
            }
            out
        },
    }
    .check();
}
