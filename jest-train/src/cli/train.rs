//! `jest train`: flags with open_clip's names where they mean the same.

use std::path::{Path, PathBuf};

use clap::Args;
use jest_kernels::Precision;
use jest_select::Method;
use toml::Value;

use crate::config::{ConfigError, Note, Override, Overrides, Resolved, RunPlan, Surroundings, resolve};
use crate::error::Result;

/// Arguments of `jest train`. Flags set shared keys of the configuration; a key that a `[[run]]` sets itself wins.
#[derive(Debug, Clone, Default, Args)]
pub struct TrainArgs {
    /// Configuration file; without it, flags alone make the plan
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set any key: table.key=value, or run.NAME.table.key=value for one run; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub assignments: Vec<String>,
    /// Go on from a checkpoint: a folder, or `latest`
    #[arg(long, value_name = "FOLDER")]
    pub resume: Option<String>,
    /// Print the plan and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Also time every kernel of ten steps of each run, which go slower: a table and a Chrome trace in the run folder
    #[arg(long)]
    pub profile: bool,
    /// At most 20 steps a run, in a folder of their own: does it all fit together?
    #[arg(long)]
    pub smoke: bool,
    /// Name of the run and of its folder [default: the configuration's, or train]
    #[arg(long)]
    pub name: Option<String>,
    /// Folder of run folders
    #[arg(long, value_name = "FOLDER")]
    pub logs: Option<String>,
    /// Whether these are of `jest reference train`.
    #[arg(skip)]
    pub is_reference: bool,
    /// Flags of open_clip that change nothing here, and why.
    #[arg(skip)]
    pub passed_over: Vec<(String, &'static str)>,
    #[expect(missing_docs, reason = "flattened: its fields are documented")]
    #[command(flatten)]
    pub keys: KeyFlags,
}

/// Flags that set one key each; `--help` names the key.
#[derive(Debug, Clone, Default, Args)]
pub struct KeyFlags {
    /// out: the run folder
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<String>,
    /// device: auto, cpu, gpu, gpu:N, or a part of an adapter's name
    #[arg(long)]
    pub device: Option<String>,
    /// threads of the CPU device
    #[arg(long)]
    pub threads: Option<i64>,
    /// most MiB that all tensors take on a GPU together
    #[arg(long, value_name = "MIB")]
    pub device_mb: Option<i64>,
    /// precision of products: f32, f16 or bf16
    #[arg(long)]
    pub precision: Option<Precision>,
    /// autotune = false: the usual tiles of matrix products, without timing them on a real GPU
    #[arg(long)]
    pub no_autotune: bool,
    /// seed of parameters, order and noise
    #[arg(long)]
    pub seed: Option<i64>,
    /// data.train: shards with brace ranges, folders or files; `::` joins sources
    #[arg(long, value_name = "SHARDS", help_heading = "Data")]
    pub train_data: Option<String>,
    /// data.upsampling_factors: how often an example of each source comes, e.g. 1::2
    #[arg(long, value_name = "A::B", help_heading = "Data")]
    pub train_data_upsampling_factors: Option<String>,
    /// data.json_text_key: key of the JSON beside a picture that holds the caption
    #[arg(long, value_name = "KEY", help_heading = "Data")]
    pub json_text_key: Option<String>,
    /// data.csv_img_key: column of pictures in a table
    #[arg(long, value_name = "COLUMN", help_heading = "Data")]
    pub csv_img_key: Option<String>,
    /// data.csv_caption_key: column of captions in a table
    #[arg(long, value_name = "COLUMN", help_heading = "Data")]
    pub csv_caption_key: Option<String>,
    /// data.csv_separator: character between columns
    #[arg(long, value_name = "CHARACTER", help_heading = "Data")]
    pub csv_separator: Option<String>,
    /// data.num_examples
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub train_num_samples: Option<i64>,
    /// data.workers
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub workers: Option<i64>,
    /// data.max_image_pixels
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub max_image_pixels: Option<i64>,
    /// data.image_mean: red, green and blue
    #[arg(long, num_args = 3, value_names = ["R", "G", "B"], help_heading = "Data")]
    pub image_mean: Option<Vec<f64>>,
    /// data.image_std: red, green and blue
    #[arg(long, num_args = 3, value_names = ["R", "G", "B"], help_heading = "Data")]
    pub image_std: Option<Vec<f64>>,
    /// data.interpolation: bicubic, bilinear
    #[arg(long, value_name = "FILTER", help_heading = "Data")]
    pub image_interpolation: Option<String>,
    /// data.resize_mode: squash, shortest, longest
    #[arg(long, value_name = "MODE", help_heading = "Data")]
    pub image_resize_mode: Option<String>,
    /// text.tokenizer: clip, a tokenizer.json, .model or vocab.txt, or a folder that holds one
    #[arg(long, value_name = "PATH", help_heading = "Data")]
    pub tokenizer: Option<String>,
    /// model.preset
    #[arg(long, value_name = "PRESET", help_heading = "Model")]
    pub model: Option<String>,
    /// model.image_size
    #[arg(long, value_name = "PIXELS", help_heading = "Model")]
    pub force_image_size: Option<i64>,
    /// model.text_tokens
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub force_context_length: Option<i64>,
    /// model.lock_image: the image tower is not trained
    #[arg(long, help_heading = "Model")]
    pub lock_image: bool,
    /// model.lock_text: the text tower is not trained
    #[arg(long, help_heading = "Model")]
    pub lock_text: bool,
    /// model.lock_image_unlocked_groups: parts of a locked image tower that are trained, from its end
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub lock_image_unlocked_groups: Option<i64>,
    /// model.lock_text_unlocked_layers: parts of a locked text tower that are trained, from its end
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub lock_text_unlocked_layers: Option<i64>,
    /// reference: an earlier run, or a checkpoint folder
    #[arg(long, value_name = "RUN|FOLDER", help_heading = "Selection")]
    pub reference: Option<String>,
    /// selection.method: joint, independent, top_k, uniform
    #[arg(long, value_name = "METHOD", help_heading = "Selection")]
    pub selection: Option<String>,
    /// selection.score: learnability, easy_reference, hard_learner
    #[arg(long, help_heading = "Selection")]
    pub score: Option<String>,
    /// selection.filter_ratio: share of the examples drawn that is not trained on
    #[arg(long, value_name = "SHARE", help_heading = "Selection")]
    pub filter_ratio: Option<f64>,
    /// selection.super_batch, in place of a filter ratio
    #[arg(long, value_name = "N", help_heading = "Selection")]
    pub super_batch: Option<i64>,
    /// selection.chunks
    #[arg(long, value_name = "N", help_heading = "Selection")]
    pub chunks: Option<i64>,
    /// selection.gain: a number, or inf
    #[arg(long, help_heading = "Selection")]
    pub gain: Option<f64>,
    /// objective: sigmoid, softmax
    #[arg(long, help_heading = "Optimisation")]
    pub objective: Option<String>,
    /// batch_size: examples of one update
    #[arg(long, value_name = "N", help_heading = "Optimisation")]
    pub batch_size: Option<i64>,
    /// memory.micro_batch: examples whose activations are held at once
    #[arg(long, value_name = "N", help_heading = "Optimisation")]
    pub micro_batch: Option<i64>,
    /// memory.recompute: keep the inputs of blocks alone, and compute the rest again
    #[arg(long, visible_alias = "grad-checkpointing", help_heading = "Optimisation")]
    pub recompute: bool,
    /// steps: updates
    #[arg(long, value_name = "N", help_heading = "Optimisation")]
    pub steps: Option<i64>,
    /// epochs, in place of steps
    #[arg(long, value_name = "N", help_heading = "Optimisation")]
    pub epochs: Option<f64>,
    /// optimizer.lr
    #[arg(long, help_heading = "Optimisation")]
    pub lr: Option<f64>,
    /// optimizer.weight_decay, multiplied by the learning rate as in open_clip
    #[arg(long, help_heading = "Optimisation")]
    pub wd: Option<f64>,
    /// optimizer.beta1
    #[arg(long, help_heading = "Optimisation")]
    pub beta1: Option<f64>,
    /// optimizer.beta2
    #[arg(long, help_heading = "Optimisation")]
    pub beta2: Option<f64>,
    /// optimizer.eps
    #[arg(long, help_heading = "Optimisation")]
    pub eps: Option<f64>,
    /// optimizer.grad_clip_norm
    #[arg(long, value_name = "NORM", help_heading = "Optimisation")]
    pub grad_clip_norm: Option<f64>,
    /// schedule.warmup: steps, or a share such as 1%
    #[arg(long, value_name = "STEPS|SHARE", help_heading = "Optimisation")]
    pub warmup: Option<String>,
    /// schedule.kind: cosine, const
    #[arg(long, value_name = "KIND", help_heading = "Optimisation")]
    pub lr_scheduler: Option<String>,
    /// logging.report_to: none, tensorboard
    #[arg(long, value_name = "WHERE", help_heading = "Optimisation")]
    pub report_to: Option<String>,
    /// logging.every: steps between lines where there is no terminal
    #[arg(long, value_name = "N", help_heading = "Optimisation")]
    pub log_every_n_steps: Option<i64>,
}

impl TrainArgs {
    /// Reads the configuration and works out the plan.
    ///
    /// # Errors
    /// `Config`.
    pub fn plan(&self, around: &Surroundings<'_>) -> Result<Resolved> {
        let text = match &self.config {
            None => String::new(),
            Some(path) => {
                let unread = |source| ConfigError::Read { path: path.clone(), source };
                std::fs::read_to_string(path).map_err(unread)?
            }
        };
        let title = self.config.as_deref().and_then(Path::file_stem).and_then(|stem| stem.to_str());
        let mut resolved = resolve(&text, title, &self.overrides()?, around)?;
        let selects = |run: &&RunPlan| self.is_reference && run.selection.method != Method::Uniform;
        if let Some(run) = resolved.plan.runs.iter().find(selects) {
            let (run, other) = (run.name.clone(), "jest reference train".to_owned());
            let remedy = "a reference is trained on every example; train this run with jest train";
            return Err(ConfigError::Apart { run, key: "selection.method", other, remedy }.into());
        }
        if self.keys.wd.is_some() {
            resolved.notes.push(Note::TorchDecay);
        }
        let passed_over = self.passed_over.iter();
        resolved.notes.extend(passed_over.map(|(flag, reason)| Note::PassedOver { flag: flag.clone(), reason }));
        Ok(resolved)
    }

