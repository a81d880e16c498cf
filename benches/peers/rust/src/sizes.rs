//! Models by name, and what they are shown.

/// Sizes of both towers.
pub struct Sizes {
    pub image: usize,
    pub patch: usize,
    pub width: usize,
    pub depth: usize,
    pub heads: usize,
    pub mlp: usize,
    pub text: usize,
    pub vocabulary: usize,
}

/// The preset of this name.
pub fn of(preset: &str) -> Sizes {
    let [image, patch, width, depth, heads, mlp, text, vocabulary] = match preset {
        "mu" => [32, 8, 64, 2, 2, 256, 16, 512],
        "xs64" => [64, 8, 192, 6, 3, 768, 32, 8192],
        other => panic!("no preset is named {other}"),
    };
    Sizes { image, patch, width, depth, heads, mlp, text, vocabulary }
}

impl Sizes {
    pub fn patches(&self) -> usize {
        (self.image / self.patch).pow(2)
    }

    /// Pixels from -1 to 1, `[n, 3, image, image]`, and captions of full length, `[n, text]`.
    pub fn examples(&self, n: usize) -> (Vec<f32>, Vec<u32>) {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        let pixels = (0..n * 3 * self.image * self.image).map(|_| (next() % 256) as f32 / 127.5 - 1.0).collect();
        let ids = (0..n * self.text).map(|_| (next() % self.vocabulary as u64) as u32).collect();
        (pixels, ids)
    }
}
