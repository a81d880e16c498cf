//! `jest curate`: what every method keeps, as a list, a subset file or shards.

mod common;

use common::{Place, THREE_RUNS, jest};
use jest_select::Method;

#[test]
fn a_data_set_is_curated_by_any_method() {
    let place = Place::new(THREE_RUNS);
    place.train("out", &["--steps", "2"]).well();
    let models = ["jest", "reference"].map(|run| place.newest("out", run).display().to_string());
    let data = format!("pool={}", place.path("pool").display());
    let curate = |name: &str, more: &[&str]| {
        let out = place.path(name).display().to_string();
        let mut args = vec!["curate", "--device", "cpu", "--data", &data, "--out", &out, "--super-batch", "50"];
        args.extend(["--chunks", "5"]);
        args.extend(more);
        jest(args)
    };
    let both = ["--learner", &models[0], "--reference", &models[1]];
    for method in Method::ALL.map(|method| method.to_string()) {
        let told = curate("kept.txt", &[&both[..], &["--method", &method, "--keep", "20%"]].concat()).well();
        assert!(told.out.contains("20 of 100 examples"), "{method}: {}", told.out);
        let text = std::fs::read_to_string(place.path("kept.txt")).unwrap();
        let ids: std::collections::BTreeSet<&str> = text.lines().map(|line| line.split('\t').next().unwrap()).collect();
        assert_eq!(ids.len(), 20, "{method}");
    }
    let audit = place.path("choices.parquet").display().to_string();
    curate("kept.npy", &[&both[..], &["--audit", &audit]].concat()).well();
    let bytes = std::fs::read(place.path("kept.npy")).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY") && bytes.len() > 20 * 16);
    assert!(std::fs::read(audit).unwrap().starts_with(b"PAR1"));
    curate("x.txt", &["--reference", &models[1]]).refused(3, &["by joint needs --learner"]);
    curate("x.txt", &["--learner", &models[0], "--method", "rho"]).refused(3, &["by rho needs --reference"]);
    curate("x.txt", &["--method", "cabs"]).refused(3, &["needs --learner or --reference"]);
    for none in [["--super-batch", "0"], ["--chunks", "0"]] {
        let args = ["curate", "--data", &data, "--out", "x.txt", "--learner", &models[0]];
        assert_eq!(jest(args.into_iter().chain(none)).code, Some(2), "{none:?}");
    }
    let told = curate("none.txt", &[&both[..], &["--keep", "0.01%"]].concat()).well();
    assert!(told.out.contains("none.txt: 0 of 100 examples"), "{}", told.out);
    told.tells(&["nothing is kept", "a larger --keep"]);
}

/// The same examples as a list and as shards, and all that reach a cosine.
#[test]
fn what_is_kept_is_copied_and_a_threshold_keeps_all_that_reach_it() {
    let place = Place::new(THREE_RUNS);
    place.train("out", &["--steps", "2"]).well();
    let [learner, reference] = ["jest", "reference"].map(|run| place.newest("out", run).display().to_string());
    let data = format!("pool={}", place.path("pool").display());
    let curate = |name: &str, more: &[&str]| {
        let out = place.path(name).display().to_string();
        let args = ["curate", "--device", "cpu", "--data", &data, "--out", &out, "--super-batch", "50"];
        jest(args.into_iter().chain(["--learner", &learner, "--reference", &reference]).chain(more.iter().copied()))
    };
    curate("kept.txt", &["--chunks", "5"]).well();
    assert!(curate("kept", &["--chunks", "5"]).well().out.contains("kept: 20 of 100 examples"));
    let pictures = |folder: &str, named: &dyn Fn(&jest_data::Surveyed) -> String| {
        let source = jest_data::Source::folder(&place.path(folder)).unwrap();
        let mut all = std::collections::BTreeMap::new();
        let mut add = |sample: jest_data::Surveyed| {
            all.insert(named(&sample), (sample.captions, sample.image));
            Ok::<_, ()>(())
        };
        jest_data::survey(&source, &jest_data::Limits::default(), &mut add, |skip| panic!("{skip}")).unwrap();
        all
    };
    let source_key = |sample: &jest_data::Surveyed| {
        let json: serde_json::Value = serde_json::from_str(sample.json.as_deref().unwrap()).unwrap();
        json["source_key"].as_str().unwrap().to_string()
    };
    let (copied, mut pool) = (pictures("kept", &source_key), pictures("pool", &|sample| sample.key.clone()));
    let list = std::fs::read_to_string(place.path("kept.txt")).unwrap();
    let listed: std::collections::BTreeSet<&str> = list.lines().map(|line| line.rsplit('\t').next().unwrap()).collect();
    pool.retain(|key, _| listed.contains(key.as_str()));
    assert!(copied.len() == 20 && copied == pool);
    curate("kept", &[]).refused(4, &["kept", "not empty"]);

    std::fs::create_dir(place.path("audit")).unwrap();
    let audit = place.path("audit/step-00000001.parquet").display().to_string();
    curate("all.txt", &["--method", "clip-score", "--keep", "100%", "--chunks", "1", "--audit", &audit]).well();
    let mut cosines: Vec<f32> =
        jest_train::audit::read(&place.path("audit")).unwrap().iter().map(|choice| choice.score).collect();
    cosines.sort_by(f32::total_cmp);
    assert_eq!(cosines.len(), 100);
    for at in [0, 37, 99] {
        let threshold = format!("--threshold={}", cosines[at]);
        let reach = cosines.iter().filter(|cosine| **cosine >= cosines[at]).count();
        let told = curate("above.txt", &["--method", "clip_score", &threshold]).well().out;
        assert!(told.contains(&format!("above.txt: {reach} of 100 examples")), "{told}");
        let share = curate("above.txt", &["--method", "clip_score", &threshold, "--keep", "2%", "--chunks", "1"]);
        assert!(at == 99 || share.well().out.contains("above.txt: 2 of 100 examples"));
    }
    curate("x.txt", &["--threshold", "0.1"]).refused(3, &["--threshold", "joint reads no cosine"]);
}
