//! Floating-point operations of the towers, a multiplication and an addition counting as two.
//!
//! Counted are the matrix products, which are all but about one part in a hundred: patch embedding, queries, keys and
//! values, attention, output projection, MLP, pooling head, text projection. Not counted is what is done once for a
//! whole batch (the probe's query, the resize of kernels) and element-wise work.

use crate::config::{Family, ModelConfig, TextPool};
use crate::{Tower, View};

/// Work of the backward pass relative to the forward pass: every product has two gradients.
pub const BACKWARD: u64 = 2;

/// `2 m n k`: a product of an `[m, k]` and a `[k, n]` matrix.
fn product(m: usize, n: usize, k: usize) -> u64 {
    2 * m as u64 * n as u64 * k as u64
}

fn mlp(tokens: usize, width: usize, mlp_dim: usize) -> u64 {
    product(tokens, mlp_dim, width) + product(tokens, width, mlp_dim)
}

/// One block: `l (8 w² + 4 w m) + 4 l² w`.
fn block(tokens: usize, width: usize, mlp_dim: usize) -> u64 {
    let qkv = product(tokens, 3 * width, width);
    let scores = product(tokens, tokens, width);
    let weighted_values = product(tokens, width, tokens);
    let out = product(tokens, width, width);
    qkv + scores + weighted_values + out + mlp(tokens, width, mlp_dim)
}

impl ModelConfig {
    /// Operations of the image tower's forward pass on one image.
    ///
    /// ```
    /// use jest_model::{Preset, View};
    /// let (full, coarse) = (View::default(), View::patches(32));
    /// let config = Preset::B256.config();
    /// let ratio = config.image_flops(&coarse) as f64 / config.image_flops(&full) as f64;
    /// assert!((ratio - 0.245).abs() < 0.001);
    /// ```
    pub fn image_flops(&self, view: &View) -> u64 {
        let v = &self.vision;
        let patch = view.patch_size(self);
        let embed = product(view.grid(self).pow(2), v.width, 3 * patch * patch);
        embed + self.image_block_flops(view) + self.image_head_flops(view)
    }

    /// Pooling head, or projection.
    fn image_head_flops(&self, view: &View) -> u64 {
        let (v, tokens) = (&self.vision, view.image_tokens(self));
        match self.family {
            Family::Siglip => {
                let keys_and_values = product(tokens, 2 * v.width, v.width);
                let pooling = product(1, tokens, v.width) + product(1, v.width, tokens);
                keys_and_values + pooling + product(1, v.width, v.width) + mlp(1, v.width, v.mlp_dim)
            }
            Family::Clip | Family::Dual => product(1, self.embedding_dim(), v.width),
        }
    }

    /// Operations of the text tower's forward pass on one text.
    pub fn text_flops(&self, view: &View) -> u64 {
        self.text_block_flops(view) + self.pooler_flops() + self.text_head_flops()
    }

    /// Projection.
    fn text_head_flops(&self) -> u64 {
        product(1, self.embedding_dim(), self.text.width)
    }

    /// BERT's pooler, where there is one.
    fn pooler_flops(&self) -> u64 {
        let width = self.text.width;
        if self.text.pool == TextPool::Pooler { product(1, width, width) } else { 0 }
    }

    /// Operations of both towers' forward pass on one example: an image and its text.
    pub fn forward_flops(&self, view: &View) -> u64 {
        self.image_flops(view) + self.text_flops(view)
    }

    /// The part of [`image_flops`](Self::image_flops) that is done in blocks.
    pub fn image_block_flops(&self, view: &View) -> u64 {
        self.vision.depth as u64 * block(view.image_tokens(self), self.vision.width, self.vision.mlp_dim)
    }

    /// The part of [`text_flops`](Self::text_flops) that is done in blocks.
    pub fn text_block_flops(&self, view: &View) -> u64 {
        self.text.depth as u64 * block(view.text_tokens(self), self.text.width, self.text.mlp_dim)
    }

    /// Operations of a forward and a backward pass on one example: each product and its two gradients, and the attention
    /// scores, which are not kept but computed again.
    pub fn training_flops(&self, view: &View) -> u64 {
        self.image_training_flops(view) + self.text_training_flops(view)
    }

    /// The image tower's part of it.
    pub fn image_training_flops(&self, view: &View) -> u64 {
        self.update_flops(Tower::Image, view, None)
    }

    /// The text tower's part of it.
    pub fn text_training_flops(&self, view: &View) -> u64 {
        self.update_flops(Tower::Text, view, None)
    }

