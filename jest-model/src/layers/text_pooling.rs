//! How the tokens of a text become one vector.

use jest_kernels::ops::gather_tokens::{self, KeptTokens};
use jest_kernels::ops::mean_pool::{self, Counted};
use jest_kernels::ops::tanh;
use jest_kernels::{Pass, Tensor};

use super::{LayerNorm, LayerNormSaved, Linear, LinearSaved};
use crate::param::{Param, Parameters};
use crate::{ModelError, Result};

/// What is done to the tokens that count.
#[derive(Clone, Debug)]
pub enum TextPooling {
    /// `norm(one token)`: SigLIP's and CLIP's.
    Token(Box<LayerNorm>),
    /// The mean.
    Mean,
    /// `tanh(linear(first token))`: BERT's.
    Pooler(Box<Linear>),
}

impl Parameters for TextPooling {
    fn visit<'a>(&'a self, see: &mut dyn FnMut(&'a Param)) {
        match self {
            Self::Token(norm) => norm.visit(see),
            Self::Mean => {}
            Self::Pooler(dense) => dense.visit(see),
        }
    }

    fn visit_mut<'a>(&'a mut self, see: &mut dyn FnMut(&'a mut Param)) {
        match self {
            Self::Token(norm) => norm.visit_mut(see),
            Self::Mean => {}
            Self::Pooler(dense) => dense.visit_mut(see),
        }
    }
}

/// The tokens of a batch of texts that count.
#[derive(Debug)]
pub(crate) enum Counting {
    /// One of each.
    Token(KeptTokens),
    /// The first of each.
    Mean(Counted),
}

/// What [`TextPooling::backward`] needs.
#[derive(Debug)]
pub struct TextPoolingSaved {
    counting: Counting,
    norm: Option<LayerNormSaved>,
    /// And what tanh gave.
    dense: Option<(LinearSaved, Tensor)>,
}

impl TextPooling {
    /// x: `[n * l, width]` -> y: `[n, width]`
    pub(crate) fn forward(
        &self,
        pass: &mut Pass,
        x: &Tensor,
        counting: Counting,
    ) -> Result<(Tensor, TextPoolingSaved)> {
        let x = match &counting {
            Counting::Token(kept) => gather_tokens::forward(pass, x, kept)?,
            Counting::Mean(counted) => mean_pool::forward(pass, x, counted)?,
        };
        let mut saved = TextPoolingSaved { counting, norm: None, dense: None };
        let y = match self {
            Self::Token(norm) => {
                let (y, norm) = norm.forward(pass, &x)?;
                saved.norm = Some(norm);
                y
            }
            Self::Mean => x,
            Self::Pooler(dense) => {
                let (h, dense) = dense.forward(pass, &x)?;
                let y = tanh::forward(pass, &h)?;
                saved.dense = Some((dense, y.clone()));
                y
            }
        };
        Ok((y, saved))
    }

    /// dy: `[n, width]` -> dx: `[n * l, width]`
    ///
    /// # Errors
    /// `OtherActivations` for what another model kept; `Kernel` when the sizes do not fit.
    pub fn backward(&mut self, pass: &mut Pass, saved: TextPoolingSaved, dy: Tensor) -> Result<Tensor> {
        let TextPoolingSaved { counting, norm, dense } = saved;
        let dx = match (self, norm, dense) {
            (Self::Token(norm), Some(saved), _) => norm.backward(pass, saved, &dy)?,
            (Self::Mean, None, None) => dy,
            (Self::Pooler(dense), _, Some((saved, y))) => {
                let dh = tanh::backward(pass, &y, &dy)?;
                dense.backward(pass, saved, &dh)?
            }
            _ => return Err(ModelError::OtherActivations),
        };
        Ok(match &counting {
            Counting::Token(kept) => gather_tokens::backward(pass, &dx, kept)?,
            Counting::Mean(counted) => mean_pool::backward(pass, &dx, counted)?,
        })
    }
}
