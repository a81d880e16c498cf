//! `jest eval`: metrics of a checkpoint on evaluation folders, one JSON object a task.

use super::open;
use crate::Result;
use crate::cli::{EvalArgs, EvalFormat, Probe};
use crate::evaluation::{Evaluation, benchmark, few_shot, linear_probe};
use crate::events::Metrics;
use crate::say::say;
use crate::storage::write_atomic;

/// Draws of few-shot pictures that accuracy is the mean of.
const DRAWS: u64 = 3;

pub(super) fn eval(args: &EvalArgs) -> Result<()> {
    let device = open::device(&args.on)?;
    let mut pass = device.pass();
    let (model, reads) = open::checkpoint(&mut pass, &args.checkpoint)?;
    let data = open::reading(Vec::new(), &model, reads, args.workers);
    let evaluation = Evaluation::open(&args.tasks, &data)?;
    let names: Vec<String> = evaluation.names().map(str::to_string).collect();
    for (index, task) in names.iter().enumerate() {
        let (answers, mut more) = evaluation.answers(&mut pass, &model, index)?;
        if evaluation.is_zero_shot(index) && !args.probes.is_empty() {
            let (train, test, classes) = evaluation.labelled(&mut pass, &model, index)?;
            for probe in &args.probes {
                match probe {
                    Probe::FewShot => {
                        let accuracy = few_shot::accuracy(&train, &test, classes, args.shots as usize, DRAWS);
                        more.set(format!("few_shot_{}", args.shots), accuracy);
                    }
                    Probe::Linear => more.set("linear_probe", linear_probe::accuracy(&train, &test, classes)),
                }
            }
        }
        let result = match args.format {
            EvalFormat::Jest => {
                let metrics: Metrics = answers.metrics().into_iter().chain(more).collect();
                serde_json::json!({ "task": task, "metrics": metrics })
            }
            EvalFormat::ClipBenchmark => {
                benchmark::result(task, &args.checkpoint.display().to_string(), &answers, &more)
            }
        };
        if let Some(folder) = &args.out {
            write_atomic(folder.join(format!("{task}.json")), format!("{result}\n").as_bytes())?;
        }
        say!("{result}");
    }
    Ok(())
}