    /// A tower's forward pass, and its backward pass as far as it goes: with `kept = (blocks, head)`, so many blocks and
    /// what is in front of them have none, nor the head where that is kept.
    pub(crate) fn update_flops(&self, tower: Tower, view: &View, kept: Option<(usize, bool)>) -> u64 {
        let (forward, blocks, head, tokens, width, depth) = match tower {
            Tower::Image => {
                let (width, depth) = (self.vision.width, self.vision.depth);
                let head = self.image_head_flops(view);
                (self.image_flops(view), self.image_block_flops(view), head, view.image_tokens(self), width, depth)
            }
            Tower::Text => {
                let (width, depth) = (self.text.width, self.text.depth);
                let head = self.text_head_flops();
                (self.text_flops(view), self.text_block_flops(view), head, view.text_tokens(self), width, depth)
            }
        };
        let (first, head_kept) = kept.unwrap_or_default();
        let trained = depth.saturating_sub(first) as u64;
        let front = forward - blocks - head;
        // In front of the blocks is the embedding; between them and the head, BERT's pooler.
        let backward = match tower {
            Tower::Image if kept.is_none() => front,
            Tower::Text if trained > 0 => front,
            _ => 0,
        };
        let backward = backward + blocks / depth as u64 * trained + if head_kept { 0 } else { head };
        // Scores of attention are computed again, in blocks and in a pooling head.
        let pooling = tower == Tower::Image && self.family == Family::Siglip && !head_kept;
        let scores = trained * product(tokens, tokens, width) + if pooling { product(1, tokens, width) } else { 0 };
        forward + BACKWARD * backward + scores
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Preset;

    #[track_caller]
    fn assert_giga(flops: u64, giga: f64) {
        let got = flops as f64 / 1e9;
        assert!((got - giga).abs() <= 0.01 * giga, "{got} GF, expected {giga}");
    }

    #[test]
    fn agree_with_the_published_counts() {
        let (base, full) = (Preset::B256.config(), View::default());
        assert_giga(base.image_flops(&full), 46.8);
        assert_giga(base.image_flops(&View::patches(32)), 11.5);
        assert_giga(base.text_flops(&full), 11.0);
        assert_giga(base.forward_flops(&full), 57.8);
        assert_giga(base.forward_flops(&View::patches(32)), 22.5);
        assert_giga(Preset::L256.config().forward_flops(&full), 201.6);
        let (small, scores) = (Preset::Mu.config(), 2 * 2 * (2 * 16 * 16 * 64) + 2 * 16 * 64);
        assert_eq!(small.training_flops(&full), 3 * small.forward_flops(&full) + scores);
    }

    #[test]
    fn count_every_product_of_mu() {
        // 16 patches of 3*8*8 values, width 64, mlp 256, two blocks.
        let block = 16 * (2 * 64 * 192 + 2 * 64 * 64 + 2 * 64 * 256 * 2) + 2 * 16 * 16 * 64 * 2;
        let head = 2 * 16 * 64 * 128 + 2 * 16 * 64 * 2 + 2 * 64 * 64 + 2 * 64 * 256 * 2;
        let config = Preset::Mu.config();
        assert_eq!(config.image_flops(&View::default()), 2 * 16 * 192 * 64 + 2 * block + head);
        assert_eq!(config.text_flops(&View::default()), 2 * block + 2 * 64 * 64);
        let in_blocks = [config.image_block_flops(&View::default()), config.text_block_flops(&View::default())];
        assert_eq!(in_blocks, [2 * block; 2]);
    }

    #[test]
    fn a_class_token_is_counted_and_pooled() {
        // 16 patches and a class token.
        let block = 17 * (2 * 64 * 192 + 2 * 64 * 64 + 2 * 64 * 256 * 2) + 2 * 17 * 17 * 64 * 2;
        let (config, full) = (Preset::Mu.config().into_clip(), View::default());
        assert_eq!(config.image_flops(&full), 2 * 16 * 192 * 64 + 2 * block + 2 * 64 * 64);
        let scores = 2 * 2 * (17 * 17 * 64 + 16 * 16 * 64);
        assert_eq!(config.training_flops(&full), 3 * config.forward_flops(&full) + scores);
    }

    #[test]
    fn a_pooler_is_counted() {
        let (mut config, full) = (Preset::Mu.config().into_dual(), View::default());
        let without = config.text_flops(&full);
        config.text.pool = TextPool::Pooler;
        assert_eq!(config.text_flops(&full), without + 2 * 64 * 64);
        let scores = 2 * 2 * (17 * 17 * 64 + 16 * 16 * 64);
        assert_eq!(config.training_flops(&full), 3 * config.forward_flops(&full) + scores);
    }

    #[test]
    fn dropped_tokens_cost_only_their_embedding() {
        let config = Preset::Mu.config();
        let half = View { keep_tokens: Some(8), text_tokens: Some(8), ..View::default() };
        let block = 8 * (2 * 64 * 192 + 2 * 64 * 64 + 2 * 64 * 256 * 2) + 2 * 8 * 8 * 64 * 2;
        let head = 2 * 8 * 64 * 128 + 2 * 8 * 64 * 2 + 2 * 64 * 64 + 2 * 64 * 256 * 2;
        assert_eq!(config.image_flops(&half), 2 * 16 * 192 * 64 + 2 * block + head);
        assert_eq!(config.text_flops(&half), 2 * block + 2 * 64 * 64);
    }
}
