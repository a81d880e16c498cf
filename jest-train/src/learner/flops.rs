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
            let once = |view: &View| {
                let [again, spared] = self.flops_beside(n, view, part, reuse);
                self.model.training_flops(view) + again - spared
            };
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

    /// FLOPs, for each of n examples, of what is computed a second time, to be kept for a shorter time; and of the forward
    /// pass of a locked tower whose embeddings are there.
    fn flops_beside(&self, n: usize, view: &View, part: &Part, reuse: &Reuse) -> [u64; 2] {
        let config = self.model.config();
        let in_pieces = u64::from(self.in_pieces(n));
        let in_blocks = u64::from(self.memory.recompute);
        let reused = [reuse.images(&part.view, config), reuse.texts(&part.view, config)].map(|made| made.is_some());
        let forward = [(Tower::Image, config.image_flops(view)), (Tower::Text, config.text_flops(view))];
        let (mut again, mut spared) = (0, 0);
        for ((tower, forward), reused) in forward.into_iter().zip(reused) {
            match (self.model.trains(tower), reused) {
                (true, false) => again += in_pieces * forward,
                (false, true) => spared += in_pieces * forward,
                _ => {}
            }
            if self.model.trains(tower) {
                again += in_blocks * self.model.trained_block_flops(tower, view);
            }
        }
        [again, spared]
    }
}
