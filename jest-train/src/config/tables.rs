//! The tables of a run that mean what they say: each is read, defaulted and written as it stands here.

use std::path::PathBuf;

use jest_data::{CaptionChoice, Interpolation, ResizeMode};
use serde::{Deserialize, Serialize};

use super::values::one_or_many;
use crate::schedule::Decay;

/// Loss of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// Every pair on its own (SigLIP).
    #[default]
    Sigmoid,
    /// Cross-entropy over rows and columns (CLIP).
    Softmax,
}

/// `[data]`: what is trained on, and how it is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataPlan {
    /// Sources: shards with brace ranges, folders or files, each with an optional `name=` in front; `::` joins several.
    #[serde(deserialize_with = "one_or_many")]
    pub train: Vec<String>,
    /// How often an example of each source of `train` comes, relative to the others; none for equally often.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub upsampling_factors: Vec<f64>,
    /// Which of several captions an example has: the first, or one drawn anew each epoch.
    pub captions: CaptionChoice,
    /// Keys of the JSON beside a picture that hold captions, by priority; none for the text beside it.
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub json_text_key: Vec<String>,
    /// Column of pictures in tables and Parquet files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csv_img_key: Option<String>,
    /// Column of captions in tables and Parquet files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csv_caption_key: Option<String>,
    /// Character between the columns of a table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csv_separator: Option<char>,
    /// DataComp subset file: the only examples that are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subset: Option<PathBuf>,
    /// `FIELD=VALUE` of the JSON beside a picture: the only examples that are used.
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub r#where: Vec<String>,
    /// Examples in `train`, for a length in epochs; counted where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_examples: Option<u64>,
    /// Threads that read and decode.
    pub workers: usize,
    /// Examples among which the order is shuffled.
    pub shuffle_buffer: usize,
    /// MiB of decoded examples kept for the next epoch; 0 for none.
    pub cache_mb: u64,
    /// Shards that may be missing at the start; none for all but one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_missing_shards: Option<u64>,
    /// Share of examples that may be skipped before the run ends with an error.
    pub max_skipped_share: f64,
    /// Pixels of a picture above which it is skipped, by its header.
    pub max_image_pixels: u64,
    /// MiB of a file in a shard above which it is skipped.
    pub max_member_mb: u64,
    /// Bytes after which a caption is cut.
    pub max_caption_bytes: usize,
    /// How a picture becomes a square.
    pub resize_mode: ResizeMode,
    /// By which filter.
    pub interpolation: Interpolation,
    /// Subtracted from red, green and blue between 0 and 1.
    pub image_mean: [f32; 3],
    /// Divides what is left.
    pub image_std: [f32; 3],
}

impl Default for DataPlan {
    fn default() -> Self {
        Self {
            train: Vec::new(),
            upsampling_factors: Vec::new(),
            captions: CaptionChoice::First,
            json_text_key: Vec::new(),
            csv_img_key: None,
            csv_caption_key: None,
            csv_separator: None,
            subset: None,
            r#where: Vec::new(),
            num_examples: None,
            workers: 2,
            shuffle_buffer: 5000,
            cache_mb: 1024,
            max_missing_shards: None,
            max_skipped_share: 0.5,
            max_image_pixels: 25_000_000,
            max_member_mb: 64,
            max_caption_bytes: 8192,
            resize_mode: ResizeMode::Squash,
            interpolation: Interpolation::Bicubic,
            image_mean: [0.5; 3],
            image_std: [0.5; 3],
        }
    }
}

/// `[selection.approximation]`: what of the towers is left out at the cheap view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Approximated {
    /// Side of a patch; the stored kernels are resized.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch_size: Option<usize>,
    /// Patches that are seen of a picture, drawn at random.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_tokens: Option<usize>,
    /// Leading tokens that are seen of a caption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_tokens: Option<usize>,
}

impl Approximated {
    /// Whether nothing is left out.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// What is done to a caption before its tokens are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Canonicalize {
    /// Nothing beyond what the tokenizer file says.
    #[default]
    None,
    /// Lower case.
    Lower,
    /// Lower case, no punctuation, single spaces: SigLIP 1 as big_vision cleans it.
    BigVision,
    /// As `big_vision`, after ftfy and HTML references: SigLIP as open_clip cleans it.
    OpenClip,
    /// As `big_vision`, but `_` is removed: SigLIP 1 as transformers cleans it.
    Hf,
    /// ftfy, HTML references, single spaces, lower case: CLIP as open_clip cleans it.
    Clip,
}

