//! Images against texts without an n x n matrix: stripes of rows, shared by both contrastive losses.

pub(crate) mod cpu;
pub(crate) mod gpu;
