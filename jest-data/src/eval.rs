//! Evaluation tasks: a folder of shards and a `classes.json` that says what is asked, or a folder of CLIP_benchmark.

use crate::loader::{ReadAll, read_all, read_labelled};
use crate::{Captions, DataError, Fields, LoaderConfig, Result, Source};
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
    /// Which captions belong to an image, and back; every line of a caption is one.
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
    /// Folder of the shards it is measured on.
    pub test: PathBuf,
    /// Folder of the shards that a probe learns from, if it has one.
    pub train: Option<PathBuf>,
}

#[derive(Deserialize)]
struct ClassesFile {
    task: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    classes: Vec<String>,
    templates: Option<Templates>,
    train: Option<PathBuf>,
}

/// Templates as they stand, or the file that holds one a line.
#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    List(Vec<String>),
    File(PathBuf),
}

/// Files of CLIP_benchmark.
const CLASS_NAMES: &str = "classnames.txt";
const TEMPLATES: &str = "zeroshot_classification_templates.txt";
const DATASET_TYPE: &str = "dataset_type.txt";
const SHARD_COUNT: &str = "nshards.txt";

impl EvalTask {
    /// Reads the `classes.json` in `folder`, or CLIP_benchmark's files: `test/nshards.txt`, `classnames.txt`,
    /// `zeroshot_classification_templates.txt`, `dataset_type.txt`.
    ///
    /// # Errors
    /// `Io` if there is neither, `EvalTask` if it does not describe a task.
    pub fn open(folder: &Path) -> Result<EvalTask> {
        if !folder.join("classes.json").exists() && folder.join("test").join(SHARD_COUNT).is_file() {
            return clip_benchmark(folder);
        }
        let path = folder.join("classes.json");
        let bytes = std::fs::read(&path).map_err(DataError::io("read", &path))?;
        let problem = |problem: String| DataError::EvalTask { path: path.clone(), problem };
        let file: ClassesFile = serde_json::from_slice(&bytes).map_err(|e| problem(e.to_string()))?;
        let kind = match file.kind.as_str() {
            "retrieval" => EvalKind::Retrieval,
            "zero-shot" => {
                let templates = match file.templates {
                    None => Vec::new(),
                    Some(Templates::List(templates)) => templates,
                    Some(Templates::File(name)) => lines(&folder.join(name))?,
                };
                zero_shot(file.classes, templates, "`classes`").map_err(problem)?
            }
            other => return Err(problem(format!("type `{other}`; write `zero-shot` or `retrieval`"))),
        };
        let name = file.task.unwrap_or_else(|| folder_name(folder));
        // Names of tasks become names of files.
        if ["", ".", ".."].contains(&name.as_str()) || name.contains(['/', '\\', '\0']) {
            return Err(problem(format!("`task` is `{name}`; write a name without `/`")));
        }
        Ok(EvalTask {
            name,
            folder: folder.to_path_buf(),
            kind,
            test: folder.to_path_buf(),
            train: file.train.map(|train| folder.join(train)),
        })
    }

    /// The tasks in the folders below `parent`, or the one that `parent` is, sorted by name.
    ///
    /// # Errors
    /// `Io` if it cannot be listed; `EvalTask` if there is none; as [`open`](Self::open).
    pub fn discover(parent: &Path) -> Result<Vec<EvalTask>> {
        let is_task =
            |folder: &Path| folder.join("classes.json").is_file() || folder.join("test").join(SHARD_COUNT).is_file();
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
            let problem = "no folder with a classes.json, or with CLIP_benchmark's test/nshards.txt, here".to_string();
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
        self.read(&self.test, config, n)
    }

    /// As [`batches`](Self::batches), of the shards that a probe learns from.
    ///
    /// # Errors
    /// As [`read_all`]; `EvalTask` if the task has none.
    pub fn training_batches(&self, config: &LoaderConfig, n: usize) -> Result<ReadAll> {
        let problem =
            "a probe learns from labelled pictures: name their folder under `train` in classes.json".to_string();
        let missing = || DataError::EvalTask { path: self.folder.clone(), problem };
        self.read(self.train.as_ref().ok_or_else(missing)?, config, n)
    }

    fn read(&self, folder: &Path, config: &LoaderConfig, n: usize) -> Result<ReadAll> {
        let sources = vec![Source::folder(folder)?.with_whole_texts()];
        // What is said of the training data holds for them alone.
        let all =
            LoaderConfig { captions: Captions::default(), subset: None, fields: Fields::default(), ..config.clone() };
        let config = LoaderConfig { sources, ..all };
        match &self.kind {
            EvalKind::ZeroShot { classes, .. } => read_labelled(&config, n, classes.len() as u32),
            EvalKind::Retrieval => read_all(&config, n),
        }
    }
}

/// A folder as `clip_benchmark_export_wds` writes it.
///
/// # Source
/// CLIP_benchmark 1.6.2 `build_wds_dataset`.
fn clip_benchmark(folder: &Path) -> Result<EvalTask> {
    let problem = |problem: String| DataError::EvalTask { path: folder.to_path_buf(), problem };
    let stated = match std::fs::read_to_string(folder.join(DATASET_TYPE)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        stated => stated.map_err(DataError::io("read", &folder.join(DATASET_TYPE)))?,
    };
    let kind = match stated.trim().to_lowercase().as_str() {
        "retrieval" => EvalKind::Retrieval,
        "" | "classification" => {
            let classes = lines(&folder.join(CLASS_NAMES))?;
            let templates = folder.join(TEMPLATES);
            let templates = if templates.exists() { lines(&templates)? } else { Vec::new() };
            zero_shot(classes, templates, CLASS_NAMES).map_err(problem)?
        }
        other => {
            return Err(problem(format!("{DATASET_TYPE} says `{other}`; classification and retrieval are supported")));
        }
    };
    let train = folder.join("train");
    Ok(EvalTask {
        name: folder_name(folder),
        folder: folder.to_path_buf(),
        kind,
        test: folder.join("test"),
        train: train.join(SHARD_COUNT).is_file().then_some(train),
    })
}

fn zero_shot(classes: Vec<String>, templates: Vec<String>, place: &str) -> std::result::Result<EvalKind, String> {
    if classes.is_empty() {
        return Err(format!("zero-shot without {place}"));
    }
    let templates = if templates.is_empty() { vec!["{}".to_string()] } else { templates };
    match templates.iter().find(|t| !t.contains("{}") && !t.contains("{c}")) {
        Some(bad) => Err(format!("template `{bad}` has no `{{}}` or `{{c}}` for the class name")),
        None => Ok(EvalKind::ZeroShot { classes, templates }),
    }
}

/// The lines of a file without outer white space; empty ones at its end are no lines.
fn lines(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(DataError::io("read", path))?;
    Ok(text.trim_end().lines().map(|line| line.trim().to_string()).collect())
}

/// The folder's own name, also where it was given as `.` or with `..` at its end.
fn folder_name(folder: &Path) -> String {
    let real = folder.file_name().is_none().then(|| folder.canonicalize().ok()).flatten();
    real.as_deref().unwrap_or(folder).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
