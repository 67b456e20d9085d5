//! The two parts every layer is made of: an affine map and a normalisation.

use crate::backend::{Backend, NormKind, NormShape, View, Weight};

/// What a map's factor multiplies. Files whose weights were rounded to few bits have one.
#[derive(Clone, Copy, Debug)]
pub enum Scale {
    /// `factor * W x + b`.
    Product(f32),
    /// `factor * (W x + b)`.
    Sum(f32),
}

/// `y = W x + b`.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// `[rows, cols]`.
    pub weight: Weight,
    /// A factor, if any.
    pub scale: Option<Scale>,
    /// `[rows]`.
    pub bias: Option<Weight>,
}

impl Linear {
    /// Maps each row of `x`.
    pub fn forward(&self, backend: &mut dyn Backend, out: View, x: View) {
        backend.matmul(out, self.weight, x);
        if let Some(Scale::Product(factor)) = self.scale {
            backend.scale(out, factor);
        }
        if let Some(bias) = self.bias {
            backend.add_bias(out, bias);
        }
        if let Some(Scale::Sum(factor)) = self.scale {
            backend.scale(out, factor);
        }
    }
}

/// A normalisation over rows, or over the heads of rows.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// Kind.
    pub kind: NormKind,
    /// Multiplier of each column.
    pub weight: Weight,
    /// Added to each column at last.
    pub bias: Option<Weight>,
    /// Added to the mean square or variance.
    pub eps: f32,
}

impl Norm {
    /// Normalises each row of `x`.
    pub fn forward(&self, backend: &mut dyn Backend, out: View, x: View) {
        backend.norm(out, x, self.shape(), x.width);
        if let Some(bias) = self.bias {
            backend.add_bias(out, bias);
        }
    }

    /// Normalises each head, `head_len` columns, of each row of `x`, in place.
    pub fn forward_heads(&self, backend: &mut dyn Backend, x: View, head_len: usize) {
        backend.norm(x, x, self.shape(), head_len);
    }

    fn shape(&self) -> NormShape {
        NormShape { kind: self.kind, weight: Some(self.weight), eps: self.eps }
    }
}
