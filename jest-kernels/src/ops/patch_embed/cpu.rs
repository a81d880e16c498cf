//! Cutting images into patches on the CPU: rows of patches in parallel.

use rayon::prelude::*;

/// Writes `patches [n * grid * grid, channels * patch * patch]` of `images [n, channels, side, side]`.
pub(super) fn patchify(images: &[f32], channels: usize, side: usize, patch: usize, patches: &mut [f32]) {
    let grid = side / patch;
    let cols = channels * patch * patch;
    // One block for the patches that lie side by side.
    patches.par_chunks_mut(grid * cols).enumerate().for_each(|(block, patches)| {
        let (image, top) = (block / grid, block % grid * patch);
        for channel in 0..channels {
            for y in 0..patch {
                let line = &images[((image * channels + channel) * side + top + y) * side..][..side];
                let first = (channel * patch + y) * patch;
                for (gx, pixels) in line.chunks_exact(patch).enumerate() {
                    patches[gx * cols + first..][..patch].copy_from_slice(pixels);
                }
            }
        }
    });
}