/// What padding tokens do in attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Padding {
    /// They take part (SigLIP).
    #[default]
    Attended,
    /// Attention does not see them.
    Masked,
}

/// The token that the text embedding is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextPool {
    /// The last position, padding or not (SigLIP).
    #[default]
    Last,
    /// The end of the text.
    Eos,
    /// The mean of its tokens.
    Mean,
    /// The start of the text, through BERT's pooler.
    Pooler,
}

/// `[text]`: how captions become tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextPlan {
    /// `clip`, or a `tokenizer.json`, SentencePiece `.model` or `vocab.txt`, or a folder that holds one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// Id that pads, where not the tokenizer's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pad_id: Option<u32>,
    /// What is done to a caption first.
    pub canonicalize: Canonicalize,
    /// What padding does in attention.
    pub padding: Padding,
    /// Where the embedding is read; the model family's where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<TextPool>,
    /// Whether texts are computed without padding that no result depends on; wherever there is such where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packing: Option<bool>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// `[model]`: a preset by name, and what differs from it. The preset's own table is jest-model's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the sizes are named as in the glossary and explained by jest-model's configuration")]
pub struct ModelPlan {
    pub preset: String,
    pub family: jest_model::Family,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch_size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_heads: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mlp_dim: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_width: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_depth: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_num_heads: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_mlp_dim: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_dim: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gelu: Option<jest_model::Activation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_logit_scale: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_logit_bias: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_logit_scale: Option<f64>,
    #[serde(skip_serializing_if = "is_default")]
    pub lock_image: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub lock_text: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub lock_image_unlocked_groups: usize,
    #[serde(skip_serializing_if = "is_default")]
    pub lock_text_unlocked_layers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_interpolation: Option<jest_model::Interpolation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_text_positions: Option<jest_model::TextPositions>,
}

/// Parameters that weight decay reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum DecayOn {
    /// Weights of matrix products alone (big_vision).
    #[default]
    #[serde(rename = "kernels")]
    Kernels,
    /// Everything of two dimensions or more, embeddings and position tables too (open_clip).
    #[serde(rename = "ndim>1")]
    Matrices,
}

/// `[optimizer]`: AdamW, with the paper's values as defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerPlan {
    /// Peak learning rate.
    pub lr: f64,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root of that mean.
    pub eps: f64,
    /// Weight decay, in the terms of `decay`.
    pub weight_decay: f64,
    /// What weight decay is multiplied by.
    pub decay: Decay,
    /// Parameters it reaches.
    pub decay_on: DecayOn,
    /// Norm of the whole gradient above which it is scaled down; `inf` for never.
    pub grad_clip_norm: f64,
}

impl Default for OptimizerPlan {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 1e-4,
            decay: Decay::Schedule,
            decay_on: DecayOn::Kernels,
            grad_clip_norm: 1.0,
        }
    }
}

/// `[memory]`: what is computed twice in order to be kept for a shorter time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryPlan {
    /// Examples whose activations are held at once; a whole sub-batch where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<usize>,
    /// Whether only the inputs of blocks are kept for the backward pass.
    pub recompute: bool,
}

/// `[distillation]`: what is learnt of the reference beside the objective.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistillationPlan {
    /// Factor on the loss of distillation; 0 for none.
    pub weight: f64,
}

/// `[checkpoint]`: when the run is saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointPlan {
    /// Steps between checkpoints; 0 for the end alone.
    pub every: u64,
    /// Checkpoints kept, the newest.
    pub keep: usize,
}

impl Default for CheckpointPlan {
    fn default() -> Self {
        Self { every: 1000, keep: 2 }
    }
}

/// `[evaluation]`: what is measured, and when.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluationPlan {
    /// Folders of tasks.
    #[serde(deserialize_with = "one_or_many")]
    pub tasks: Vec<PathBuf>,
    /// Steps between evaluations; 0 for the end alone.
    pub every: u64,
}

/// Where events go beside the files of the run folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportTo {
    /// Nowhere.
    #[default]
    None,
    /// TensorBoard's event files in the run folder.
    Tensorboard,
}

/// `[logging]`: how often progress is told, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoggingPlan {
    /// Steps between lines where there is no terminal for a bar.
    pub every: u64,
    /// Where events go as well.
    pub report_to: ReportTo,
}

impl Default for LoggingPlan {
    fn default() -> Self {
        Self { every: 10, report_to: ReportTo::None }
    }
}
