//! Numbers of parameters.

use crate::config::{Family, ModelConfig, TextPool};

/// Different types of tokens that BERT knows; texts here are of the first.
pub(crate) const TOKEN_TYPES: usize = 2;

impl ModelConfig {
    /// Number of parameters, of both towers with logit_scale and logit_bias.
    pub fn parameter_count(&self) -> u64 {
        1 + u64::from(self.has_logit_bias()) + self.image_parameters() + self.text_parameters()
    }

    /// Number of parameters of the image tower with its projection.
    pub(crate) fn image_parameters(&self) -> u64 {
        let (v, d) = (&self.vision, self.embedding_dim() as u64);
        let [w, m, p] = [v.width, v.mlp_dim, v.patch_size].map(|size| size as u64);
        let grid = (v.image_size / v.patch_size.max(1)) as u64;
        let others = match self.family {
            // Patch bias, pooling head.
            Family::Siglip => w + w + 4 * (w * w + w) + 2 * w + mlp_parameters(w, m),
            // Class token and its position, norm before the blocks, projection.
            Family::Clip => 2 * w + 2 * w + w * d,
            // Patch bias, class token and its position, scales of each block, projection.
            Family::Dual => w + 2 * w + 2 * w * v.depth as u64 + w * d,
        };
        3 * p * p * w + grid * grid * w + v.depth as u64 * block_parameters(w, m) + 2 * w + others
    }

    /// Number of parameters of the text tower with its projection.
    pub(crate) fn text_parameters(&self) -> u64 {
        let t = &self.text;
        let [w, m, d] = [t.width, t.mlp_dim, self.embedding_dim()].map(|size| size as u64);
        let embedding = (t.vocab_size + t.tokens) as u64 * w;
        let others = match (self.family, t.pool) {
            (Family::Siglip, _) => d,
            (Family::Clip, _) => 0,
            (Family::Dual, TextPool::Pooler) => TOKEN_TYPES as u64 * w + w * w + w,
            (Family::Dual, _) => TOKEN_TYPES as u64 * w,
        };
        embedding + t.depth as u64 * block_parameters(w, m) + 2 * w + w * d + others
    }
}

fn mlp_parameters(width: u64, mlp_dim: u64) -> u64 {
    2 * width * mlp_dim + mlp_dim + width
}

fn block_parameters(width: u64, mlp_dim: u64) -> u64 {
    4 * (width * width + width) + mlp_parameters(width, mlp_dim) + 4 * width
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Preset;

    #[test]
    fn parameter_counts_are_those_of_published_models() {
        assert_eq!(Preset::B224.config().parameter_count(), 203_155_970);
        let mut large_vocabulary = Preset::B224.config();
        large_vocabulary.text.vocab_size = 256_000;
        assert_eq!(large_vocabulary.parameter_count(), 375_187_970);
        // ViT-B/32 of CLIP.
        let mut clip = Preset::B224.config().into_clip();
        (clip.vision.patch_size, clip.embedding_dim) = (32, Some(512));
        (clip.text.tokens, clip.text.vocab_size) = (77, 49_408);
        (clip.text.width, clip.text.num_heads, clip.text.mlp_dim) = (512, 8, 2048);
        clip.validate().unwrap();
        assert_eq!(clip.parameter_count(), 151_277_313);
    }

    #[test]
    fn backbones_have_the_parameters_of_published_ones() {
        // ViT-S/14 of DINOv2 without its mask token; all-MiniLM-L6-v2 with its pooler. Projections to 1.
        let mut dual = Preset::S224.config().into_dual();
        (dual.vision.image_size, dual.vision.patch_size, dual.embedding_dim) = (518, 14, Some(1));
        (dual.vision.width, dual.vision.num_heads, dual.vision.mlp_dim, dual.vision.depth) = (384, 6, 1536, 12);
        (dual.text.width, dual.text.num_heads, dual.text.mlp_dim, dual.text.depth) = (384, 12, 1536, 6);
        (dual.text.tokens, dual.text.vocab_size, dual.text.pool) = (512, 30_522, TextPool::Pooler);
        dual.validate().unwrap();
        assert_eq!(dual.image_parameters(), 22_056_192 + 384);
        assert_eq!(dual.text_parameters(), 22_713_216 + 384);
        assert_eq!(dual.parameter_count(), 1 + dual.image_parameters() + dual.text_parameters());
        dual.init_logit_bias = -10.0;
        assert_eq!(dual.parameter_count(), 2 + dual.image_parameters() + dual.text_parameters());
    }
}
