//! Towers that are not trained, or only their last parts.

use jest_kernels::Pass;

use crate::config::{Family, ModelConfig};
use crate::{ModelError, Param, Parameters, Result, Tower, TwoTowers, View};

/// Towers that keep the parameters they have, as open_clip's `--lock-image` and `--lock-text`.
///
/// A tower of SigLIP or CLIP is kept with its head or projection; of family dual the projection is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Locked {
    /// The image tower.
    pub image: bool,
    /// The text tower.
    pub text: bool,
    /// Groups of a locked image tower that are trained, from its end: of SigLIP and CLIP the head first; then the last
    /// block with what follows it, then one more block each.
    pub unlocked_image: usize,
    /// Those of a locked text tower.
    pub unlocked_text: usize,
}

/// What is kept of a tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    /// Blocks from the first, with what is in front of them.
    blocks: usize,
    /// What is between the last block and the head.
    norm: bool,
    /// Projection, or pooling head.
    head: bool,
}

impl Locked {
    /// None of a tower that is trained as a whole.
    fn kept(self, tower: Tower, config: &ModelConfig) -> Option<Kept> {
        let (locked, groups, depth) = match tower {
            Tower::Image => (self.image, self.unlocked_image, config.vision.depth),
            Tower::Text => (self.text, self.unlocked_text, config.text.depth),
        };
        let heads = usize::from(config.family != Family::Dual);
        let blocks = depth.saturating_sub(groups.saturating_sub(heads));
        locked.then_some(Kept { blocks, norm: blocks == depth, head: groups < heads })
    }

    fn holds(self, param: &Param, config: &ModelConfig) -> bool {
        let Some(tower) = [Tower::Image, Tower::Text].into_iter().find(|tower| tower.has(param)) else { return false };
        let Some(kept) = self.kept(tower, config) else { return false };
        let name = param.name();
        if name.contains("_projection.")
            || name.starts_with("text_model.head.")
            || name.starts_with("vision_model.head.")
        {
            return kept.head;
        }
        let block =
            name.split_once(".encoder.layers.").and_then(|(_, rest)| rest.split_once('.')?.0.parse::<usize>().ok());
        match block {
            Some(block) => block < kept.blocks,
            None => kept.norm || name.contains("_model.embeddings.") || name.contains(".pre_layrnorm."),
        }
    }

    /// Refuses more groups than there are in front of which something is kept.
    fn check(self, config: &ModelConfig) -> Result<()> {
        let heads = usize::from(config.family != Family::Dual);
        for (what, locked, got, depth) in [
            ("model.lock_image_unlocked_groups", self.image, self.unlocked_image, config.vision.depth),
            ("model.lock_text_unlocked_layers", self.text, self.unlocked_text, config.text.depth),
        ] {
            if locked && got > depth + heads {
                let rule =
                    format!("at most {}: there are no more; to train all of the tower, do not lock it", depth + heads);
                return Err(ModelError::Size { what, got, rule });
            }
        }
        Ok(())
    }
}

impl TwoTowers {
    /// Locks towers: what they keep has no part in [`TwoTowers::trained`], no backward pass, and gradients of no length.
    ///
    /// # Errors
    /// `Size` for more groups than a tower has; `Kernel` when the device fails.
    pub fn lock(&mut self, pass: &mut Pass, locked: Locked) -> Result<()> {
        locked.check(self.config())?;
        self.locked = locked;
        let kept = [Tower::Image, Tower::Text].map(|tower| locked.kept(tower, self.config()).map(|kept| kept.blocks));
        [self.vision.encoder.kept, self.text.encoder.kept] = kept;
        let (nothing, config) = (pass.zeros(&[1])?, self.config().clone());
        for param in self.parameters_mut().into_iter().filter(|param| locked.holds(param, &config)) {
            param.grad = nothing.clone();
        }
        Ok(())
    }

    /// What is not trained.
    pub fn locked(&self) -> Locked {
        self.locked
    }

    /// Whether any part of a tower is trained.
    pub fn trains(&self, tower: Tower) -> bool {
        self.locked.kept(tower, self.config()).is_none_or(|kept| !kept.head)
    }

    /// Parameters that training changes, in order.
    pub fn trained(&self) -> Vec<&Param> {
        let (locked, config) = (self.locked, self.config());
        self.parameters().into_iter().filter(|param| !locked.holds(param, config)).collect()
    }

    /// Parameters that training changes, in order, for changing.
    pub fn trained_mut(&mut self) -> Vec<&mut Param> {
        let (locked, config) = (self.locked, self.config().clone());
        self.parameters_mut().into_iter().filter(|param| !locked.holds(param, &config)).collect()
    }

