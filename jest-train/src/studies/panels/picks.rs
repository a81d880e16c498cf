//! The noise in what runs chose.

use super::{Kind, Panel, Record, Series, StudyRun, at, panel};

/// Kinds of noise by what the JSON calls them, and by their names in the legend.
pub(super) const NOISE: [(&str, &str); 6] = [
    ("none", "clean"),
    ("weak", "weak caption"),
    ("shuffle", "of another picture"),
    ("boiler", "boilerplate"),
    ("filename", "file name"),
    ("spam", "spam"),
];

pub(in crate::studies) fn picks(record: &Record) -> Vec<Panel> {
    const CHOSEN: &str = "chosen, % of how often it comes";
    let by_kind = |method: &str| {
        let curve = |(kind, name): &(&str, &str)| {
            Series::of(record, method, name, StudyRun::x, |run| run.noise_chosen(&[kind], 2..4))
        };
        NOISE.iter().map(curve).collect()
    };
    let runs = [
        ("joint-0.8", "joint, f = 0.8"),
        ("joint-0.9", "joint, f = 0.9"),
        ("independent-0.8", "independent, f = 0.8"),
        ("independent-0.9", "independent, f = 0.9"),
    ];
    let over_time = |(run, name): &(&str, &str)| {
        let noisy =
            |quarter: usize| move |run: &StudyRun| run.noise_chosen(&["shuffle", "boiler"], quarter..quarter + 1);
        let points = (0..4).filter_map(|quarter| at(record, run, (quarter + 1) as f64, &noisy(quarter)));
        Series { name: (*name).to_string(), points: points.collect() }
    };
    let ratio = "filter ratio f";
    vec![
        panel("Joint selection, last half of training", ratio, CHOSEN, Kind::Lines, by_kind("joint")),
        panel("Independent selection, last half of training", ratio, CHOSEN, Kind::Lines, by_kind("independent")),
        panel(
            "Captions of another picture and boilerplate, over training",
            "quarter of the run",
            CHOSEN,
            Kind::Lines,
            runs.iter().map(over_time).collect(),
        ),
    ]
}
