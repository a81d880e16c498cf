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
    let locked = "--lock-image: known in open_clip, not supported here: the whole model is trained, its activations are kept, \
                  and no PyTorch runs";
    assert_eq!(answer("--lock-image"), locked);
    assert_eq!(answer("--lock-image=1"), locked);
    assert_eq!(answer("--ref_filter_ratio 0.8"), "--ref_filter_ratio: known in DRRho-CLIP; here it is --filter-ratio");
    let command = Cli::command();
    let ours: Vec<&str> =
        command.find_subcommand("train").unwrap().get_arguments().filter_map(|arg| arg.get_long()).collect();
    assert_eq!(foreign::names().find(|name| ours.contains(name)), None);
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
    assert_eq!(run("train --precision fp16", Ok(())), code(2));
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
