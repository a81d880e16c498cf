//! Flags that people paste from scripts for open_clip and its kin. One that changes nothing of what is learned is passed over with a note;
//! one that would is refused with the reason, and with what to use instead.

use std::ffi::OsString;

const ONE_PROCESS: &str = "training runs in one process on one device";
const OWN_NAMES: &str = "preset sizes are set by --model and --set model.KEY=VALUE";
const SHARDS: &str =
    "what a source is, and where its pictures and captions are, is found out: --train-data, --json-text-key";
const TASKS: &str = "tasks are folders: --set evaluation.tasks=[\"FOLDER\"]";
const STEPS: &str = "intervals are in steps, not epochs: --set checkpoint.every=STEPS or --set evaluation.every=STEPS";
const PART: &str = "layers are locked as a whole, norms too, and there is no batch norm: --lock-image-unlocked-groups, --lock-text-unlocked-layers";
const KEPT: &str = "--set checkpoint.keep=N says how many checkpoints are kept";
const RECORD: &str = "the record is metrics.jsonl, timing.jsonl, summary.json and report.html in the run folder, and --report-to tensorboard";
const LOCAL: &str = "the run folder stays on this machine; copy it when the run has ended";

/// A flag without a value, passed over.
const BARE: &[(&str, &str)] = &[
    ("local-loss", ONE_PROCESS),
    ("gather-with-grad", ONE_PROCESS),
    ("no-set-device-rank", ONE_PROCESS),
    ("horovod", ONE_PROCESS),
    ("ddp-static-graph", ONE_PROCESS),
    ("use-bn-sync", ONE_PROCESS),
    ("torchscript", "kernels are compiled already"),
    ("torchcompile", "kernels are compiled already"),
    ("trace", "kernels are compiled already"),
    ("save-most-recent", KEPT),
    ("delete-previous-checkpoint", KEPT),
    ("debug", RECORD),
    ("copy-codebase", RECORD),
    ("log-local", RECORD),
    ("siglip", "--objective sigmoid is the default, with logit_scale 10 and logit_bias -10 to begin with"),
];

/// A flag with a value, passed over.
const VALUED: &[(&str, &str)] = &[
    ("dist-url", ONE_PROCESS),
    ("dist-backend", ONE_PROCESS),
    ("loss-dist-impl", ONE_PROCESS),
    ("val-data", TASKS),
    ("val-num-samples", TASKS),
    ("imagenet-val", TASKS),
    ("imagenet-v2", TASKS),
    ("val-retrieval-chunk-size", TASKS),
    ("val-retrieval-precision", TASKS),
    ("save-frequency", STEPS),
    ("val-frequency", STEPS),
    ("zeroshot-frequency", STEPS),
    ("log-metric-every-n-steps", "every step is recorded; --log-every-n-steps spaces the lines on the terminal"),
    ("train-loss-ema-samples", "every step is recorded; --log-every-n-steps spaces the lines on the terminal"),
    ("wandb-notes", RECORD),
    ("wandb-project-name", RECORD),
    ("remote-sync", LOCAL),
    ("remote-sync-frequency", LOCAL),
    ("remote-sync-protocol", LOCAL),
    ("cache-dir", "weights are read from folders: --set init=FOLDER"),
];

/// A flag that is passed over with these values alone; without a reason it says what is done here anyway.
const WITH_VALUES: &[(&str, &[&str], Option<&str>)] = &[
    ("dataset-type", &["webdataset", "auto"], None),
    ("opt", &["adamw"], None),
    ("accum-freq", &["1"], None),
    ("lr-cooldown-end", &["0"], None),
    ("report-to", &["wandb", "trackio"], Some(RECORD)),
];

/// A flag with another word for what is meant.
const REWORDED: &[(&str, &str, &str)] = &[
    ("precision", "fp32", "f32"),
    ("precision", "amp", "f16"),
    ("precision", "fp16", "f16"),
    ("precision", "pure_fp16", "f16"),
    ("precision", "amp_bf16", "bf16"),
    ("precision", "amp_bfloat16", "bf16"),
    ("precision", "pure_bf16", "bf16"),
    ("report-to", "", "none"),
    ("report-to", "all", "tensorboard"),
    ("report-to", "wandb,tensorboard", "tensorboard"),
    ("report-to", "tensorboard,wandb", "tensorboard"),
];

