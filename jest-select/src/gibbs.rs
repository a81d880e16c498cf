//! Brute-force sampling of whole batches, to hold the chunked draw against.

use std::convert::Infallible;

use crate::select::{Draw, key};
use crate::{BatchPlan, Candidate, ConditionalScores, Method, Noise, SelectError, SubBatch, pick_uniform};

/// Single-site Gibbs sampling of `p(batch) ~ exp(gain * sum_ij S_ij)`: from a random batch, `steps` times one member is
/// dropped at random and one candidate drawn in its place with `p ~ exp(gain * conditional)`.
///
/// The one that was dropped may come back. O(B) a step, beside what the scores take.
///
/// # Errors
/// `Unsupported` if the scores cannot take a candidate back; those of [`select`](crate::select).
///
/// # Source
/// Paper, figure 2, which names brute-force Gibbs sampling and does not describe it.
pub(crate) fn gibbs<S, G>(
    scores: &mut S,
    plan: &BatchPlan,
    steps: usize,
    noise: &G,
) -> Result<SubBatch, SelectError<S::Error>>
where
    S: ConditionalScores + ?Sized,
    G: Noise + ?Sized,
{
    let failed = |chunk| move |source| SelectError::Scores { chunk, source };
    let mut members = pick_uniform(plan, noise).candidates().to_vec();
    let mut is_member = vec![false; plan.super_batch()];
    members.iter().for_each(|member| is_member[member.index()] = true);
    // As in a draw, whose scores are looked at before they are added up.
    finite(scores, 0, &vec![false; plan.super_batch()])?;
    scores.condition_on(&members).map_err(failed(0))?;
    for step in 0..steps {
        // Noise of chunk 0 made the first batch.
        let (dropping, drawing) = (1 + 2 * step, 2 + 2 * step);
        let best = |a: &(f32, usize), b: &(f32, usize)| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1));
        let noisy = members.iter().enumerate().map(|(at, member)| (noise.at(dropping, *member), at));
        let Some((_, at)) = noisy.max_by(best) else { break };
        is_member[members[at].index()] = false;
        if !scores.take_back(members[at]).map_err(failed(drawing))? {
            return Err(SelectError::Unsupported { method: Method::Gibbs, needs: "a way to take a candidate back" });
        }
        finite(scores, drawing, &is_member)?;
        let conditional = scores.conditional();
        let mut draw = Draw::without(&is_member);
        let keyed =
            |x: Candidate| Ok::<_, Infallible>(key(conditional[x.index()], plan.gain(), || noise.at(drawing, x)));
        let Ok(drawn) = draw.top_k(1, keyed);
        scores.condition_on(&drawn).map_err(failed(drawing))?;
        for candidate in drawn {
            is_member[candidate.index()] = true;
            members[at] = candidate;
        }
    }
    Ok(SubBatch::from_draw(members, plan.sub_batch()))
}

/// Refuses scores of candidates outside of the batch that are not finite.
fn finite<S: ConditionalScores + ?Sized>(
    scores: &S,
    chunk: usize,
    is_member: &[bool],
) -> Result<(), SelectError<S::Error>> {
    let (super_batch, got) = (is_member.len(), scores.conditional().len());
    if got != super_batch {
        return Err(SelectError::ScoreCount { super_batch, got });
    }
    let mut open = (0u32..).zip(scores.conditional()).zip(is_member).filter(|(_, member)| !**member);
    match open.find(|((_, score), _)| !score.is_finite()) {
        Some(((x, &score), _)) => Err(SelectError::NonFinite { candidate: Candidate::new(x), score, chunk }),
        None => Ok(()),
    }
}
