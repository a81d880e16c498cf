//! The report on made-up runs.

use super::*;
use crate::events::{Contrast, Event, Metrics, Picked, Step, samples};

fn item(index: usize, caption: &str) -> GalleryItem {
    let side = 64;
    let pixel = |at: usize| [(at * 4 % 256) as u8, (at / side * 4) as u8, (index * 5 % 256) as u8];
    GalleryItem {
        id: format!("{index:032x}"),
        caption: caption.to_owned(),
        score: 3.0 - index as f32 / 10.0,
        rgb: (0..side * side).flat_map(pixel).collect(),
        side,
    }
}

/// Three runs of 400 steps with an evaluation every 80.
fn history() -> History {
    let mut history = History::default();
    for (run, floor) in [("reference", 2.0), ("jest", 2.6), ("uniform", 3.1)] {
        for step in 1..=400u64 {
            let wave = ((step * 37 % 19) as f32 - 9.0) / 40.0;
            let fall = 6.0 * (-(step as f32) / 90.0).exp();
            let mut sample = Step { loss: floor + fall + wave, ..samples::step(run, step, 0.1) };
            let score =
                Contrast { picked: 0.8 * fall / 6.0 + 0.6 + wave / 3.0, super_batch: 0.3 * fall / 6.0 + wave / 9.0 };
            sample.picked = sample.picked.filter(|_| run == "jest").map(|picked| Picked { score, ..picked });
            history.add(Event::Step(sample));
            if step.is_multiple_of(80) {
                let top1 = 0.1 + f64::from(4.0 - floor) * step as f64 / 4000.0;
                let metrics = Metrics::from_iter([("top1".to_owned(), top1), ("top5".to_owned(), 3.0 * top1)]);
                let task = "fashion_zs".to_owned();
                history.add(Event::Evaluated(Evaluated { run: run.to_owned(), step, task, metrics, seconds: 0.0 }));
            }
        }
    }
    history
}

fn sample(captions: &[&str]) -> String {
    let runs = ["reference", "jest", "uniform"].map(samples::run_summary).to_vec();
    let summary = Summary { device: "cpu".into(), threads: 2, seed: 0, runs };
    let items: Vec<GalleryItem> =
        captions.iter().cycle().take(48).enumerate().map(|(index, caption)| item(index, caption)).collect();
    let least: Vec<GalleryItem> = items.iter().rev().cloned().collect();
    let plan = "batch_size = 128\nsteps = 400\n\n[data]\ntrain = [\"assets/<pool>/{000..003}.tar\"]\n";
    let report =
        Report { title: "quickstart", plan, summary: &summary, history: &history(), most: &items, least: &least };
    render(&report).unwrap()
}

#[test]
fn one_file_without_scripts_or_addresses() {
    let page = sample(&[
        "a drawing of a red fox",
        "boots, ankle height, brown leather, size 42, worn once and then kept in a box",
    ]);
    assert!(page.starts_with("<!DOCTYPE html>"));
    for outside in ["http://", "https://", "<script", "<link", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("data:image/png;base64,").count(), 96);
    assert_eq!(page.matches("<figure>").count(), 4, "loss, picked, top1, top5");
    assert_eq!(page.matches("class=\"curve c2\" points").count(), 3, "uniform has no picks");
    assert!(page.contains("38,400") && page.contains("20.0 %"));
    if let Some(path) = std::env::var_os("JEST_SAMPLE_REPORT") {
        std::fs::write(path, page).unwrap();
    }
}

#[test]
fn hostile_text_stays_text() {
    let attack = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>";
    let page = sample(&[attack]);
    assert!(!page.contains("<script") && !page.contains("<img src=x"));
    assert_eq!(page.matches("&lt;script&gt;alert(1)").count(), 2 * 96, "caption and title");
    assert!(page.contains("&lt;pool&gt;"));

    let mut named = history();
    named.runs[0].name = attack.to_owned();
    named.runs[1].evaluated[0].task = attack.to_owned();
    let summary = Summary { device: attack.into(), runs: vec![samples::run_summary(attack)], ..Summary::default() };
    let page =
        render(&Report { title: attack, plan: attack, summary: &summary, history: &named, most: &[], least: &[] })
            .unwrap();
    assert!(!page.contains("<script") && !page.contains("<img"));
}

#[test]
fn an_empty_history_is_a_report_too() {
    let (summary, history) = (Summary::default(), History::default());
    let page = render(&Report { title: "none", plan: "", summary: &summary, history: &history, most: &[], least: &[] });
    assert!(!page.unwrap().contains("<figure>"));
}

#[test]
fn a_picture_that_does_not_fit_is_named() {
    let (summary, history) = (Summary::default(), History::default());
    let most = [GalleryItem { rgb: vec![0; 7], ..item(3, "") }];
    let report = Report { title: "", plan: "", summary: &summary, history: &history, most: &most, least: &[] };
    let error = render(&report).unwrap_err();
    assert!(matches!(&error, TrainError::Picture { id, .. } if id.ends_with('3')), "{error}");
}
