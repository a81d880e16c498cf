//! Rules of plan resolution.

use std::error::Error;
use std::path::{Path, PathBuf};

use jest_select::Method;

use super::*;

mod selection;

const TWO_RUNS: &str = r#"
    out = "runs/two"
    batch_size = 128
    steps = 400
    data.train = ["clean=curated/000.tar", "pool/{000..003}.tar"]
    model.preset = "mu"
    selection = { filter_ratio = 0.8, chunks = 16 }
    optimizer.lr = 2e-3

    [[run]]
    name = "curator"
    data.train = "curated/000.tar"
    selection.method = "uniform"

    [[run]]
    name = "learner"
    reference = "curator"
    steps = 300
    optimizer = { weight_decay = 0.1, decay = "lr" }
"#;

const ONE_RUN: &str = "batch_size = 100\nsteps = 50\ndata.train = 'a.tar'\nmodel.preset = 'mu'\n";

fn flags(assignments: &[&str]) -> Overrides {
    Overrides { keys: assignments.iter().map(|text| Override::parse(text).unwrap()).collect(), ..Overrides::default() }
}

fn resolve_with(config: &str, flags: &Overrides) -> Result<Resolved, ConfigError> {
    resolve(
        config,
        Some("stem"),
        flags,
        &Surroundings { cores: 2, exists: &|path| path.starts_with("there"), count: &|_| Ok(1000) },
    )
}

fn plan(config: &str, assignments: &[&str]) -> Plan {
    resolve_with(config, &flags(assignments)).unwrap().plan
}

/// The message and its causes, as a user sees them.
fn fault(config: &str, assignments: &[&str]) -> String {
    let error = resolve_with(config, &flags(assignments)).unwrap_err();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {}", inner.to_string().trim().replace('\n', " "));
        cause = inner.source();
    }
    text
}

#[test]
fn runs_lay_their_tables_over_the_shared_ones() {
    let plan = plan(TWO_RUNS, &[]);
    let [curator, learner] = &plan.runs[..] else { panic!("{plan:?}") };
    assert_eq!(curator.data.train, ["curated/000.tar"]);
    assert_eq!(learner.data.train, ["clean=curated/000.tar", "pool/{000..003}.tar"]);
    assert_eq!((curator.steps, learner.steps), (400, 300));
    assert_eq!((curator.schedule.warmup, learner.schedule.warmup), (4, 3));
    assert_eq!((curator.optimizer.lr, learner.optimizer.lr), (2e-3, 2e-3));
    assert_eq!((curator.optimizer.weight_decay, learner.optimizer.weight_decay), (1e-4, 0.1));
    assert_eq!((curator.selection.sizes.super_batch(), learner.selection.sizes.super_batch()), (128, 640));
    assert_eq!((curator.selection.method, learner.selection.method), (Method::Uniform, Method::Joint));
    assert_eq!((curator.reference.first(), &learner.reference), (None, &vec![Origin::Run("curator".into())]));
    assert_eq!((plan.device.as_str(), plan.threads, plan.out.as_path()), ("auto", 2, Path::new("runs/two")));
}

#[test]
fn a_plan_is_a_configuration_of_itself() {
    let many = [
        "device=cpu",
        "threads=3",
        "device_mb=4096",
        "precision='bf16'",
        "seed=7",
        "autotune=false",
        "tiles=['ab f32 z1 m64 n64 k64: wide']",
        "selection.gain=inf",
        "model.width=96",
        "optimizer.grad_clip_norm=inf",
        "data.num_examples=2048",
        "init=there/first",
        "evaluation.tasks=['a', 'b']",
        "text.tokenizer=t.json",
        "optimizer.decay_on=ndim>1",
        "run.curator.objective=softmax",
    ];
    for plan in [
        plan(TWO_RUNS, &[]),
        plan(TWO_RUNS, &many),
        plan(ONE_RUN, &[]),
        plan(ONE_RUN, &["reference=there/x", "selection.chunks=4", "selection.logit_scale_factor=0.6"]),
    ] {
        let text = plan.to_toml().unwrap();
        let again = resolve(
            &text,
            Some("other"),
            &Overrides::default(),
            &Surroundings { cores: 64, exists: &|_| true, count: &|_| Ok(1000) },
        );
        assert_eq!(again.unwrap(), Resolved { plan, notes: Vec::new() }, "{text}");
    }
}

