//! Sizes as integers that divide, and the length of a run in steps.

use jest_select::{BatchPlan, Method};

use super::plan::SelectionPlan;
use super::raw::RawRun;
use super::{ConfigError, Surroundings};

/// Share discarded where examples are selected and neither ratio nor super-batch is set: the paper's.
const FILTER_RATIO: f64 = 0.8;
/// Share of a sub-batch trained at the cheap view where there is one: the paper's.
const CHEAP_SHARE: f64 = 0.5;
/// Field of a sample's JSON that holds its tags.
const TAGS: &str = "concept";
/// Chunks of a joint draw where they are not set: the paper's.
const CHUNKS: usize = 16;

/// The selection of a run, with B, b and N worked out.
pub(super) fn selection(raw: &RawRun) -> Result<SelectionPlan, ConfigError> {
    let asked = &raw.selection;
    let selects = !raw.reference.is_empty() || asked.filter_ratio.is_some() || asked.super_batch.is_some();
    let method = asked.method.unwrap_or(if selects { Method::Joint } else { Method::Uniform });
    let chunks = if method.in_chunks() { asked.chunks.unwrap_or(CHUNKS) } else { 1 };
    let wrong = |source| ConfigError::Sizes { run: raw.name.clone(), source };
    let b = raw.batch_size.ok_or_else(|| ConfigError::Missing {
        run: raw.name.clone(),
        key: "batch_size",
        remedy: "set batch_size or --batch-size to the examples of one update",
    })?;
    if b == 0 {
        let expected = "an update needs at least 1 example";
        return Err(ConfigError::Range { run: raw.name.clone(), key: "batch_size", value: 0.0, expected });
    }
    let sizes = match (method, asked.super_batch) {
        (Method::Uniform, _) => BatchPlan::new(b, b, 1),
        (_, Some(super_batch)) => BatchPlan::new(super_batch, b, chunks),
        (_, None) => {
            let filter_ratio = asked.filter_ratio.unwrap_or(FILTER_RATIO);
            // First, as it refuses ratios outside [0, 1) and sizes of 0.
            let rounded = BatchPlan::from_filter_ratio(b, filter_ratio, chunks).map_err(wrong)?;
            exact(raw, b, filter_ratio, chunks)?;
            Ok(rounded)
        }
    };
    let gain = if method == Method::Uniform { 1.0 } else { asked.gain.0 };
    let sizes = sizes.and_then(|sizes| sizes.with_gain(gain)).map_err(wrong)?;
    let tags = if method == Method::Cabs && asked.tags.is_empty() { vec![TAGS.to_owned()] } else { asked.tags.clone() };
    Ok(SelectionPlan {
        method,
        score: asked.score,
        sizes,
        gibbs_steps: asked.gibbs_steps,
        threshold: asked.threshold.map(|threshold| threshold as f32),
        tags,
        cache_reference: asked.cache_reference,
        reference_cache: asked.reference_cache.clone(),
        audit: asked.audit,
        approximation: asked.approximation,
        logit_scale_factor: asked.logit_scale_factor.map_or(1.0, |factor| factor as f32),
        cheap_share: asked.cheap_share.unwrap_or(if asked.approximation.is_none() { 0.0 } else { CHEAP_SHARE }),
        cheap_share_end: asked.cheap_share_end,
    })
}

/// Refuses a ratio that gives no whole super-batch.
fn exact(raw: &RawRun, b: usize, filter_ratio: f64, chunks: usize) -> Result<(), ConfigError> {
    if whole(b, filter_ratio) {
        return Ok(());
    }
    let works = |b: &usize| b.is_multiple_of(chunks) && whole(*b, filter_ratio);
    let nearest: Vec<String> =
        (1..b).rev().find(works).into_iter().chain((b + 1..=2 * b).find(works)).map(|b| b.to_string()).collect();
    let exact = b as f64 / (1.0 - filter_ratio);
    let (below, above) = (exact.floor().max(b as f64), exact.ceil());
    let super_batch = format!("super_batch {below} or {above} in place of filter_ratio");
    let remedy = match nearest.join(" or ") {
        none if none.is_empty() => format!("nearest: {super_batch}"),
        nearest => format!("nearest: batch_size {nearest}, or {super_batch}"),
    };
    Err(ConfigError::Ratio { run: raw.name.clone(), batch_size: b, filter_ratio, exact, remedy })
}

/// Whether `b / (1 - filter_ratio)` is a whole number, up to the rounding of the ratio itself.
fn whole(b: usize, filter_ratio: f64) -> bool {
    let exact = b as f64 / (1.0 - filter_ratio);
    (exact - exact.round()).abs() <= exact * 1e-9
}

/// Updates of a run: as given, or enough to train `examples`, or to draw every example `epochs` times.
pub(super) fn steps(raw: &RawRun, sizes: &BatchPlan, around: &Surroundings<'_>) -> Result<u64, ConfigError> {
    let missing = |key, remedy| ConfigError::Missing { run: raw.name.clone(), key, remedy };
    let steps = match (raw.steps, raw.examples, raw.epochs) {
        (Some(steps), _, _) => steps,
        (None, Some(examples), _) => examples.div_ceil(sizes.sub_batch() as u64),
        (None, None, Some(epochs)) => {
            if raw.data.train.is_empty() {
                return Err(ConfigError::NoData { run: raw.name.clone() });
            }
            let uncounted = |source| ConfigError::Uncounted { run: raw.name.clone(), source };
            let in_data = raw.data.num_examples.map_or_else(|| (around.count)(&raw.data), Ok).map_err(uncounted)?;
            if !(epochs > 0.0 && epochs.is_finite()) {
                let expected = "the number of epochs is above 0";
                return Err(ConfigError::Range { run: raw.name.clone(), key: "epochs", value: epochs, expected });
            }
            (epochs * in_data as f64 / sizes.super_batch() as f64).ceil() as u64
        }
        (None, None, None) => return Err(missing("steps", "set steps, examples or epochs, or pass --steps")),
    };
    if steps == 0 {
        let expected = "a run has at least 1 step";
        return Err(ConfigError::Range { run: raw.name.clone(), key: "steps", value: 0.0, expected });
    }
    Ok(steps)
}
