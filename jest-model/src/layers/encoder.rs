//! The blocks of a tower, one after the other.

use jest_kernels::{Pass, Tensor};

use super::{Block, BlockSaved, BlockSizes, Rows};
use crate::Result;
use crate::param::{Builder, visits};

/// The blocks of a tower.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// In order.
    pub blocks: Vec<Block>,
}

visits!(Encoder: blocks);

/// What [`Encoder::backward`] needs.
#[derive(Debug)]
pub struct EncoderSaved(Vec<BlockSaved>);

impl Encoder {
    pub(crate) fn new(b: &mut Builder, name: &str, depth: usize, sizes: BlockSizes) -> Result<Self> {
        let blocks = (0..depth).map(|index| Block::new(b, &format!("{name}.layers.{index}"), sizes));
        Ok(Self { blocks: blocks.collect::<Result<_>>()? })
    }

    /// x: `[n * l, width]` -> y: `[n * l, width]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn forward(&self, pass: &mut Pass, mut x: Tensor, rows: &Rows) -> Result<(Tensor, EncoderSaved)> {
        let mut all = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (y, saved) = block.forward(pass, x, rows)?;
            all.push(saved);
            x = y;
        }
        Ok((x, EncoderSaved(all)))
    }

    /// As [`Encoder::forward`] without a backward: the activations of a block are freed before the next one.
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn apply(&self, pass: &mut Pass, x: Tensor, rows: &Rows) -> Result<Tensor> {
        self.blocks.iter().try_fold(x, |x, block| Ok(block.forward(pass, x, rows)?.0))
    }

    /// dy: `[n * l, width]` -> dx: `[n * l, width]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn backward(&mut self, pass: &mut Pass, saved: EncoderSaved, dy: Tensor) -> Result<Tensor> {
        let blocks = self.blocks.iter_mut().zip(saved.0).rev();
        blocks.into_iter().try_fold(dy, |dy, (block, saved)| block.backward(pass, saved, dy))
    }
}
