//! Floating-point operations of scoring and of updates, as they are executed.

use jest_model::{Tower, View};

use super::Learner;
use crate::approximation::Part;
use crate::config::Objective;
use crate::embed;
use crate::reuse::Reuse;

impl Learner {
    /// FLOPs of scoring captions of these lengths and their images: one forward pass of both towers.
    pub fn forward_flops(&self, lengths: &[u32], view: &View) -> f64 {
        embed::flops(&self.model, lengths, view)
    }

    /// FLOPs of one update on captions of these lengths and their images: forward, backward, and the loss from embeddings.
    pub fn training_flops(&self, lengths: &[u32]) -> f64 {
        self.training_flops_in_parts(
            lengths,
            &[Part { rows: 0..lengths.len(), view: View::default() }],
            &Reuse::default(),
        )
    }

    /// FLOPs of one update in parts, of which some embeddings are there before.
    pub fn training_flops_in_parts(&self, lengths: &[u32], parts: &[Part], reuse: &Reuse) -> f64 {
        let n: usize = parts.iter().map(|part| part.rows.len()).sum();
        let of = |part: &Part| {
            let texts = self.model.text_views(&lengths[part.rows.clone()], &part.view);
            let once = |view: &View| self.model.training_flops(view) + self.flops_again(n, view, part, reuse);
            texts.iter().map(|(count, view)| *count as f64 * once(view) as f64).sum::<f64>()
        };
        let towers: f64 = parts.iter().map(of).sum();
        // Logits and two gradients; softmax needs the logits twice, as its sums come before its gradients.
        let products = if self.objective == Objective::Sigmoid { 6.0 } else { 8.0 };
        let (pairs, d) = ((n * n) as f64, self.model.config().embedding_dim() as f64);
        // Of both models logits, twice, and the student's two gradients.
        let taught = reuse.teacher().map_or(0.0, |teacher| 8.0 * d + 4.0 * teacher.made[0].cols() as f64);
        towers + pairs * (products * d + taught)
    }

    /// FLOPs of what is computed a second time for each of n examples, to be kept for a shorter time.
    fn flops_again(&self, n: usize, view: &View, part: &Part, reuse: &Reuse) -> u64 {
        let config = self.model.config();
        let in_pieces = self.in_pieces(n);
        let in_blocks = u64::from(self.memory.recompute);
        let embedded = |reused: bool| u64::from(in_pieces && !reused);
        let (images, texts) = (reuse.images(&part.view, config), reuse.texts(&part.view, config));
        let towers = [
            (Tower::Image, embedded(images.is_some()), config.image_flops(view)),
            (Tower::Text, embedded(texts.is_some()), config.text_flops(view)),
        ];
        let learning = towers.into_iter().filter(|(tower, ..)| self.model.trains(*tower));
        let again =
            |(tower, embedded, forward)| embedded * forward + in_blocks * self.model.trained_block_flops(tower, view);
        learning.map(again).sum()
    }
}