#[test]
fn what_all_runs_share_is_written_once() {
    let text = plan(TWO_RUNS, &[]).to_toml().unwrap();
    assert_eq!(text.matches("lr = 0.002").count(), 1, "{text}");
    assert_eq!(text.matches("steps = ").count(), 2, "{text}");
    assert!(text.find("[[run]]") > text.find("[text]"), "{text}");
}

#[test]
fn flags_set_shared_keys_and_a_run_of_its_own_mind_is_noted() {
    let resolved = resolve_with(TWO_RUNS, &flags(&["steps=50", "optimizer.lr=1"])).unwrap();
    assert_eq!((resolved.plan.runs[0].steps, resolved.plan.runs[1].steps), (50, 300));
    assert_eq!(resolved.plan.runs[1].optimizer.lr, 1.0);
    let notes: Vec<String> = resolved.notes.iter().map(Note::to_string).collect();
    let expected =
        "run \"learner\" sets steps itself: --set steps=50 does not reach it; --set run.learner.steps=VALUE does";
    assert_eq!(notes, [expected]);
    assert_eq!(plan(TWO_RUNS, &["run.learner.steps=9"]).runs[1].steps, 9);
    let deep = format!("{TWO_RUNS}\nselection.approximation.patch_size = 16");
    let noted = resolve_with(&deep, &flags(&["selection.approximation.patch_size=8"])).unwrap().notes;
    assert!(matches!(&noted[..], [Note::Shadowed { key, .. }] if key == "selection.approximation.patch_size"));
    let dotted = TWO_RUNS.replace("\"learner\"", "\"learner.v1.2\"");
    assert_eq!(plan(&dotted, &["run.learner.v1.2.optimizer.lr=9"]).runs[1].optimizer.lr, 9.0);
    let message = "--set names run \"x\", which the configuration does not have; runs: curator, learner";
    assert_eq!(fault(TWO_RUNS, &["run.x.steps=1"]), message);
}

#[test]
fn one_way_to_say_a_length_takes_the_place_of_another() {
    assert_eq!(plan(ONE_RUN, &["examples=950"]).runs[0].steps, 10);
    assert_eq!(plan(ONE_RUN, &["epochs=1.5", "data.num_examples=1000"]).runs[0].steps, 15);
    let config = format!("reference = 'there/x'\nselection.filter_ratio = 0.5\nselection.chunks = 4\n{ONE_RUN}");
    assert_eq!(plan(&config, &["selection.super_batch=300"]).runs[0].selection.sizes.super_batch(), 300);
    // An epoch draws every example once, whatever is selected.
    assert_eq!(plan(&config, &["epochs=2", "data.num_examples=1000"]).runs[0].steps, 10);
    let resolved = resolve_with(TWO_RUNS, &flags(&["examples=1000"])).unwrap();
    assert!(matches!(&resolved.notes[..], [Note::Shadowed { run, .. }] if run == "learner"));

    let twice = "\"steps\" and \"examples\" at the top level say the same thing twice; keep one";
    assert_eq!(fault(&format!("examples = 3\n{ONE_RUN}"), &[]), twice);
    // Nobody has to say how many there are.
    assert_eq!(plan(ONE_RUN, &["epochs=2.5"]).runs[0].steps, 25);
    let uncountable = |_: &DataPlan| Err(jest_data::Source::parse("pipe:x").unwrap_err());
    let around = Surroundings { cores: 2, exists: &|_| true, count: &uncountable };
    let error = resolve(ONE_RUN, None, &flags(&["epochs=2"]), &around).unwrap_err();
    assert!(matches!(&error, ConfigError::Uncounted { .. }), "{error}");
}

