//! `jest bench select`: one joint selection from embeddings at random, timed.

use jest_kernels::ops::selection_scores::Candidates;
use jest_kernels::{Pass, Tensor};
use jest_select::{BatchPlan, Gumbel, Method, Selection};

use super::open;
use crate::cli::BenchSelectArgs;
use crate::clock::{Clock, SystemClock};
use crate::events::Picked;
use crate::say::say;
use crate::selector::{DeviceScores, Term};
use crate::{Result, resources};

/// Rows made and put on the device at once: a second copy of all is never made.
const BLOCK: usize = 4096;
/// `t` and bias of learner and reference, as those of trained models are.
const LOGITS: [(f32, f32); 2] = [(20.0, -12.0), (60.0, -13.0)];

/// Prints seconds of a draw by learnability, and the largest memory of the process.
pub(super) fn select(args: &BenchSelectArgs) -> Result<()> {
    let plan = BatchPlan::new(args.super_batch, args.sub_batch, args.chunks)?;
    let device = open::device(&args.on)?;
    let mut pass = device.pass();
    let mut random = Random(args.seed);
    let mut models = Vec::new();
    for (scale, bias) in LOGITS {
        let parameters = [pass.upload(&[scale.ln()], &[1])?, pass.upload(&[bias], &[1])?];
        models.push((pairs(&mut pass, args.super_batch, args.width, &mut random)?, parameters));
    }
    pass.wait()?;
    let clock = SystemClock::start();
    let terms = models.iter().zip([1.0, -1.0]).map(|(([image, text], [log_scale, bias]), weight)| Term {
        weight,
        candidates: Candidates { image, text, log_scale, bias },
    });
    let mut scores = DeviceScores::new(&mut pass, terms.collect(), args.super_batch)?;
    let picks = Selection::new(Method::Joint, plan).pick(&mut scores, &Gumbel::new(args.seed, 0))?;
    let seconds = clock.now().as_secs_f64();
    let c = plan.chunk_size() as f64;
    let pairs: f64 = (1..plan.chunks()).map(|drawn| 2.0 * c * (args.super_batch as f64 - drawn as f64 * c)).sum();
    let flops = 2.0 * 2.0 * args.width as f64 * (args.super_batch as f64 + pairs);
    let (gflops, peak_rss_mb) = (flops / seconds / 1e9, resources::peak_rss_mb());
    say!(
        "{} -> {} in {} chunks, width {}: {seconds:.2} s, {gflops:.0} GFLOP/s, {peak_rss_mb} MB at most",
        args.super_batch,
        args.sub_batch,
        args.chunks,
        args.width
    );
    if !args.json {
        return Ok(());
    }
    let mut line = open::setting(&device);
    let measured = serde_json::json!({
        "super_batch": args.super_batch, "sub_batch": args.sub_batch, "chunks": args.chunks, "width": args.width,
        "digest": Picked::digest_of(picks.indices().map(|index| index as u32)),
        "flops": flops, "gflops": gflops, "seconds": seconds, "peak_rss_mb": peak_rss_mb,
        "peak_device_bytes": device.buffers().peak,
    });
    line.extend(measured.as_object().cloned().unwrap_or_default());
    say!("{}", serde_json::Value::from(line));
    Ok(())
}

/// Images and texts `[n, d]`, unit rows; each text lies on the side of its image.
fn pairs(pass: &mut Pass, n: usize, d: usize, random: &mut Random) -> Result<[Tensor; 2]> {
    let (mut images, mut texts) = (pass.zeros(&[n, d])?, pass.zeros(&[n, d])?);
    for first in (0..n).step_by(BLOCK) {
        let rows = BLOCK.min(n - first);
        let image: Vec<f32> = (0..rows * d).map(|_| random.next()).collect();
        let text: Vec<f32> = image.iter().map(|x| 0.5 * x + random.next()).collect();
        for (all, mut block) in [(&mut images, image), (&mut texts, text)] {
            for row in block.chunks_exact_mut(d) {
                let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
                row.iter_mut().for_each(|x| *x /= norm);
            }
            let block = pass.upload(&block, &[rows, d])?;
            pass.copy_rows(&block, all, first)?;
        }
    }
    Ok([images, texts])
}

/// Values within [-1, 1), from a linear congruential generator: many of them, quickly.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}
