//! What Burn and candle make of the same work, one JSON line each.
//!
//! `jest-peers burn|candle products REPEATS MxKxN..`: median seconds of f32 products.
//! `jest-peers candle step PRESET BATCH REPEATS`: a training step and a scoring pass, examples a second.
//!
//! Burn takes the adapter that `jest --device llvmpipe` names: the emulated one. What is timed runs twice before, in which
//! Burn tries kernels out.

mod candle_model;
mod products;
mod sizes;

use std::time::Instant;

/// Median seconds of `work` after two warm-ups.
fn median(repeats: usize, mut work: impl FnMut()) -> f64 {
    for _ in 0..2 {
        work();
    }
    let mut seconds: Vec<f64> = (0..repeats)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// What a step measures: parameters, the loss before each update, seconds of scoring and of training.
struct Measured {
    parameters: usize,
    losses: Vec<f32>,
    score: f64,
    step: f64,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<usize>().unwrap_or_else(|_| panic!("{word} is no number"));
    match args[..] {
        [peer, "products", repeats, ref shapes @ ..] => println!("{}", products::line(peer, number(repeats), shapes)),
        ["candle", "step", preset, batch, repeats] => {
            let (batch, repeats) = (number(batch), number(repeats));
            let measured = candle_model::measure(&sizes::of(preset), batch, repeats).expect("candle computes");
            let Measured { parameters, losses, score, step } = measured;
            assert!(losses.iter().all(|loss| loss.is_finite()), "the loss is not finite: {losses:?}");
            let ips = |seconds: f64| batch as f64 / seconds;
            println!(
                "{{\"peer\": \"candle\", \"preset\": \"{preset}\", \"batch\": {batch}, \"parameters\": {parameters}, \
                 \"losses\": {losses:?}, \"score_ips\": {}, \"step_ips\": {}}}",
                ips(score),
                ips(step)
            );
        }
        _ => panic!("usage: jest-peers burn|candle products REPEATS MxKxN.. | candle step PRESET BATCH REPEATS"),
    }
}