#[test]
fn selection_follows_from_what_is_given() {
    assert_eq!(plan(ONE_RUN, &[]).runs[0].selection.method, Method::Uniform);
    let given = plan(ONE_RUN, &["reference=there/x", "selection.chunks=10"]);
    let selection = &given.runs[0].selection;
    assert_eq!((selection.method, selection.sizes.super_batch(), selection.sizes.chunks()), (Method::Joint, 500, 10));
    assert_eq!(given.runs[0].reference, [Origin::Checkpoint(PathBuf::from("there/x"))]);
    let two = plan(ONE_RUN, &["reference=['there/x', 'there/y']", "selection.chunks=10"]);
    assert_eq!(two.runs[0].reference.len(), 2);
    let alone = plan(ONE_RUN, &["selection.method=independent", "selection.score=hard_learner"]);
    assert_eq!((alone.runs[0].selection.sizes.chunks(), alone.runs[0].reference.clone()), (1, vec![]));
}

#[test]
fn methods_are_words_and_read_their_own_keys() {
    fn select<'a>(assignments: &[&'a str]) -> Vec<&'a str> {
        [&["reference=there/x", "selection.filter_ratio=0.5"], assignments].concat()
    }
    for method in Method::ALL {
        let word = format!("selection.method={method}");
        let resolved = plan(ONE_RUN, &select(&[&word, "selection.chunks=10"]));
        let run = &resolved.runs[0];
        assert_eq!(run.selection.method, method);
        assert_eq!(run.selection.sizes.chunks(), if method == Method::Joint { 10 } else { 1 }, "{method}");
        assert_eq!(!run.reference.is_empty(), !matches!(method, Method::Cabs | Method::Uniform), "{method}");
        let again = plan(&resolved.to_toml().unwrap(), &[]);
        assert_eq!(again, resolved, "{method}");
    }
    let gibbs = plan(ONE_RUN, &select(&["selection.method=gibbs", "selection.gibbs_steps=77"]));
    assert_eq!(gibbs.runs[0].selection.gibbs_steps, Some(77));
    let clip = plan(ONE_RUN, &select(&["selection.method=clip_score", "selection.threshold=0.3"]));
    assert_eq!(clip.runs[0].selection.threshold, Some(0.3));
    assert!(clip.to_toml().unwrap().contains("threshold = 0.3\n"));
    let packed = plan(ONE_RUN, &["text.padding=masked", "text.pool=eos", "text.packing=true"]);
    assert!(packed.to_toml().unwrap().contains("packing = true\n"));
    let cabs = plan(ONE_RUN, &select(&["selection.method=cabs"]));
    assert_eq!(cabs.runs[0].selection.tags, ["concept"]);
    for (assignments, expected) in [
        (
            &["selection.method=gibbs", "objective=softmax"][..],
            "objective = \"softmax\" in run \"train\" does not go with selection.method = \"gibbs\": its log-sum-exps",
        ),
        (&["selection.method=rho", "distillation.weight=1"], "distillation.weight in run"),
        (
            &["selection.method=top_k", "selection.score=hard_learner", "distillation.weight=1"],
            "distillation.weight in",
        ),
        (&["selection.method=top_k", "distillation.weight=-1"], "distillation.weight"),
        (&["selection.method=top_k", "selection.gibbs_steps=7"], "selection.gibbs_steps in run"),
        (
            &["selection.method=top_k", "text.packing=true"],
            "text.packing in run \"train\" does not go with text.padding = \"attended\"",
        ),
        (&["selection.method=top_k", "text.packing=true", "text.padding=masked"], "text.packing in run"),
        (&["selection.method=top_k", "selection.threshold=0.2"], "selection.threshold in run"),
        (&["selection.method=clip_score", "selection.threshold=1.5"], "selection.threshold = 1.5 in run"),
        (&["selection.method=top_k", "selection.tags=concept"], "selection.tags in run"),
        (&["selection.method=rho", "selection.score=hard_learner"], "selection.score in run"),
    ] {
        let said = fault(ONE_RUN, &select(assignments));
        assert!(said.starts_with(expected), "{said}");
    }
}

