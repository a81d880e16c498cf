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
    /// Whether a backward pass computes the activations of a block again, from its input alone.
    pub recompute: bool,
    /// Where training begins: so many blocks, and what is in front of them, keep their parameters and have no backward
    /// pass. None: nothing is kept.
    pub(crate) kept: Option<usize>,
}

visits!(Encoder: blocks);

/// What [`Encoder::backward`] needs.
#[derive(Debug)]
pub struct EncoderSaved {
    rows: Rows,
    /// Of the last blocks, those that are trained.
    blocks: Vec<Kept>,
}

/// What is kept of a block.
#[derive(Debug)]
enum Kept {
    Activations(Box<BlockSaved>),
    Input(Tensor),
}

impl Encoder {
    pub(crate) fn new(b: &mut Builder, name: &str, depth: usize, sizes: BlockSizes) -> Result<Self> {
        let blocks = (0..depth).map(|index| Block::new(b, &format!("{name}.layers.{index}"), sizes));
        Ok(Self { blocks: blocks.collect::<Result<_>>()?, recompute: false, kept: None })
    }

    /// Whether a block, or what follows the blocks, has a gradient.
    pub(crate) fn is_trained(&self) -> bool {
        self.kept.is_none_or(|kept| kept < self.blocks.len())
    }

    /// x: `[n * l, width]` -> y: `[n * l, width]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn forward(&self, pass: &mut Pass, mut x: Tensor, rows: &Rows) -> Result<(Tensor, EncoderSaved)> {
        let (kept, trained) = self.blocks.split_at(self.kept.unwrap_or_default().min(self.blocks.len()));
        x = kept.iter().try_fold(x, |x, block| block.apply(pass, x, rows))?;
        let mut all = Vec::with_capacity(trained.len());
        for block in trained {
            if self.recompute {
                all.push(Kept::Input(x.clone()));
                x = block.apply(pass, x, rows)?;
            } else {
                let (y, saved) = block.forward(pass, x, rows)?;
                all.push(Kept::Activations(Box::new(saved)));
                x = y;
            }
        }
        Ok((x, EncoderSaved { rows: rows.clone(), blocks: all }))
    }

    /// As [`Encoder::forward`] without a backward: the activations of a block are freed before the next one.
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn apply(&self, pass: &mut Pass, x: Tensor, rows: &Rows) -> Result<Tensor> {
        self.blocks.iter().try_fold(x, |x, block| block.apply(pass, x, rows))
    }

    /// dy: `[n * l, width]` -> dx: `[n * l, width]`, the gradient by the input of the first block that is trained.
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn backward(&mut self, pass: &mut Pass, saved: EncoderSaved, dy: Tensor) -> Result<Tensor> {
        let EncoderSaved { rows, blocks } = saved;
        let first = self.blocks.len().saturating_sub(blocks.len());
        self.blocks[first..].iter_mut().zip(blocks).rev().try_fold(dy, |dy, (block, kept)| {
            let saved = match kept {
                Kept::Activations(saved) => *saved,
                Kept::Input(x) => block.forward(pass, x, &rows)?.1,
            };
            block.backward(pass, saved, dy)
        })
    }
}