/// Flags by the reason that keeps them out.
const FOREIGN: &[(&str, &[&str])] = &[
    (OWN_NAMES, &["force-quick-gelu", "force-patch-dropout", "force-custom-text"]),
    (SHARDS, &["dataset-type", "image-key", "text-key", "json-text-key-probs"]),
    ("shards are shuffled and read once an epoch, never resampled", &["dataset-resampled"]),
    (
        "the optimiser is AdamW; decay reaches what --set optimizer.decay_on=kernels or ndim>1 says",
        &["opt", "opt-kwargs", "wd-exclude", "momentum"],
    ),
    (
        "--lr-scheduler is cosine or const",
        &["epochs-cooldown", "lr-cooldown-end", "lr-cooldown-power", "skip-scheduler"],
    ),
    ("--batch-size is that of an update; --micro-batch N computes it in pieces that fit the device", &["accum-freq"]),
    (PART, &["lock-image-freeze-bn-stats", "lock-text-freeze-layer-norm"]),
    (
        "the loss is that of --objective sigmoid or softmax",
        &["coca-caption-loss-weight", "coca-contrastive-loss-weight"],
    ),
    ("numbers are f32, or f16 or bf16 as operands: --precision f16", &["use-bnb-linear"]),
    (
        "first parameters come from a folder: --set init=FOLDER or init_image=FOLDER",
        &["pretrained", "pretrained-image"],
    ),
    ("crops, flips and colours are keys: --set augmentation.scale=[0.9,1]", &["aug-cfg"]),
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

/// What becomes of an argument that open_clip knows.
enum Fate {
    /// It is read as it stands.
    Kept,
    /// It is left out, with its value where it has one; the reason is told where there is one.
    PassedOver { value: bool, why: Option<&'static str> },
    /// It is read with this value in place of its own.
    Reworded(&'static str),
}

fn fate(name: &str, value: Option<&str>) -> Fate {
    let reason =
        |list: &[(&'static str, &'static str)]| list.iter().find(|(known, _)| *known == name).map(|(_, why)| *why);
    if let Some(why) = reason(BARE) {
        return Fate::PassedOver { value: false, why: Some(why) };
    }
    if let Some(why) = reason(VALUED) {
        return Fate::PassedOver { value: true, why: Some(why) };
    }
    let Some(value) = value else { return Fate::Kept };
    if let Some((.., ours)) = REWORDED.iter().find(|(known, theirs, _)| (*known, *theirs) == (name, value)) {
        return Fate::Reworded(ours);
    }
    match WITH_VALUES.iter().find(|(known, values, _)| *known == name && values.contains(&value)) {
        Some((.., why)) => Fate::PassedOver { value: true, why: *why },
        None => Fate::Kept,
    }
}

/// Arguments without the flags that are passed over, and a note for each of those.
pub(super) fn pass_over(args: impl IntoIterator<Item = OsString>) -> (Vec<OsString>, Vec<(String, &'static str)>) {
    let (mut kept, mut notes) = (Vec::new(), Vec::new());
    let mut rest = args.into_iter().peekable();
    while let Some(arg) = rest.next() {
        let text = arg.to_string_lossy().into_owned();
        let Some(typed) = text.strip_prefix("--") else {
            kept.push(arg);
            continue;
        };
        let (name, joined) = typed.split_once('=').map_or((typed, None), |(name, value)| (name, Some(value)));
        // The next argument is a value unless it is a flag itself.
        let next = rest.peek().map(|next| next.to_string_lossy().into_owned()).filter(|next| !next.starts_with("--"));
        let apart = joined.is_none() && next.is_some();
        match fate(name, joined.or(next.as_deref())) {
            Fate::Kept => kept.push(arg),
            Fate::PassedOver { value, why } => {
                notes.extend(why.map(|why| (format!("--{name}"), why)));
                if value && apart {
                    rest.next();
                }
            }
            Fate::Reworded(ours) => {
                kept.push(format!("--{name}={ours}").into());
                if apart {
                    rest.next();
                }
            }
        }
    }
    (kept, notes)
}

/// The preset that is open_clip's model of that name, else the name itself.
pub(super) fn preset(model: &str) -> &str {
    match model {
        "ViT-B-16-SigLIP" => "b224",
        "ViT-B-16-SigLIP-256" => "b256",
        "ViT-L-16-SigLIP-256" => "l256",
        "ViT-SO400M-14-SigLIP" => "so400m",
        own => own,
    }
}

/// All names that are answered whatever their value, for the tests that none of them is ours and that none is missing.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let refused = FOREIGN.iter().flat_map(|(_, names)| names.iter().copied());
    refused.chain(RENAMED.iter().map(|(name, _)| *name)).chain(BARE.iter().chain(VALUED).map(|(name, _)| *name))
}
