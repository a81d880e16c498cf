//! Flags that people paste from scripts for open_clip and its kin, and why they do nothing here.

const ONE_PROCESS: &str = "training runs in one process on one device";
const OWN_NAMES: &str = "preset sizes are set by --model and --set model.KEY=VALUE";
const SHARDS: &str =
    "what a source is, and where its pictures and captions are, is found out: --train-data, --json-text-key";
const TASKS: &str = "tasks are folders: --set evaluation.tasks=[\"FOLDER\"]";
const STEPS: &str = "intervals are in steps, not epochs: --set checkpoint.every=STEPS or --set evaluation.every=STEPS";
const PLAIN: &str = "the whole model is trained, its activations are kept, and no PyTorch runs";
const RECORD: &str = "the record is metrics.jsonl, timing.jsonl, summary.json and report.html in the run folder";

/// Flags by the reason that keeps them out.
const FOREIGN: &[(&str, &[&str])] = &[
    (
        ONE_PROCESS,
        &[
            "dist-url",
            "dist-backend",
            "no-set-device-rank",
            "local-loss",
            "gather-with-grad",
            "loss-dist-impl",
            "horovod",
            "ddp-static-graph",
            "use-bn-sync",
        ],
    ),
    (OWN_NAMES, &["force-quick-gelu", "force-patch-dropout", "force-custom-text"]),
    (SHARDS, &["dataset-type", "image-key", "text-key", "json-text-key-probs"]),
    ("shards are shuffled and read once an epoch, never resampled", &["dataset-resampled"]),
    (
        TASKS,
        &[
            "val-data",
            "val-num-samples",
            "imagenet-val",
            "imagenet-v2",
            "val-retrieval-chunk-size",
            "val-retrieval-precision",
        ],
    ),
    (STEPS, &["save-frequency", "val-frequency", "zeroshot-frequency"]),
    ("--set checkpoint.keep=N says how many checkpoints are kept", &["save-most-recent", "delete-previous-checkpoint"]),
    (
        "every step is recorded; --log-every-n-steps spaces the lines on the terminal",
        &["log-metric-every-n-steps", "train-loss-ema-samples"],
    ),
    (RECORD, &["report-to", "wandb-notes", "wandb-project-name", "tensorboard", "debug", "copy-codebase", "log-local"]),
    (
        "the run folder stays on this machine; copy it when the run has ended",
        &["remote-sync", "remote-sync-frequency", "remote-sync-protocol"],
    ),
    (
        "the optimiser is AdamW; decay reaches what --set optimizer.decay_on=kernels or ndim>1 says",
        &["opt", "opt-kwargs", "wd-exclude", "momentum"],
    ),
    (
        "--lr-scheduler is cosine or const",
        &["epochs-cooldown", "lr-cooldown-end", "lr-cooldown-power", "skip-scheduler"],
    ),
    ("a batch is one forward and backward; choose --batch-size that fits the device", &["accum-freq"]),
    (
        PLAIN,
        &[
            "lock-image",
            "lock-image-unlocked-groups",
            "lock-image-freeze-bn-stats",
            "lock-text",
            "lock-text-unlocked-layers",
            "lock-text-freeze-layer-norm",
            "grad-checkpointing",
            "torchscript",
            "torchcompile",
            "trace",
        ],
    ),
    ("first parameters come from a checkpoint folder: --set init=FOLDER", &["pretrained", "pretrained-image"]),
    ("pictures are not augmented, so that learner and reference score the same pixels", &["aug-cfg"]),
    ("the objective is --objective sigmoid, with logit_scale 10 and logit_bias -10 to begin with", &["siglip"]),
    (
        "the reference selects examples, it does not teach: --reference FOLDER",
        &["distill-model", "distill-pretrained", "distill"],
    ),
];

/// Flags of DRRho-CLIP with a counterpart of another name.
const RENAMED: &[(&str, &str)] = &[
    ("ref_model", "--reference"),
    ("ref_model_pretrained", "--reference"),
    ("ref_model_checkpoint", "--reference"),
    ("ref_features_usage", "--selection"),
    ("ref_filter_ratio", "--filter-ratio"),
    ("ref_filter_n_chunks", "--chunks"),
    ("ref_filter_topk", "--selection top_k"),
    ("cache_ref_model_features", "--set selection.cache_reference=true"),
    ("cached_ref_features_dir", "--set selection.cache_reference=true"),
];

/// The answer to a flag as typed, where it is known elsewhere.
pub(super) fn explain(flag: &str) -> Option<String> {
    let name = flag.trim_start_matches('-');
    let as_renamed = name.replace('-', "_");
    if let Some((_, ours)) = RENAMED.iter().find(|(theirs, _)| *theirs == as_renamed) {
        return Some(format!("{flag}: known in DRRho-CLIP; here it is {ours}"));
    }
    let (reason, _) = FOREIGN.iter().find(|(_, names)| names.contains(&name))?;
    Some(format!("{flag}: known in open_clip, not supported here: {reason}"))
}

/// All names above, for the test that none of them is ours.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FOREIGN.iter().flat_map(|(_, names)| names.iter().copied()).chain(RENAMED.iter().map(|(name, _)| *name))
}