    /// What the flags set; `--set` comes last and wins over a flag.
    ///
    /// # Errors
    /// `Assignment`, for a `--set` that is none.
    pub fn overrides(&self) -> std::result::Result<Overrides, ConfigError> {
        let mut keys = self.keys.overrides();
        for assignment in &self.assignments {
            keys.push(Override::parse(assignment)?);
        }
        let name = self.name.clone();
        if !self.is_reference {
            return Ok(Overrides { keys, name, logs: self.logs.clone(), smoke: self.smoke });
        }
        keys.push(Override::new("jest reference train", "selection.method", Method::Uniform.to_string()));
        let name = Some(name.unwrap_or_else(|| "reference".to_owned()));
        Ok(Overrides { keys, name, logs: self.logs.clone(), smoke: self.smoke })
    }
}

impl KeyFlags {
    fn overrides(&self) -> Vec<Override> {
        let (text, integer, number) = (texts, integers, numbers);
        let steps_or_share = |text: &String| text.parse::<i64>().map_or_else(|_| text.as_str().into(), Value::from);
        let warmup = self.warmup.as_ref().map(steps_or_share);
        let all = [
            ("--out", "out", text(&self.out)),
            ("--device", "device", text(&self.device)),
            ("--threads", "threads", integer(self.threads)),
            ("--device-mb", "device_mb", integer(self.device_mb)),
            ("--precision", "precision", self.precision.map(|precision| Value::from(precision.to_string()))),
            ("--no-autotune", "autotune", self.no_autotune.then(|| Value::from(false))),
            ("--seed", "seed", integer(self.seed)),
            ("--train-data", "data.train", text(&self.train_data)),
            (
                "--train-data-upsampling-factors",
                "data.upsampling_factors",
                factors(&self.train_data_upsampling_factors),
            ),
            ("--json-text-key", "data.json_text_key", text(&self.json_text_key)),
            ("--csv-img-key", "data.csv_img_key", text(&self.csv_img_key)),
            ("--csv-caption-key", "data.csv_caption_key", text(&self.csv_caption_key)),
            (
                "--csv-separator",
                "data.csv_separator",
                text(&self.csv_separator.as_ref().map(|s| s.replace("\\t", "\t"))),
            ),
            ("--train-num-samples", "data.num_examples", integer(self.train_num_samples)),
            ("--workers", "data.workers", integer(self.workers)),
            ("--max-image-pixels", "data.max_image_pixels", integer(self.max_image_pixels)),
            ("--tokenizer", "text.tokenizer", text(&self.tokenizer)),
            ("--model", "model.preset", self.model.as_deref().map(|model| super::foreign::preset(model).into())),
            ("--force-image-size", "model.image_size", integer(self.force_image_size)),
            ("--force-context-length", "model.text_tokens", integer(self.force_context_length)),
            ("--reference", "reference", text(&self.reference)),
            ("--selection", "selection.method", text(&self.selection)),
            ("--score", "selection.score", text(&self.score)),
            ("--filter-ratio", "selection.filter_ratio", number(self.filter_ratio)),
            ("--super-batch", "selection.super_batch", integer(self.super_batch)),
            ("--chunks", "selection.chunks", integer(self.chunks)),
            ("--gain", "selection.gain", number(self.gain)),
            ("--objective", "objective", text(&self.objective)),
            ("--batch-size", "batch_size", integer(self.batch_size)),
            ("--steps", "steps", integer(self.steps)),
            ("--epochs", "epochs", number(self.epochs)),
            ("--lr", "optimizer.lr", number(self.lr)),
            ("--wd", "optimizer.weight_decay", number(self.wd)),
            ("--wd", "optimizer.decay", self.wd.map(|_| Value::from("lr"))),
            ("--beta1", "optimizer.beta1", number(self.beta1)),
            ("--beta2", "optimizer.beta2", number(self.beta2)),
            ("--eps", "optimizer.eps", number(self.eps)),
            ("--grad-clip-norm", "optimizer.grad_clip_norm", number(self.grad_clip_norm)),
            ("--warmup", "schedule.warmup", warmup),
            ("--lr-scheduler", "schedule.kind", text(&self.lr_scheduler)),
            ("--report-to", "logging.report_to", text(&self.report_to)),
            ("--log-every-n-steps", "logging.every", integer(self.log_every_n_steps)),
        ];
        let all = all.into_iter().chain(self.pixels()).chain(self.locks()).chain(self.memory());
        all.filter_map(|(flag, path, value)| Some(Override::new(flag, path, value?))).collect()
    }