#[test]
fn references_must_exist_and_come_earlier() {
    let missing = "run \"train\" has no reference; its score needs one: name an earlier run or a checkpoint folder in reference, or pass --reference PATH";
    assert_eq!(fault(ONE_RUN, &["selection.filter_ratio=0.5", "selection.chunks=4"]), missing);
    assert_eq!(fault(ONE_RUN, &["selection.method=top_k", "selection.score=easy_reference"]), missing);
    for (named, fault_text) in [
        ("curater", "neither an earlier run nor a folder; nearest run: \"curator\""),
        ("learner", "the run itself; name an earlier one"),
    ] {
        let expected = format!("reference \"{named}\" of run \"learner\" is {fault_text}");
        assert_eq!(fault(TWO_RUNS, &[&format!("run.learner.reference={named}")]), expected);
    }
    let later = "init \"learner\" of run \"curator\" is a later run; runs are executed in order, so move it up";
    assert_eq!(fault(TWO_RUNS, &["run.curator.init=learner"]), later);
    let nowhere = "reference \"nowhere\" of run \"train\" is no folder, and no run comes earlier";
    assert_eq!(fault(ONE_RUN, &["reference=nowhere", "selection.chunks=4"]), nowhere);

    let unused = resolve_with(TWO_RUNS, &flags(&["run.curator.reference=there/x"])).unwrap();
    assert_eq!(unused.notes, [Note::UnusedReference { run: "curator".into() }]);
}

#[test]
fn keys_that_the_method_does_not_read_are_noted() {
    let notes = |text: &str, set: &[&str]| {
        let resolved = resolve_with(text, &flags(set)).unwrap();
        resolved.notes.iter().map(Note::to_string).collect::<Vec<_>>()
    };
    let unread = |key: &str, method: &str| {
        format!("run \"train\" sets selection.{key}, which selection.method = \"{method}\" does not read")
    };
    assert_eq!(notes(ONE_RUN, &["selection.method=uniform", "selection.gain=3"]), [unread("gain", "uniform")]);
    let top_k = ["selection.method=top_k", "reference=there/x", "selection.filter_ratio=0.5"];
    assert_eq!(notes(ONE_RUN, &top_k), [""; 0]);
    assert_eq!(notes(ONE_RUN, &[&top_k[..], &["selection.chunks=4"]].concat()), [unread("chunks", "top_k")]);
    // Shared by runs of which one reads it.
    assert_eq!(notes(TWO_RUNS, &["selection.gain=3"]), [""; 0]);
}

#[test]
fn sizes_that_do_not_divide_name_those_that_do() {
    let select = |assignments: &[&str]| fault(ONE_RUN, &[&["reference=there/x"], assignments].concat());
    let chunks =
        "the sizes of run \"train\" do not work: sub-batch 100 is not divisible by 16 chunks; nearest: 96 or 112";
    assert_eq!(select(&[]), chunks);
    let ratio = select(&["selection.filter_ratio=0.7", "selection.chunks=1"]);
    assert!(
        ratio.ends_with("nearest: batch_size 99 or 102, or super_batch 333 or 334 in place of filter_ratio"),
        "{ratio}"
    );
    let ratio = select(&["selection.filter_ratio=0.6667", "selection.chunks=1"]);
    assert!(ratio.ends_with("nearest: super_batch 300 or 301 in place of filter_ratio"), "{ratio}");
    assert!(select(&["selection.filter_ratio=1.0", "selection.chunks=1"]).contains("outside [0, 1)"));
    assert!(select(&["selection.gain=-1", "selection.chunks=1"]).contains("gain -1 is not usable"));
    assert!(select(&["selection.super_batch=50", "selection.chunks=1"]).contains("larger than super-batch 50"));
    let warmup =
        "schedule.warmup 60 is longer than the 50 steps of run \"train\"; nearest: 50, or a share such as \"1%\"";
    assert_eq!(fault(ONE_RUN, &["schedule.warmup=60"]), warmup);
}

