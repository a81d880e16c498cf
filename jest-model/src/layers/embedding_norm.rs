//! What BERT does to embedded tokens before the blocks.

use jest_kernels::ops::matmul::{self, Form};
use jest_kernels::ops::{add, column_sum};
use jest_kernels::{Pass, Tensor};

use super::{LayerNorm, LayerNormSaved};
use crate::Result;
use crate::init::Init;
use crate::param::{Builder, Param, visits};
use crate::parameter_count::TOKEN_TYPES;

/// `y = norm(x + types[0])`: every token is of the first type.
#[derive(Clone, Debug)]
pub struct EmbeddingNorm {
    /// `[types, width]`
    pub types: Param,
    /// After the sum.
    pub norm: LayerNorm,
}

visits!(EmbeddingNorm: types, norm);

/// What [`EmbeddingNorm::backward`] needs.
#[derive(Debug)]
pub struct EmbeddingNormSaved {
    /// `[1, types]`: 1 in the first place, else 0.
    first: Tensor,
    norm: LayerNormSaved,
}

impl EmbeddingNorm {
    pub(crate) fn new(b: &mut Builder, name: &str, width: usize, eps: f32) -> Result<Self> {
        let (types, init) = (format!("{name}.token_type_embedding.weight"), Init::embedding(width));
        Ok(Self {
            types: b.single(&types, &[TOKEN_TYPES, width], init, false)?,
            norm: LayerNorm::new(b, &format!("{name}.layer_norm"), width, eps)?,
        })
    }

    /// x: `[n * l, width]` -> y: `[n * l, width]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn forward(&self, pass: &mut Pass, x: &Tensor) -> Result<(Tensor, EmbeddingNormSaved)> {
        let mut row = [0.0; TOKEN_TYPES];
        row[0] = 1.0;
        let first = pass.upload(&row, &[1, TOKEN_TYPES])?;
        let kind = matmul::forward(pass, Form::AB, &first, self.types.value())?;
        let x = add::forward_rows(pass, x, &kind)?;
        let (y, norm) = self.norm.forward(pass, &x)?;
        Ok((y, EmbeddingNormSaved { first, norm }))
    }

    /// dy: `[n * l, width]` -> dx: `[n * l, width]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn backward(&mut self, pass: &mut Pass, saved: EmbeddingNormSaved, dy: &Tensor) -> Result<Tensor> {
        let dx = self.norm.backward(pass, saved.norm, dy)?;
        let mut summed = pass.zeros(&[dx.cols()])?;
        column_sum::accumulate(pass, &dx, &mut summed)?;
        let summed = summed.reshape(&[1, dx.cols()])?;
        matmul::accumulate(pass, Form::AtB, &saved.first, &summed, &mut self.types.grad)?;
        Ok(dx)
    }
}