    /// Towers that are not trained.
    fn locks(&self) -> [(&'static str, &'static str, Option<Value>); 4] {
        let set = |locked: bool| locked.then(|| Value::from(true));
        [
            ("--lock-image", "model.lock_image", set(self.lock_image)),
            ("--lock-text", "model.lock_text", set(self.lock_text)),
            (
                "--lock-image-unlocked-groups",
                "model.lock_image_unlocked_groups",
                self.lock_image_unlocked_groups.map(Value::from),
            ),
            (
                "--lock-text-unlocked-layers",
                "model.lock_text_unlocked_layers",
                self.lock_text_unlocked_layers.map(Value::from),
            ),
        ]
    }

    /// What is kept for backward passes.
    fn memory(&self) -> [(&'static str, &'static str, Option<Value>); 2] {
        [
            ("--micro-batch", "memory.micro_batch", self.micro_batch.map(Value::from)),
            ("--recompute", "memory.recompute", self.recompute.then(|| Value::from(true))),
        ]
    }

    /// How pictures are made.
    fn pixels(&self) -> [(&'static str, &'static str, Option<Value>); 4] {
        [
            ("--image-mean", "data.image_mean", self.image_mean.clone().map(Value::from)),
            ("--image-std", "data.image_std", self.image_std.clone().map(Value::from)),
            ("--image-interpolation", "data.interpolation", texts(&self.image_interpolation)),
            ("--image-resize-mode", "data.resize_mode", texts(&self.image_resize_mode)),
        ]
    }
}

fn texts(value: &Option<String>) -> Option<Value> {
    value.as_deref().map(Value::from)
}

fn integers(value: Option<i64>) -> Option<Value> {
    value.map(Value::from)
}

fn numbers(value: Option<f64>) -> Option<Value> {
    value.map(Value::from)
}

/// Numbers joined by `::`; what is none stays a text, for the configuration to refuse.
fn factors(value: &Option<String>) -> Option<Value> {
    let number = |text: &str| text.trim().parse::<f64>().map_or_else(|_| Value::from(text), Value::from);
    value.as_deref().map(|text| Value::Array(text.split("::").map(number).collect()))
}
