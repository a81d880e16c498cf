//! A learned token in front of the patches of each image.

use jest_kernels::ops::add;
use jest_kernels::ops::gather_tokens::{self, KeptTokens};
use jest_kernels::ops::matmul::{self, Form};
use jest_kernels::{Pass, Tensor};

use crate::Result;
use crate::init::Init;
use crate::param::{Builder, Param, visits};

/// `y[i] = [token, x[i, 0], x[i, 1], ..]` for each example i.
#[derive(Clone, Debug)]
pub struct ClassToken {
    /// `[width]`
    pub token: Param,
}

visits!(ClassToken: token);

/// What [`ClassToken::backward`] needs.
#[derive(Debug)]
pub struct ClassTokenSaved {
    /// Where the patches lie among the tokens.
    patches: KeptTokens,
    /// `[l + 1, 1]`: 1 in the first row, else 0.
    first: Tensor,
}

impl ClassToken {
    pub(crate) fn new(b: &mut Builder, name: &str, width: usize) -> Result<Self> {
        Ok(Self { token: b.single(name, &[width], Init::embedding(width), false)? })
    }

    /// x: `[n * l, width]` -> y: `[n * (l + 1), width]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn forward(&self, pass: &mut Pass, x: &Tensor, n: usize) -> Result<(Tensor, ClassTokenSaved)> {
        let l = x.rows() / n.max(1);
        let places: Vec<u32> = (0..n).flat_map(|_| 1..=l as u32).collect();
        let patches = KeptTokens::upload(pass, &places, n, l, l + 1)?;
        let mut column = vec![0.0; l + 1];
        column[0] = 1.0;
        let first = pass.upload(&column, &[l + 1, 1])?;
        // Spreading tokens is the transpose of gathering them; it leaves 0 where the class token goes.
        let spread = gather_tokens::backward(pass, x, &patches)?;
        let row = self.token.value().reshape(&[1, x.cols()])?;
        let token = matmul::forward(pass, Form::AB, &first, &row)?;
        Ok((add::forward_rows(pass, &spread, &token)?, ClassTokenSaved { patches, first }))
    }

    /// dy: `[n * (l + 1), width]` -> dx: `[n * l, width]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn backward(&mut self, pass: &mut Pass, saved: ClassTokenSaved, dy: &Tensor) -> Result<Tensor> {
        let ClassTokenSaved { patches, first } = saved;
        let mut summed = pass.zeros(&[first.rows(), dy.cols()])?;
        add::backward_rows(pass, dy, &mut summed)?;
        let dtoken = matmul::forward(pass, Form::AtB, &first, &summed)?;
        add::accumulate(pass, &dtoken.reshape(self.token.grad.shape())?, &mut self.token.grad)?;
        Ok(gather_tokens::forward(pass, dy, &patches)?)
    }
}
