//! Patch embedding as the convolution it is, one element after the other, in f64.

/// Sizes of images [n, channels, side, side] and of weights [width, channels, patch, patch].
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Images.
    pub n: usize,
    /// Colours of a pixel.
    pub channels: usize,
    /// Pixels along an edge of an image.
    pub side: usize,
    /// Pixels along an edge of a patch.
    pub patch: usize,
    /// Length of an embedding.
    pub width: usize,
}

/// Calls `visit(y, w, x)` with the indices of every product `y += w * x` of the convolution with stride `patch`.
fn products(sizes: Sizes, mut visit: impl FnMut(usize, usize, usize)) {
    let Sizes { n, channels, side, patch, width } = sizes;
    let grid = side / patch;
    for image in 0..n {
        for gy in 0..grid {
            for gx in 0..grid {
                for out in 0..width {
                    for channel in 0..channels {
                        for py in 0..patch {
                            for px in 0..patch {
                                let y = ((image * grid + gy) * grid + gx) * width + out;
                                let w = ((out * channels + channel) * patch + py) * patch + px;
                                let (row, col) = (gy * patch + py, gx * patch + px);
                                visit(y, w, ((image * channels + channel) * side + row) * side + col);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `y [n * grid * grid, width]`: bias plus the sum of weight times pixel.
pub fn forward(sizes: Sizes, images: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let grid = sizes.side / sizes.patch;
    let mut out: Vec<f64> = (0..sizes.n * grid * grid).flat_map(|_| bias.to_vec()).collect();
    products(sizes, |y, w, x| out[y] += weight[w] * images[x]);
    out
}

/// Gradients by weight and bias.
pub fn backward(sizes: Sizes, images: &[f64], dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut dweight = vec![0.0; sizes.width * sizes.channels * sizes.patch * sizes.patch];
    products(sizes, |y, w, x| dweight[w] += dy[y] * images[x]);
    let mut dbias = vec![0.0; sizes.width];
    for (i, dy) in dy.iter().enumerate() {
        dbias[i % sizes.width] += dy;
    }
    (dweight, dbias)
}
