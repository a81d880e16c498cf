//! Dispatches over tensors that may be larger than a binding: by slices of their rows.
//!
//! A row is what a kernel works on apart from all others: an element, a row of a matrix, an example. Each slice binds the part
//! of every tensor that its rows take, so that a kernel sees smaller tensors, and its bits are those of one dispatch.

use std::ops::Range;

use crate::catalog::{Sent, Variant};
use crate::device::Backend;
use crate::device::gpu::{Gpu, Part};
use crate::profile::Work;
use crate::{Grid, KernelError, Pass, Result, Tensor};

/// How a dispatch binds a tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound<'a> {
    /// As a whole in every slice.
    Whole(&'a Tensor),
    /// So many elements for each row of a slice; the last row of all may have fewer.
    Rows(&'a Tensor, usize),
}

impl<'a> Bound<'a> {
    fn tensor(self) -> &'a Tensor {
        match self {
            Bound::Whole(tensor) | Bound::Rows(tensor, _) => tensor,
        }
    }

    /// Words that some rows take; the first begins a word.
    fn words(self, rows: &Range<usize>) -> Range<usize> {
        let (tensor, dtype) = (self.tensor(), self.tensor().dtype());
        match self {
            Bound::Whole(_) => 0..dtype.words(tensor.len()),
            Bound::Rows(_, each) => dtype.words(rows.start * each)..dtype.words((rows.end * each).min(tensor.len())),
        }
    }

    /// What is bound of it: where that is all, also the words behind, which tests guard.
    fn part(self, gpu: &Gpu, kernel: &'static str, rows: &Range<usize>) -> Result<Part<'a>> {
        let (tensor, words) = (self.tensor(), self.words(rows));
        let (limit, bytes) = (gpu.binding_limit(), words.len() as u64 * 4);
        if bytes > limit {
            return Err(KernelError::Unbindable { kernel, shape: tensor.shape().to_vec(), bytes, limit });
        }
        let (buffer, all) = (tensor.gpu(), words == (0..tensor.dtype().words(tensor.len())));
        let bytes = if all { buffer.raw().size().min(limit) } else { bytes };
        Ok(Part { buffer, offset: words.start as u64 * 4, bytes })
    }

    /// Of how many rows a slice must be a multiple to begin where a binding may, and how many fit into a binding.
    fn cut(self, gpu: &Gpu) -> (usize, usize) {
        let Bound::Rows(tensor, each) = self else { return (1, usize::MAX) };
        let (bits, align) = (each * tensor.dtype().bits(), gpu.offset_alignment() * 8);
        let twos = 1 << bits.trailing_zeros().min(align.trailing_zeros());
        let fits = tensor.dtype().words(tensor.len()) as u64 * 4 <= gpu.binding_limit();
        (align / twos, if fits { usize::MAX } else { gpu.binding_limit() as usize * 8 / bits })
    }
}

impl Pass {
    /// Slices of `rows` rows, all of them in one where every tensor is bound as it is; of whole `steps` where so many fit.
    pub(crate) fn slices(&self, rows: usize, steps: usize, bound: &[Bound<'_>]) -> Vec<Range<usize>> {
        let most = match self.device().backend() {
            Backend::Cpu(_) => rows,
            Backend::Gpu(gpu) => {
                let (step, fit) = bound
                    .iter()
                    .map(|bound| bound.cut(gpu))
                    .fold((1, usize::MAX), |all, of| (all.0.max(of.0), all.1.min(of.1)));
                // Steps of a binding are powers of two.
                let whole = steps * (step >> steps.trailing_zeros().min(step.trailing_zeros()));
                let unit = if fit < whole { step } else { whole };
                if fit >= rows { rows } else { (fit / unit * unit).max(step) }
            }
        };
        (0..rows).step_by(most).map(|first| first..(first + most).min(rows)).collect()
    }

    /// Records a kernel over `rows` rows in as many slices as the bindings take, of which `of` tells parameters and grid;
    /// `flops` is of all.
    pub(crate) fn dispatch_rows<P: Sent>(
        &mut self,
        variant: &Variant,
        rows: usize,
        bound: &[Bound<'_>],
        flops: f64,
        of: impl Fn(Range<usize>) -> (P, Grid),
    ) -> Result<()> {
        for slice in self.slices(rows, 1, bound) {
            let share = slice.len() as f64 / rows as f64;
            let (parameters, grid) = of(slice.clone());
            self.dispatch_slice(variant, bound, slice, parameters, grid, flops * share)?;
        }
        Ok(())
    }

    /// Records one kernel on the GPU: `tensors[i]` is binding `i`, `parameters` the immediates.
    ///
    /// # Errors
    /// `Unbindable` for a tensor larger than a binding; `TooManyGroups`.
    pub(crate) fn dispatch<P: Sent>(
        &mut self,
        variant: &Variant,
        tensors: &[&Tensor],
        parameters: P,
        grid: Grid,
        flops: f64,
    ) -> Result<()> {
        let bound: Vec<_> = tensors.iter().map(|tensor| Bound::Whole(tensor)).collect();
        self.dispatch_slice(variant, &bound, 0..1, parameters, grid, flops)
    }

    /// [`Pass::dispatch`] over one slice of rows.
    ///
    /// # Errors
    /// As [`Pass::dispatch`]; `Unbindable` also where not even the fewest rows fit.
    pub(crate) fn dispatch_slice<P: Sent>(
        &mut self,
        variant: &Variant,
        bound: &[Bound<'_>],
        rows: Range<usize>,
        parameters: P,
        grid: Grid,
        flops: f64,
    ) -> Result<()> {
        let Backend::Gpu(gpu) = self.device().backend() else { return Ok(()) };
        let kernel = variant.name();
        assert!(P::FIELDS == variant.parameters(), "kernel {kernel} has other parameters");
        let limit = gpu.group_limit();
        if let Some(groups) = grid.groups(limit).into_iter().find(|groups| *groups > limit) {
            return Err(KernelError::TooManyGroups { kernel, groups, limit });
        }
        let parts = bound.iter().map(|bound| bound.part(gpu, kernel, &rows)).collect::<Result<Vec<_>>>()?;
        let words = bound.iter().map(|bound| bound.words(&rows).len()).sum();
        let work = Work::products(kernel, flops, words);
        let by_subgroups = if gpu.abilities().subgroups { variant.by_subgroups() } else { None };
        let variant = by_subgroups.as_ref().unwrap_or(variant);
        gpu.dispatch(variant, &parts, bytemuck::bytes_of(&parameters), grid, work)
    }
}
