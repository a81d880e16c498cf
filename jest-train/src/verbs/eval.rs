//! `jest eval`: metrics of a checkpoint on evaluation folders, one JSON object a task.

use super::open;
use crate::Result;
use crate::cli::EvalArgs;
use crate::evaluation::Evaluation;

pub(super) fn eval(args: &EvalArgs) -> Result<()> {
    let device = open::device(&args.on)?;
    let mut pass = device.pass();
    let (model, reads) = open::checkpoint(&mut pass, &args.checkpoint)?;
    let data = open::reading(Vec::new(), &model, reads, args.workers);
    let evaluation = Evaluation::open(&args.tasks, &data)?;
    let names: Vec<String> = evaluation.names().map(str::to_string).collect();
    for (index, task) in names.iter().enumerate() {
        let metrics = evaluation.run(&mut pass, &model, index)?;
        println!("{}", serde_json::json!({ "task": task, "metrics": metrics }));
    }
    Ok(())
}
