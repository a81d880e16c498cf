//! Image towers that timm has by name.

use crate::config::{Activation, VisionConfig};

/// A size of timm's `vit_SIZE_patchP_siglip_I`: width, depth, heads, mlp_dim.
const TRUNKS: [(&str, [usize; 4]); 4] = [
    ("base", [768, 12, 12, 3072]),
    ("large", [1024, 24, 16, 4096]),
    ("so400m", [1152, 27, 16, 4304]),
    ("giantopt", [1536, 40, 16, 6144]),
];

/// The trunks there are whose patches divide their image, and whether they use the tanh form of GELU.
///
/// # Source
/// timm 1.0.31, `timm/models/vision_transformer.py`.
const VARIANTS: [(&str, usize, usize, bool); 15] = [
    ("base", 32, 256, true),
    ("base", 16, 224, false),
    ("base", 16, 256, false),
    ("base", 16, 384, false),
    ("base", 16, 512, false),
    ("large", 16, 256, false),
    ("large", 16, 384, false),
    ("large", 16, 512, true),
    ("so400m", 14, 224, false),
    ("so400m", 14, 378, false),
    ("so400m", 16, 256, true),
    ("so400m", 16, 384, true),
    ("so400m", 16, 512, true),
    ("giantopt", 16, 256, true),
    ("giantopt", 16, 384, true),
];

/// Every trunk with its name.
pub(crate) fn trunks() -> impl Iterator<Item = (String, VisionConfig)> {
    VARIANTS.iter().filter_map(|(size, patch_size, image_size, tanh)| {
        let (_, [width, depth, num_heads, mlp_dim]) = *TRUNKS.iter().find(|(name, _)| name == size)?;
        let gelu = if *tanh { Activation::Tanh } else { Activation::Erf };
        let (image_size, patch_size, layer_norm_eps) = (*image_size, *patch_size, 1e-6);
        let vision = VisionConfig { image_size, patch_size, width, depth, num_heads, mlp_dim, gelu, layer_norm_eps };
        Some((format!("vit_{size}_patch{patch_size}_siglip_{image_size}"), vision))
    })
}
