//! Arguments and answers.

use super::*;
use crate::config::{ConfigError, Note, Surroundings};
use crate::error::TrainError;

fn parsed(line: &str) -> std::result::Result<Command, Usage> {
    parse(std::iter::once("jest").chain(line.split_whitespace()).map(OsString::from))
}

fn train(line: &str) -> TrainArgs {
    match parsed(&format!("train {line}")) {
        Ok(Command::Train(args)) => *args,
        Ok(other) => panic!("{other:?}"),
        Err(Usage::Foreign(text)) => panic!("{text}"),
        Err(Usage::Clap(error)) => panic!("{error}"),
    }
}

fn plan(line: &str) -> crate::config::Resolved {
    train(line).plan(&Surroundings { cores: 2, exists: &|_| true, count: &|_| Ok(1000) }).unwrap()
}

const SHORT: &str = "--train-data a.tar --model mu --batch-size 64 --steps=10";

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn flags_alone_make_a_plan() {
    let resolved =
        plan(&format!("{SHORT} --reference ref --filter-ratio=0.5 --gain inf --warmup 50% --seed 3 --logs l --name n"));
    let run = &resolved.plan.runs[0];
    assert_eq!((run.name.as_str(), run.steps, run.batch_size(), run.schedule.warmup), ("n", 10, 64, 5));
    assert_eq!((run.selection.sizes.super_batch(), run.selection.sizes.gain()), (128, f32::INFINITY));
    assert_eq!((resolved.plan.seed, resolved.plan.out.to_str()), (3, Some("l/n")));
    assert!(resolved.notes.is_empty());
}

#[test]
fn the_last_of_a_flag_wins_and_set_wins_over_flags() {
    assert_eq!(plan(&format!("{SHORT} --steps 20")).plan.runs[0].steps, 20);
    assert_eq!(plan(&format!("{SHORT} --set steps=30 --steps 20")).plan.runs[0].steps, 30);
    assert_eq!(plan(&format!("{SHORT} --set data.workers=5 --set seed=4")).plan.seed, 4);
}

#[test]
fn pictures_are_made_as_open_clips_flags_say() {
    let flags = "--image-mean 0.48 0.46 0.41 --image-std 0.27 0.26 0.28 --image-interpolation bilinear --image-resize-mode shortest";
    let data = &plan(&format!("{SHORT} {flags}")).plan.runs[0].data;
    assert_eq!((data.image_mean, data.image_std), ([0.48, 0.46, 0.41], [0.27, 0.26, 0.28]));
    let words = (data.resize_mode, data.interpolation);
    assert_eq!(words, (jest_data::ResizeMode::Shortest, jest_data::Interpolation::Bilinear));
}

#[test]
fn weight_decay_of_a_pasted_flag_is_in_its_own_terms() {
    let resolved = plan(&format!("{SHORT} --wd 0.2 --lr 5e-4"));
    let schedule = resolved.plan.runs[0].schedule();
    assert!((schedule.decay_at(0) - 0.2 * schedule.lr_at(0)).abs() < 1e-15);
    assert_eq!(resolved.notes, [Note::TorchDecay]);
}

