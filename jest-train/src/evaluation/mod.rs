//! Zero-shot accuracy and retrieval recall of a model on evaluation folders.

pub mod metrics;

use std::path::PathBuf;

use jest_data::{EvalKind, EvalTask, LoaderConfig, SuperBatch};
use jest_kernels::ops::{l2_normalize, matmul};
use jest_kernels::{Pass, Tensor};
use jest_model::{TwoTowers, View};

use crate::events::Metrics;
use crate::{Result, embed};

/// Pictures read at once.
const BLOCK: usize = 512;

/// Evaluation folders and how to read them.
#[derive(Clone, Debug)]
pub struct Evaluation {
    tasks: Vec<EvalTask>,
    data: LoaderConfig,
}

impl Evaluation {
    /// Opens every folder; `data` gives preprocessing, tokenizer and limits.
    ///
    /// # Errors
    /// `Data` naming the folder that is no evaluation task.
    pub fn open(folders: &[PathBuf], data: &LoaderConfig) -> Result<Self> {
        let tasks = folders.iter().map(|folder| Ok(EvalTask::open(folder)?)).collect::<Result<_>>()?;
        Ok(Self { tasks, data: data.clone() })
    }

    /// Names of the tasks in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tasks.iter().map(|task| task.name.as_str())
    }

    /// Metrics of one task.
    ///
    /// # Errors
    /// `Data` when its pictures cannot be read.
    pub fn run(&self, pass: &mut Pass, model: &TwoTowers, index: usize) -> Result<Metrics> {
        let task = &self.tasks[index];
        let view = View::default();
        let (mut images, mut texts, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        let mut reading = task.batches(&self.data, BLOCK)?;
        for batch in reading.by_ref() {
            let batch: SuperBatch = batch?;
            images.push(embed::images(pass, model, &batch, &view)?);
            match &task.kind {
                EvalKind::Retrieval => {
                    texts.push(embed::texts(pass, model, &batch.tokens, &batch.lengths, &view)?);
                }
                EvalKind::ZeroShot { .. } => labels.extend(batch.labels.iter().map(|label| label.unwrap_or(u32::MAX))),
            }
        }
        let images = stack(pass, &images)?;
        let mut metrics = if let EvalKind::Retrieval = task.kind {
            let texts = stack(pass, &texts)?;
            metrics::retrieval(&similarity(pass, &images, &texts)?, texts.rows())
        } else {
            let classes = class_embeddings(pass, model, &self.data, &task.prompts())?;
            metrics::zero_shot(&similarity(pass, &images, &classes)?, classes.rows(), &labels)
        };
        // A metric over fewer pictures than the task has must say so.
        if reading.skips().skipped() > 0 {
            metrics.set("skipped", reading.skips().skipped() as f64);
        }
        Ok(metrics)
    }
}

/// Mean over the prompts of each class of their unit embeddings, normalised again: [classes, d].
pub fn class_embeddings(
    pass: &mut Pass,
    model: &TwoTowers,
    data: &LoaderConfig,
    prompts: &[Vec<String>],
) -> Result<Tensor> {
    let all = prompts.iter().flatten().map(String::as_str);
    let (tokens, lengths) = data.tokenizer.encode_all(all, data.text_tokens)?;
    let embedded = embed::texts(pass, model, &tokens, &lengths, &View::default())?;
    let (rows, d) = (pass.read(&embedded)?, embedded.cols());
    let mut means = Vec::with_capacity(prompts.len() * d);
    let mut first = 0;
    for class in prompts {
        let own = &rows[first * d..(first + class.len()) * d];
        means.extend((0..d).map(|j| own.iter().skip(j).step_by(d).sum::<f32>() / class.len().max(1) as f32));
        first += class.len();
    }
    let means = pass.upload(&means, &[prompts.len(), d])?;
    Ok(l2_normalize::forward(pass, &means)?.0)
}

/// All rows of several tensors in one.
fn stack(pass: &mut Pass, parts: &[Tensor]) -> Result<Tensor> {
    let (rows, d) = (parts.iter().map(Tensor::rows).sum(), parts.first().map_or(1, Tensor::cols));
    let mut all = pass.zeros(&[rows, d])?;
    let mut first = 0;
    for part in parts {
        pass.copy_rows(part, &mut all, first)?;
        first += part.rows();
    }
    Ok(all)
}

/// Cosines of every image with every text, row-major.
fn similarity(pass: &mut Pass, images: &Tensor, texts: &Tensor) -> Result<Vec<f32>> {
    let cosines = matmul::forward(pass, matmul::Form::ABt, images, texts)?;
    Ok(pass.read(&cosines)?)
}