#[test]
fn faults_name_the_place_and_the_remedy() {
    for (assignment, expected) in [
        ("selection.filter_ration=0.8", "unknown key \"filter_ration\" in [selection]; nearest: \"filter_ratio\""),
        (
            "selection.method=joined",
            "a value of run \"train\" cannot be used: unknown selection method `joined`; one of: joint, independent, independent_row_sum, top_k, gibbs, rho, clip_score, cabs, uniform in `selection.method`",
        ),
        (
            "objective=siglip",
            "a value of run \"train\" cannot be used: unknown variant `siglip`, expected `sigmoid` or `softmax` in `objective`",
        ),
        (
            "batch_size=-1",
            "a value of run \"train\" cannot be used: invalid value: integer `-1`, expected usize in `batch_size`",
        ),
        ("batch_size=0", "batch_size = 0 in run \"train\" is out of range; an update needs at least 1 example"),
        ("steps=0", "steps = 0 in run \"train\" is out of range; a run has at least 1 step"),
        (
            "optimizer.beta2=1.0",
            "optimizer.beta2 = 1 in run \"train\" is out of range; a decay of a mean is at least 0 and below 1",
        ),
        (
            "optimizer.lr=nan",
            "optimizer.lr = NaN in run \"train\" is out of range; a learning rate is at least 0 and finite",
        ),
        ("model.preset=''", "run \"train\" has no model.preset; set model.preset or --model"),
        (
            "data.train=[]",
            "run \"train\" has no data; set data.train or --train-data, e.g. --train-data 'shards/{00000..00099}.tar'",
        ),
        ("steps.x=1", "steps must be a value, not a table"),
        (
            "tiles=['wide']",
            "a value of the top level cannot be used: tile \"wide\" is not written as `CLASS: TILE`; copy it from a plan.toml, \
             or leave `tiles` out in `tiles`",
        ),
        (
            "precision=fp16",
            "a value of the top level cannot be used: unknown precision \"fp16\"; write f32, f16 or bf16 in `precision`",
        ),
        (
            "threads=two",
            "a value of the top level cannot be used: invalid type: string \"two\", expected usize in `threads`",
        ),
    ] {
        assert_eq!(fault(ONE_RUN, &[assignment]), expected, "{assignment}");
    }
    assert!(fault("steps = = 3", &[]).starts_with("the configuration is not valid TOML: "));
    assert_eq!(fault("run = 3", &[]), "run must be a list of tables, each begun by [[run]]");
    let scale = fault(ONE_RUN, &["augmentation.scale=[0.5, 2.0]"]);
    assert!(scale.contains("augmentation.scale = [0.5, 2.0]"), "{scale}");
    for text in ["steps", "=3", "a..b=3"] {
        assert!(matches!(Override::parse(text), Err(ConfigError::Assignment { .. })), "{text}");
    }
}

#[test]
fn names_are_folders_and_differ() {
    for name in ["", "../x", ".hidden", "a b", "a/b"] {
        let config = format!("{ONE_RUN}\n[[run]]\nname = '{name}'");
        assert!(matches!(resolve_with(&config, &flags(&[])), Err(ConfigError::RunName { .. })), "{name}");
    }
    let config = format!("{ONE_RUN}\n[[run]]\nname = 'a'\n[[run]]\nname = 'a'");
    assert_eq!(fault(&config, &[]), "two runs are named \"a\"; give each its own name");
}

#[test]
fn the_run_folder_follows_flags_then_file_then_names() {
    let check = |config: &str, overrides: Overrides, out: &str, name: &str| {
        let plan = resolve_with(config, &overrides).unwrap().plan;
        assert_eq!((plan.out.to_str().unwrap(), plan.runs[0].name.as_str()), (out, name));
    };
    let (name, logs) = (Some("n".to_owned()), Some("logs".to_owned()));
    check(ONE_RUN, Overrides::default(), "runs/stem", "train");
    check(ONE_RUN, Overrides { name: name.clone(), ..Overrides::default() }, "runs/n", "n");
    check(ONE_RUN, Overrides { name: name.clone(), logs: logs.clone(), ..Overrides::default() }, "logs/n", "n");
    check(ONE_RUN, Overrides { smoke: true, ..flags(&["out=x"]) }, "x-smoke", "train");
    check(TWO_RUNS, Overrides { name: name.clone(), ..Overrides::default() }, "runs/two", "curator");
    check(TWO_RUNS, Overrides { logs: logs.clone(), ..Overrides::default() }, "logs/stem", "curator");
    check(TWO_RUNS, Overrides { logs, ..flags(&["out=x"]) }, "x", "curator");
    let smoke = resolve_with(TWO_RUNS, &Overrides { smoke: true, ..flags(&["schedule.warmup=200"]) }).unwrap().plan;
    assert_eq!((smoke.runs[1].steps, smoke.runs[1].schedule.warmup), (SMOKE_STEPS, SMOKE_STEPS));
}