#[test]
fn a_configuration_that_cannot_be_read_is_named() {
    let error = train("--config no/such.toml")
        .plan(&Surroundings { cores: 2, exists: &|_| true, count: &|_| Ok(1000) })
        .unwrap_err();
    assert!(matches!(&error, TrainError::Config(ConfigError::Read { .. })));
    let text = error.explain();
    assert!(text.starts_with("cannot read the configuration no/such.toml: "), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn flags_known_elsewhere_are_answered() {
    let answer = |flag: &str| match parsed(&format!("train {flag}")) {
        Err(Usage::Foreign(text)) => text,
        Err(Usage::Clap(error)) => panic!("{error}"),
        Ok(command) => panic!("{command:?}"),
    };
    let norms = "--lock-text-freeze-layer-norm: known in open_clip, not supported here: layers are locked as a whole, norms \
                 too, and there is no batch norm: --lock-image-unlocked-groups, --lock-text-unlocked-layers";
    assert_eq!(answer("--lock-text-freeze-layer-norm"), norms);
    assert!(answer("--opt=lamb").ends_with("says"), "{}", answer("--opt=lamb"));
    assert!(answer("--dataset-type csv --precision amp").contains("--train-data"));
    // A flag that has lost its value does not swallow the next one.
    assert_eq!(answer("--val-data --lock-text-freeze-layer-norm"), norms);
    assert_eq!(answer("--ref_filter_ratio 0.8"), "--ref_filter_ratio: known in DRRho-CLIP; here it is --filter-ratio");
    let command = Cli::command();
    let ours: Vec<&str> =
        command.find_subcommand("train").unwrap().get_arguments().filter_map(|arg| arg.get_long()).collect();
    assert_eq!(foreign::names().find(|name| ours.contains(name)), None);
}

#[test]
fn a_pasted_line_of_open_clip_makes_a_plan() {
    let line = "--model ViT-B-16-SigLIP --siglip --train-data data/{00000..00099}.tar --train-num-samples 1000000 \
        --dataset-type webdataset --batch-size 1000 --accum-freq=1 --precision amp_bf16 --workers 8 --epochs 30 --warmup 1000 \
        --lr 1e-3 --wd 0.2 --beta2 0.95 --opt adamw --lr-scheduler cosine --seed 0 --local-loss --gather-with-grad \
        --save-frequency 1 --zeroshot-frequency=2 --imagenet-val /imagenet/val --report-to tensorboard --logs logs --name b16 \
        --image-mean 0.5 0.5 0.5 --image-resize-mode squash --log-every-n-steps 50 --grad-checkpointing --device cuda";
    let resolved = plan(line);
    let run = &resolved.plan.runs[0];
    assert_eq!(
        (run.model.preset.as_str(), run.steps, run.batch_size(), run.schedule.warmup),
        ("b224", 30_000, 1000, 1000)
    );
    assert!(run.memory.recompute);
    assert_eq!(resolved.plan.precision, jest_kernels::Precision::Bf16);
    assert_eq!((run.data.workers, run.logging.report_to), (8, crate::config::ReportTo::Tensorboard));
    let notes: Vec<String> = resolved.notes.iter().map(ToString::to_string).collect();
    let passed_over =
        ["siglip", "local-loss", "gather-with-grad", "save-frequency", "zeroshot-frequency", "imagenet-val"];
    assert_eq!(notes.len(), passed_over.len() + 1, "{notes:?}");
    for flag in passed_over {
        assert!(
            notes.iter().any(|note| note.starts_with(&format!("--{flag} changes nothing here: "))),
            "{flag}: {notes:?}"
        );
    }
}

/// The flags of open_clip 3.3.0's `params.py`, and of its main branch of 2026.
const OPEN_CLIP: &str = "train-data train-data-upsampling-factors val-data train-num-samples val-num-samples dataset-type dataset-resampled \
    csv-separator csv-img-key csv-caption-key imagenet-val imagenet-v2 cache-dir logs log-local name workers batch-size epochs \
    epochs-cooldown lr beta1 beta2 eps wd momentum warmup opt use-bn-sync skip-scheduler lr-scheduler lr-cooldown-end lr-cooldown-power \
    save-frequency save-most-recent zeroshot-frequency val-frequency resume precision model pretrained pretrained-image lock-image \
    lock-image-unlocked-groups lock-image-freeze-bn-stats grad-checkpointing local-loss gather-with-grad force-image-size \
    force-quick-gelu force-patch-dropout force-custom-text torchscript torchcompile trace accum-freq device dist-url dist-backend \
    report-to wandb-notes wandb-project-name debug copy-codebase horovod ddp-static-graph no-set-device-rank seed grad-clip-norm \
    lock-text lock-text-unlocked-layers lock-text-freeze-layer-norm log-every-n-steps coca-caption-loss-weight \
    coca-contrastive-loss-weight remote-sync remote-sync-frequency remote-sync-protocol delete-previous-checkpoint distill-model \
    distill-pretrained use-bnb-linear siglip loss-dist-impl image-mean image-std image-interpolation image-resize-mode aug-cfg \
    image-key text-key json-text-key json-text-key-probs max-image-pixels log-metric-every-n-steps train-loss-ema-samples wd-exclude \
    opt-kwargs force-context-length val-retrieval-chunk-size val-retrieval-precision";

#[test]
fn every_flag_of_open_clip_is_read_or_answered() {
    let command = Cli::command();
    let train = command.find_subcommand("train").unwrap();
    let aliases = train.get_arguments().filter_map(|arg| arg.get_visible_aliases()).flatten();
    let ours: Vec<&str> = train.get_arguments().filter_map(|arg| arg.get_long()).chain(aliases).collect();
    let answered: Vec<&str> = foreign::names().collect();
    let flags = OPEN_CLIP.split_whitespace();
    let missing: Vec<&str> = flags.filter(|flag| !ours.contains(flag) && !answered.contains(flag)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn words_of_open_clip_are_read_as_ours() {
    let resolved = |more: &str| plan(&format!("{SHORT} {more}"));
    let report_to = |more: &str| resolved(more).plan.runs[0].logging.report_to;
    assert_eq!(report_to("--report-to=wandb,tensorboard"), crate::config::ReportTo::Tensorboard);
    assert_eq!(report_to("--report-to="), crate::config::ReportTo::None);
    let wandb = resolved("--report-to wandb --seed 3");
    assert_eq!((wandb.plan.runs[0].logging.report_to, wandb.plan.seed), (crate::config::ReportTo::None, 3));
    assert!(wandb.notes[0].to_string().contains("--report-to tensorboard"), "{:?}", wandb.notes);
    let words = [("fp32", "f32"), ("amp", "f16"), ("fp16", "f16"), ("pure_fp16", "f16")];
    let bf16 = ["bf16", "amp_bf16", "amp_bfloat16", "pure_bf16"].map(|word| (word, "bf16"));
    for (word, precision) in words.into_iter().chain(bf16) {
        let resolved = resolved(&format!("--precision {word}"));
        assert_eq!((resolved.plan.precision.to_string().as_str(), resolved.notes.len()), (precision, 0), "{word}");
    }
}

#[test]
fn flags_known_nowhere_name_the_nearest() {
    let Err(Usage::Clap(error)) = parsed("train --bacth-size 3") else { panic!("no such flag") };
    assert!(error.to_string().contains("--batch-size"), "{error}");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn every_verb_parses() {
    for line in [
        "eval --checkpoint c --task t --task u",
        "embed --checkpoint c --data d --out o --device cpu",
        "score --learner l --reference r --data d --out o.parquet",
        "reference train --train-data d --local-loss --dry-run",
        "devices",
        "tokenizer train --data d --vocab-size 512",
        "inspect c",
        "data check d::e --limit 3",
        "data stats d --by source --json",
        "data build d out --samples-per-shard 100",
        "data subset s.parquet o.npy --keep 0.3",
        "train --dry-run --smoke --resume latest",
    ] {
        assert!(parsed(line).is_ok(), "{line}");
    }
    let Ok(Command::Score(args)) = parsed("score --learner l --reference r --data d --out o.CSV") else { panic!() };
    assert_eq!(args.format(), ScoreFormat::Csv);
}

#[test]
fn exit_codes_are_those_of_the_error() {
    let run = |line: &str, result: Result<()>| {
        let code = run(std::iter::once("jest").chain(line.split_whitespace()).map(OsString::from), |_| result);
        format!("{code:?}")
    };
    let code = |code: u8| format!("{:?}", ExitCode::from(code));
    assert_eq!(run("devices", Ok(())), code(0));
    let stopped = TrainError::Stopped { run: "jest".into(), step: 3, checkpoint: "c".into() };
    assert_eq!(run("devices", Err(stopped)), code(75));
    assert_eq!(run("train --accum-freq 2", Ok(())), code(2));
    assert_eq!(run("no-such-verb", Ok(())), code(2));
    assert_eq!(run("--version", Ok(())), code(0));
}

#[test]
fn one_line_names_the_root_cause_and_the_way_out() {
    let full = TrainError::storage("write", "a/b")(std::io::Error::other("no space"));
    let expected =
        "cannot write a/b: no space; make room or choose another folder, and a run goes on with --resume latest";
    assert_eq!(full.explain(), expected);
    let toml = "x = = 3".parse::<toml::Table>().unwrap_err();
    let text = TrainError::Config(toml.into()).explain();
    assert_eq!(text.lines().count(), 1, "{text}");
}
