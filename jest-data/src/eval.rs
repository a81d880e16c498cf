//! Evaluation tasks: a folder of shards and a `classes.json` that says what is asked.

use crate::loader::{ReadAll, read_all, read_labelled};
use crate::{Captions, DataError, LoaderConfig, Result, Source};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// What a task asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvalKind {
    /// Which of the classes an image shows.
    ZeroShot {
        /// Class names; the index is the label.
        classes: Vec<String>,
        /// Prompts with `{}` or `{c}` for the class name.
        templates: Vec<String>,
    },
    /// Which caption belongs to an image, and back.
    Retrieval,
}

/// One evaluation folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalTask {
    /// Its name, as results are reported.
    pub name: String,
    /// Where it lies.
    pub folder: PathBuf,
    /// What it asks.
    pub kind: EvalKind,
}

#[derive(Deserialize)]
struct ClassesFile {
    task: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    classes: Vec<String>,
    #[serde(default)]
    templates: Vec<String>,
}

impl EvalTask {
    /// Reads `classes.json` in `folder`: `{"task", "type": "zero-shot" | "retrieval", "classes": [...], "templates": [...]}`.
    ///
    /// # Errors
    /// `Io` if there is none, `EvalTask` if it does not describe a task.
    pub fn open(folder: &Path) -> Result<EvalTask> {
        let path = folder.join("classes.json");
        let bytes = std::fs::read(&path).map_err(DataError::io("read", &path))?;
        let problem = |problem: String| DataError::EvalTask { path: path.clone(), problem };
        let file: ClassesFile = serde_json::from_slice(&bytes).map_err(|e| problem(e.to_string()))?;
        let kind = match file.kind.as_str() {
            "retrieval" => EvalKind::Retrieval,
            "zero-shot" if file.classes.is_empty() => return Err(problem("zero-shot without `classes`".to_string())),
            "zero-shot" => {
                let templates = if file.templates.is_empty() { vec!["{}".to_string()] } else { file.templates };
                if let Some(bad) = templates.iter().find(|t| !t.contains("{}") && !t.contains("{c}")) {
                    return Err(problem(format!("template `{bad}` has no `{{}}` or `{{c}}` for the class name")));
                }
                EvalKind::ZeroShot { classes: file.classes, templates }
            }
            other => return Err(problem(format!("type `{other}`; write `zero-shot` or `retrieval`"))),
        };
        let folder_name = || folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(EvalTask { name: file.task.unwrap_or_else(folder_name), folder: folder.to_path_buf(), kind })
    }

    /// The tasks in the folders below `parent`, or the one that `parent` is, sorted by name.
    ///
    /// # Errors
    /// `Io` if it cannot be listed; `EvalTask` if there is none; as [`open`](Self::open).
    pub fn discover(parent: &Path) -> Result<Vec<EvalTask>> {
        let is_task = |folder: &Path| folder.join("classes.json").is_file();
        if is_task(parent) {
            return Ok(vec![EvalTask::open(parent)?]);
        }
        let mut tasks = Vec::new();
        for entry in std::fs::read_dir(parent).map_err(DataError::io("list", parent))? {
            let folder = entry.map_err(DataError::io("list", parent))?.path();
            if is_task(&folder) {
                tasks.push(EvalTask::open(&folder)?);
            }
        }
        if tasks.is_empty() {
            let problem = "no folder with a classes.json here".to_string();
            return Err(DataError::EvalTask { path: parent.to_path_buf(), problem });
        }
        tasks.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tasks)
    }

    /// Every class in every template.
    ///
    /// # Shapes
    /// `[classes][templates]`; empty for retrieval.
    pub fn prompts(&self) -> Vec<Vec<String>> {
        let EvalKind::ZeroShot { classes, templates } = &self.kind else { return Vec::new() };
        let prompt = |class: &str, template: &String| template.replace("{c}", class).replace("{}", class);
        classes.iter().map(|class| templates.iter().map(|template| prompt(class, template)).collect()).collect()
    }

    /// The images in order, `n` at a time; `config.sources` is not looked at.
    ///
    /// For a zero-shot task every label is there and below the number of classes, and captions may be empty; for retrieval every
    /// caption is there.
    ///
    /// # Errors
    /// As [`read_all`].
    pub fn batches(&self, config: &LoaderConfig, n: usize) -> Result<ReadAll> {
        let sources = vec![Source::folder(&self.folder)?];
        // What is said of the training data holds for them alone.
        let config = LoaderConfig { sources, captions: Captions::default(), subset: None, ..config.clone() };
        match &self.kind {
            EvalKind::ZeroShot { classes, .. } => read_labelled(&config, n, classes.len() as u32),
            EvalKind::Retrieval => read_all(&config, n),
        }
    }
}
