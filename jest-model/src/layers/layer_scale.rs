//! LayerScale: what a branch adds, column by column.

use jest_kernels::ops::column_scale;
use jest_kernels::{Pass, Tensor};

use crate::Result;
use crate::init::Init;
use crate::param::{Builder, Param, visits};

/// `y = x * scale`, a factor for each column.
///
/// # Source
/// CaiT, Touvron et al., arXiv 2103.17239.
#[derive(Clone, Debug)]
pub struct LayerScale {
    /// `[width]`
    pub scale: Param,
}

visits!(LayerScale: scale);

/// What [`LayerScale::backward`] needs.
#[derive(Debug)]
pub struct LayerScaleSaved {
    x: Tensor,
}

impl LayerScale {
    pub(crate) fn new(b: &mut Builder, name: &str, width: usize) -> Result<Self> {
        Ok(Self { scale: b.single(name, &[width], Init::Constant(1.0), false)? })
    }

    /// x: `[.., width]` -> y: `[.., width]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn forward(&self, pass: &mut Pass, x: Tensor) -> Result<(Tensor, LayerScaleSaved)> {
        let y = column_scale::forward(pass, &x, self.scale.value())?;
        Ok((y, LayerScaleSaved { x }))
    }

    /// dy: `[.., width]` -> dx: `[.., width]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn backward(&mut self, pass: &mut Pass, saved: LayerScaleSaved, dy: &Tensor) -> Result<Tensor> {
        let (scale, dscale) = self.scale.value_and_grad();
        Ok(column_scale::backward(pass, &saved.x, scale, dy, dscale)?)
    }
}
