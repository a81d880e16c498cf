//! Zero-shot accuracy, retrieval recall and probes of a model on evaluation folders.

pub mod benchmark;
pub mod few_shot;
pub mod linear_probe;
pub mod metrics;

use std::path::PathBuf;

use jest_data::{DataError, EvalKind, EvalTask, LoaderConfig, ReadAll, SuperBatch};
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

/// Cosines of a task's pictures with its texts, row-major, and what is right.
#[derive(Clone, Debug)]
pub enum Answers {
    /// Pictures by classes.
    ZeroShot {
        /// `[n, classes]`.
        similarity: Vec<f32>,
        /// How many classes.
        classes: usize,
        /// `[n]`: the class of each picture.
        labels: Vec<u32>,
    },
    /// Pictures by captions.
    Retrieval {
        /// `[images, texts]`.
        similarity: Vec<f32>,
        /// `[texts]`: the picture that each caption belongs to.
        image_of: Vec<usize>,
    },
}

impl Answers {
    /// Accuracy or recall.
    pub fn metrics(&self) -> Metrics {
        match self {
            Self::ZeroShot { similarity, classes, labels } => metrics::zero_shot(similarity, *classes, labels),
            Self::Retrieval { similarity, image_of } => metrics::retrieval(similarity, image_of),
        }
    }
}

/// Embeddings of labelled pictures.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// `[n, d]`, rows of unit length.
    pub rows: Vec<f32>,
    /// d.
    pub d: usize,
    /// `[n]`.
    pub labels: Vec<u32>,
}

impl Evaluation {
    /// Opens every folder; `data` gives preprocessing, tokenizer and limits.
    ///
    /// # Errors
    /// `Data` naming the folder that is no evaluation task, or has the name of another.
    pub fn open(folders: &[PathBuf], data: &LoaderConfig) -> Result<Self> {
        let mut tasks: Vec<EvalTask> = Vec::new();
        for folder in folders {
            let task = EvalTask::open(folder)?;
            // Results stand under the name.
            if let Some(other) = tasks.iter().find(|other| other.name == task.name) {
                let problem =
                    format!("{} has the same name, {}; rename one of them", other.folder.display(), task.name);
                return Err(DataError::EvalTask { path: folder.clone(), problem }.into());
            }
            tasks.push(task);
        }
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
        let (answers, left_out) = self.answers(pass, model, index)?;
        Ok(answers.metrics().into_iter().chain(left_out).collect())
    }

    /// What the model answers to one task, and how many of its pictures were skipped if any were: a metric over fewer pictures
    /// than the task has must say so.
    ///
    /// # Errors
    /// `Data` when its pictures cannot be read.
    pub fn answers(&self, pass: &mut Pass, model: &TwoTowers, index: usize) -> Result<(Answers, Metrics)> {
        let task = &self.tasks[index];
        let mut reading = task.batches(&self.data, BLOCK)?;
        let answers = match &task.kind {
            EvalKind::ZeroShot { .. } => {
                let (images, labels) = pictures(pass, model, &mut reading)?;
                let classes = class_embeddings(pass, model, &self.data, &task.prompts())?;
                let similarity = similarity(pass, &images, &classes)?;
                Answers::ZeroShot { similarity, classes: classes.rows(), labels }
            }
            EvalKind::Retrieval => {
                let (mut captions, mut image_of, mut images) = (Vec::new(), Vec::new(), Vec::new());
                let mut image = 0;
                for batch in reading.by_ref() {
                    let batch: SuperBatch = batch?;
                    for text in &batch.captions {
                        let before = captions.len();
                        captions.extend(text.lines().map(str::to_string));
                        image_of.extend(std::iter::repeat_n(image, captions.len() - before));
                        image += 1;
                    }
                    images.push(embed::images(pass, model, &batch, &View::default())?);
                }
                let mut texts = Vec::new();
                for captions in captions.chunks(BLOCK) {
                    let (tokens, lengths) = self.data.tokenizer.encode_all(captions, self.data.text_tokens)?;
                    texts.push(embed::texts(pass, model, &tokens, &lengths, &View::default())?);
                }
                let (images, texts) = (stack(pass, &images)?, stack(pass, &texts)?);
                Answers::Retrieval { similarity: similarity(pass, &images, &texts)?, image_of }
            }
        };
        let skipped = reading.skips().skipped();
        let left_out = (skipped > 0).then(|| ("skipped".to_owned(), skipped as f64));
        Ok((answers, left_out.into_iter().collect()))
    }

    /// Embeddings of the pictures that a probe of this task learns from, and of those it is measured on; and how many classes there are.
    ///
    /// # Errors
    /// `Data` when the task has no pictures to learn from, or they cannot be read.
    pub fn labelled(&self, pass: &mut Pass, model: &TwoTowers, index: usize) -> Result<(Labelled, Labelled, usize)> {
        let task = &self.tasks[index];
        let classes = task.prompts().len();
        let mut one = |mut reading: ReadAll| -> Result<Labelled> {
            let (images, labels) = pictures(pass, model, &mut reading)?;
            Ok(Labelled { rows: pass.read(&images)?, d: images.cols(), labels })
        };
        Ok((one(task.training_batches(&self.data, BLOCK)?)?, one(task.batches(&self.data, BLOCK)?)?, classes))
    }

    /// Whether a task asks for a class.
    pub fn is_zero_shot(&self, index: usize) -> bool {
        matches!(self.tasks[index].kind, EvalKind::ZeroShot { .. })
    }
}

/// Embeddings and labels of all pictures.
fn pictures(pass: &mut Pass, model: &TwoTowers, reading: &mut ReadAll) -> Result<(Tensor, Vec<u32>)> {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for batch in reading.by_ref() {
        let batch: SuperBatch = batch?;
        images.push(embed::images(pass, model, &batch, &View::default())?);
        labels.extend(batch.labels.iter().map(|label| label.unwrap_or(u32::MAX)));
    }
    Ok((stack(pass, &images)?, labels))
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
    let cosines = pass.in_f32(|pass| matmul::forward(pass, matmul::Form::ABt, images, texts))?;
    Ok(pass.read(&cosines)?)
}
