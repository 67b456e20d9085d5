//! Feed-forward blocks: one gated network, or a choice among many.

use super::linear::Linear;
use super::stack::Scratch;
use crate::backend::{Backend, RouteShape, Routing, View, Weight};

/// A feed-forward block.
#[derive(Debug)]
pub enum Feed {
    /// The same network for every row.
    Gated(Gated),
    /// A few of many networks for each row.
    Experts(Experts),
}

/// `down(silu(gate x) * up x)` (SwiGLU, arXiv 2002.05202).
#[derive(Clone, Copy, Debug)]
pub struct Gated {
    /// `[hidden, width]`.
    pub gate: Linear,
    /// `[hidden, width]`.
    pub up: Linear,
    /// `[width, hidden]`.
    pub down: Linear,
    /// Width between.
    pub hidden: usize,
}

/// Mixture of experts (arXiv 2101.03961, 2401.04088), with an optional expert that every row uses
/// (arXiv 2401.06066).
#[derive(Debug)]
pub struct Experts {
    /// Scores the experts: `[experts, width]`.
    pub router: Linear,
    /// How scores become a choice.
    pub route: RouteShape,
    /// Where the choice is kept.
    pub routing: Routing,
    /// `[hidden, width]` each.
    pub gate: ExpertLinear,
    /// `[hidden, width]` each.
    pub up: ExpertLinear,
    /// `[width, hidden]` each.
    pub down: ExpertLinear,
    /// Width between.
    pub hidden: usize,
    /// The expert every row uses.
    pub shared: Option<Shared>,
}

/// One linear map an expert.
#[derive(Clone, Copy, Debug)]
pub struct ExpertLinear {
    /// `[rows, cols]` each.
    pub weight: Weight,
    /// What each expert's product is multiplied by: `[experts]`.
    pub scale: Option<Weight>,
}

impl ExpertLinear {
    fn forward(&self, backend: &mut dyn Backend, out: View, x: View, routing: Routing) {
        backend.matmul_experts(out, self.weight, x, routing);
        if let Some(factors) = self.scale {
            backend.scale_experts(out, factors, routing);
        }
    }
}

/// An expert that every row uses, weighted by a gate of its own where it has one.
#[derive(Debug)]
pub struct Shared {
    /// The network.
    pub network: Gated,
    /// `[1, width]`; the result is multiplied by its sigmoid.
    pub gate: Option<Linear>,
}

impl Feed {
    /// Maps each row of `x`.
    pub fn forward(&self, backend: &mut dyn Backend, scratch: &Scratch, out: View, x: View) {
        match self {
            Feed::Gated(gated) => gated.forward(backend, scratch, out, x),
            Feed::Experts(experts) => experts.forward(backend, scratch, out, x),
        }
    }
}

impl Gated {
    fn forward(&self, backend: &mut dyn Backend, scratch: &Scratch, out: View, x: View) {
        let gate = scratch.gate.first(x.rows).columns(self.hidden);
        let up = scratch.up.first(x.rows).columns(self.hidden);
        self.gate.forward(backend, gate, x);
        self.up.forward(backend, up, x);
        backend.swiglu(gate, up);
        self.down.forward(backend, out, gate);
    }
}

impl Experts {
    fn forward(&self, backend: &mut dyn Backend, scratch: &Scratch, out: View, x: View) {
        let Some(lent) = scratch.experts else {
            unreachable!("claimed for every model with experts")
        };
        let slots = x.rows * self.route.used;
        let scores = lent.scores.first(x.rows);
        let gate = lent.gate.first(slots).columns(self.hidden);
        let up = lent.up.first(slots).columns(self.hidden);
        let down = lent.down.first(slots);
        self.router.forward(backend, scores, x);
        backend.route(self.routing, scores, self.route);
        self.gate.forward(backend, gate, x, self.routing);
        self.up.forward(backend, up, x, self.routing);
        backend.swiglu(gate, up);
        self.down.forward(backend, down, gate, self.routing);
        backend.combine(out, down, self.routing);
        if let Some(shared) = &self.shared {
            let y = lent.shared.first(x.rows);
            shared.network.forward(backend, scratch, y, x);
            if let Some(gate) = &shared.gate {
                let factor = scores.columns(1);
                gate.forward(backend, factor, x);
                backend.scale_rows(y, factor);
            }
            backend.add(out, y);
        }
    }
}