    /// Operations of an update on one example: of what is kept the forward pass alone.
    pub fn training_flops(&self, view: &View) -> u64 {
        let config = self.config();
        let [image, text] = [Tower::Image, Tower::Text].map(|tower| {
            let kept = self.locked.kept(tower, config);
            config.update_flops(tower, view, kept.map(|kept| (kept.blocks, kept.head)))
        });
        image + text
    }

    /// Operations of the blocks of a tower that are computed again where activations are not kept.
    pub fn trained_block_flops(&self, tower: Tower, view: &View) -> u64 {
        let config = self.config();
        let (all, depth) = match tower {
            Tower::Image => (config.image_block_flops(view), config.vision.depth),
            Tower::Text => (config.text_block_flops(view), config.text.depth),
        };
        let kept = self.locked.kept(tower, config).map_or(0, |kept| kept.blocks);
        all / depth as u64 * (depth - kept) as u64
    }
}

#[cfg(test)]
mod tests {
    use jest_kernels::testing;

    use super::*;
    use crate::Preset;

    fn trained(config: &ModelConfig, locked: Locked) -> (Vec<String>, u64, u64) {
        let pass = &mut testing::devices()[0].pass();
        let mut model = TwoTowers::new(pass, config, 0).unwrap();
        model.lock(pass, locked).unwrap();
        let names = model.trained().iter().map(|param| param.name().to_string()).collect();
        (names, model.training_flops(&View::default()), model.trained_block_flops(Tower::Image, &View::default()))
    }

    #[test]
    fn groups_are_counted_from_the_end() {
        let image = |unlocked_image| Locked { image: true, unlocked_image, ..Locked::default() };
        let (mu, view) = (Preset::Mu.config(), View::default());
        for (config, head, heads) in [
            (mu.clone(), "vision_model.head.probe", 1),
            (mu.clone().into_clip(), "visual_projection.weight", 1),
            (mu.into_dual(), "visual_projection.weight", 0),
        ] {
            let (whole, text) = (config.training_flops(&view), config.text_training_flops(&view));
            let of = |groups: usize| trained(&config, image(groups));
            let has = |names: &[String], name: &str| names.iter().any(|own| own == name);
            let (names, flops, blocks) = of(heads);
            assert!(has(&names, head) && !has(&names, "vision_model.post_layernorm.weight"), "{names:?}");
            assert!(!names.iter().any(|name| name.starts_with("vision_model.encoder")), "{names:?}");
            assert!(flops > config.image_flops(&view) + text && flops < whole && blocks == 0);
            let (names, more, blocks) = of(heads + 1);
            assert!(has(&names, "vision_model.post_layernorm.weight"), "{names:?}");
            assert!(has(&names, "vision_model.encoder.layers.1.layer_norm1.weight"), "{names:?}");
            assert!(!has(&names, "vision_model.encoder.layers.0.layer_norm1.weight"), "{names:?}");
            assert!(more > flops && more < whole && 2 * blocks == config.image_block_flops(&view));
            let (names, ..) = of(heads + 2);
            assert!(has(&names, "vision_model.encoder.layers.0.layer_norm1.weight"), "{names:?}");
            assert!(!has(&names, "vision_model.embeddings.position_embedding.weight"), "{names:?}");
            let pass = &mut testing::devices()[0].pass();
            let mut model = TwoTowers::new(pass, &config, 0).unwrap();
            let said = model.lock(pass, image(heads + 3)).unwrap_err().to_string();
            assert!(said.starts_with("model.lock_image_unlocked_groups is"), "{said}");
            assert_eq!(trained(&config, Locked::default()).1, whole);
        }
        let (names, flops, _) = trained(&Preset::Mu.config(), image(0));
        assert!(!names.iter().any(|name| name.starts_with("vision")), "{names:?}");
        let config = Preset::Mu.config();
        assert_eq!(flops, config.image_flops(&view) + config.text_training_flops(&view));
    }

    #[test]
    fn a_mean_of_tokens_ends_with_the_last_block() {
        let config = Preset::Mu.config().into_dual();
        let (names, ..) = trained(&config, Locked { image: true, text: true, ..Locked::default() });
        assert_eq!(names, ["logit_scale", "text_projection.weight", "visual_projection.weight"]);
        let last = Locked { text: true, unlocked_text: 1, ..Locked::default() };
        let (names, ..) = trained(&config, last);
        let of = |block: &str| names.iter().filter(|name| name.starts_with(block)).count();
        assert_eq!([of("text_model.encoder.layers.1."), of("text_model.encoder.layers.0.")], [12, 0], "{names:?}");
        assert_eq!(of("text_model.embeddings."), 0, "{names:?}");
    }
}
