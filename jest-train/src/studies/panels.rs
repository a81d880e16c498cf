//! What each study draws of its runs.

mod picks;

use super::figure::{Kind, Panel, Point, Series, above};
use super::record::{Record, StudyRun, TARGETS};

pub(super) use picks::picks;

/// A number of a run.
type Measure = fn(&StudyRun) -> f64;

const SCORE: &str = "target score, %";
const GAIN: &str = "target score above uniform, points";

fn panel(title: &str, x_label: &str, y_label: &str, kind: Kind, series: Vec<Series>) -> Panel {
    let series = series.into_iter().filter(|series| !series.points.is_empty()).collect();
    Panel { title: title.into(), x_label: x_label.into(), y_label: y_label.into(), kind, series }
}

fn score(run: &StudyRun) -> Option<f64> {
    Some(run.target())
}

/// Curves over the number in the runs' names, by name in the record and in the legend.
fn over_x(record: &Record, curves: &[(&str, &str)], value: &dyn Fn(&StudyRun) -> Option<f64>) -> Vec<Series> {
    curves.iter().map(|(series, name)| Series::of(record, series, name, StudyRun::x, value)).collect()
}

/// The same, each beginning with uniform selection at 0.
fn from_uniform_over_x(
    record: &Record,
    curves: &[(&str, &str)],
    value: &dyn Fn(&StudyRun) -> Option<f64>,
) -> Vec<Series> {
    over_x(record, curves, value).into_iter().map(|curve| from_uniform(record, curve, value)).collect()
}

/// The same value for every seed of one run, as a curve of one point at `x`.
fn at(record: &Record, run: &str, x: f64, value: &dyn Fn(&StudyRun) -> Option<f64>) -> Option<Point> {
    let values: Vec<f64> = record.runs.iter().filter(|other| other.run.name == run).filter_map(value).collect();
    Point::of(x, &values)
}

/// Bars of whole runs: groups of runs by name, one colour for each place in the group.
fn bars(
    record: &Record,
    groups: &[(&str, &[&str])],
    colors: &[&str],
    value: &dyn Fn(&StudyRun) -> Option<f64>,
) -> (Kind, Vec<Series>) {
    let series = colors.iter().enumerate().map(|(place, name)| Series {
        name: (*name).to_string(),
        points: groups
            .iter()
            .enumerate()
            .filter_map(|(x, (_, runs))| at(record, runs.get(place)?, x as f64, value))
            .collect(),
    });
    (Kind::Bars(groups.iter().map(|(group, _)| (*group).to_string()).collect()), series.collect())
}

/// A curve of `series` with the run `uniform` as its point at 0.
fn from_uniform(record: &Record, mut curve: Series, value: &dyn Fn(&StudyRun) -> Option<f64>) -> Series {
    if !curve.points.is_empty() {
        curve.points.splice(0..0, at(record, "uniform", 0.0, value));
    }
    curve
}

pub(super) fn references(record: &Record) -> Vec<Panel> {
    let names = ["reference", "reference_pp", "moderate", "weak", "raw"];
    let groups: Vec<(&str, &[&str])> =
        names.iter().map(|name| (*name, std::slice::from_ref(name) as &[&str])).collect();
    let (kind, series) = bars(record, &groups, &["reference"], &score);
    vec![panel("References by what they were trained on", "", SCORE, kind, series)]
}

const FIG3: [(&str, &str); 4] = [
    ("joint_learnability", "joint, learnability"),
    ("independent_learnability", "independent, learnability"),
    ("joint_easy", "joint, easy reference"),
    ("independent_easy", "independent, easy reference"),
];

pub(super) fn fig3(record: &Record) -> Vec<Panel> {
    let gain = above(record, "uniform");
    let learnability = from_uniform_over_x(record, &FIG3[..2], &gain);
    let easy = from_uniform_over_x(record, &FIG3[2..], &gain);
    let six = |run: &StudyRun| Some(run.without_clothes() - record.run("uniform", run.seed)?.without_clothes());
    let ratio = "filter ratio f";
    vec![
        panel("Learnability: what joint selection adds", ratio, GAIN, Kind::Lines, learnability),
        panel("Easy reference", ratio, GAIN, Kind::Lines, easy),
        panel("Learnability, without clothes", ratio, GAIN, Kind::Lines, from_uniform_over_x(record, &FIG3[..2], &six)),
        panel(
            "Easy reference, without clothes",
            ratio,
            GAIN,
            Kind::Lines,
            from_uniform_over_x(record, &FIG3[2..], &six),
        ),
    ]
}

pub(super) fn fig3_long(record: &Record) -> Vec<Panel> {
    let (gain, ratio) = (above(record, "uniform"), "filter ratio f");
    let six = |run: &StudyRun| Some(run.without_clothes() - record.run("uniform", run.seed)?.without_clothes());
    vec![
        panel("3,000 updates", ratio, GAIN, Kind::Lines, from_uniform_over_x(record, &FIG3[..2], &gain)),
        panel(
            "3,000 updates, without clothes",
            ratio,
            GAIN,
            Kind::Lines,
            from_uniform_over_x(record, &FIG3[..2], &six),
        ),
    ]
}

const FIG1: [(&str, &str); 4] =
    [("uniform", "uniform"), ("jest", "JEST"), ("jest_pp", "JEST++"), ("flexi_jest_pp", "Flexi-JEST++")];

pub(super) fn fig1(record: &Record) -> Vec<Panel> {
    let axes: [(&str, &str, Measure); 4] = [
        ("By examples trained", "examples trained", |run| run.run.examples_trained as f64),
        ("By all FLOPs, reference included", "FLOPs", StudyRun::flops),
        ("By examples drawn", "examples drawn", |run| run.run.examples_drawn as f64),
        ("By wall-clock time, reference included", "seconds", |run| run.run.seconds.total() - run.run.seconds.eval),
    ];
    let drawn = axes.iter().map(|(title, axis, cost)| {
        let series = FIG1.iter().map(|(series, name)| Series::of(record, series, name, |run| Some(cost(run)), score));
        panel(title, axis, SCORE, Kind::LogLines, series.collect())
    });
    drawn.collect()
}

pub(super) fn fig2(record: &Record) -> Vec<Panel> {
    // These panels are made of draws, not of runs.
    record.panels.clone()
}

pub(super) fn fig4(record: &Record) -> Vec<Panel> {
    let shares = over_x(record, &[("iid_patches", "uniform"), ("jest_patches", "JEST")], &score);
    let against_work = FIG1.iter().map(|(series, name)| {
        let shortest = record.runs.iter().filter(|run| run.series() == "uniform").map(|run| run.run.flops.learn);
        let unit = shortest.fold(f64::INFINITY, f64::min);
        Series::of(record, series, name, |run| Some(100.0 * run.flops() / unit), score)
    });
    let share = "share of a batch at the cheap view";
    vec![
        cost(record),
        panel(
            "Score by all work, reference included",
            "% of the shortest uniform run",
            SCORE,
            Kind::LogLines,
            against_work.collect(),
        ),
        panel("Equal training work: cheap examples", share, SCORE, Kind::Lines, shares),
    ]
}

pub(super) fn flexi_share(record: &Record) -> Vec<Panel> {
    const GROUPS: [(&str, &[&str]); 5] = [
        ("uniform", &["uniform"]),
        ("JEST", &["jest"]),
        ("1/2", &["constant-0.5"]),
        ("1 to 0", &["falling-1"]),
        ("0.8 to 0.2", &["falling-0.8"]),
    ];
    scores_and_work(record, &GROUPS)
}

pub(super) fn flexi_cost(record: &Record) -> Vec<Panel> {
    const GROUPS: [(&str, &[&str]); 4] = [
        ("uniform", &["uniform"]),
        ("JEST", &["jest"]),
        ("Flexi-JEST", &["flexi_jest"]),
        ("scale x 0.6", &["flexi_jest_0.6"]),
    ];
    scores_and_work(record, &GROUPS)
}

/// Bars of what runs of equal examples reach, and of their work without a reference's.
fn scores_and_work(record: &Record, groups: &[(&str, &[&str])]) -> Vec<Panel> {
    let measures: [(&str, &str, Measure); 3] = [
        ("Score at equal examples trained", SCORE, StudyRun::target),
        ("Score without clothes", SCORE, StudyRun::without_clothes),
        ("Training, scoring and selection", "TFLOP", |run| (run.run.flops.learn + run.run.flops.score) / 1e12),
    ];
    let drawn = measures.iter().map(|(title, axis, value)| {
        let (kind, series) = bars(record, groups, &["runs"], &|run| Some(value(run)));
        panel(title, "", axis, kind, series)
    });
    drawn.collect()
}

/// Work of a step by its part, with uniform's as 100: the reference apart, as its training is paid once.
fn cost(record: &Record) -> Panel {
    let shortest = |series: &str| {
        let runs = record.runs.iter().filter(|run| run.series() == series);
        runs.min_by_key(|run| run.run.steps)
    };
    let per_step = |value: f64, run: &StudyRun| value / run.run.steps as f64;
    let uniform = shortest("uniform").map_or(1.0, |run| per_step(run.run.flops.learn, run));
    let parts: [(&str, Measure); 2] =
        [("training", |run| run.run.flops.learn), ("scoring and selection", |run| run.run.flops.score)];
    let methods = [("uniform", "uniform"), ("jest", "JEST"), ("flexi_jest_pp", "Flexi-JEST++")];
    let series = parts.iter().map(|(name, part)| Series {
        name: (*name).to_string(),
        points: methods
            .iter()
            .enumerate()
            .filter_map(|(x, (series, _))| {
                let run = shortest(series)?;
                Point::of(x as f64, &[100.0 * per_step(part(run), run) / uniform])
            })
            .collect(),
    });
    let groups = methods.map(|(_, name)| name.to_string()).to_vec();
    panel("Work of one step, both towers", "", "% of a uniform step", Kind::Bars(groups), series.collect())
}

pub(super) fn fig5(record: &Record) -> Vec<Panel> {
    let of = |kinds: &[(&str, &str, &str)], name: &str| {
        let points = kinds.iter().filter_map(|(reference, jest, _)| {
            let base = at(record, "uniform", 0.0, &score)?.mean;
            let x = at(record, reference, 0.0, &score)?.mean - base;
            let gain = above(record, "uniform");
            at(record, jest, x, &gain)
        });
        Series { name: name.to_string(), points: points.collect() }
    };
    let sets = [
        ("reference", "by_reference", "curated"),
        ("moderate", "by_moderate", "moderate"),
        ("weak", "by_weak", "weak"),
        ("raw", "by_raw", "raw"),
    ];
    let lengths = [
        ("early-500", "by_early-500", "500"),
        ("early-1000", "by_early-1000", "1000"),
        ("reference", "by_reference", "2000"),
        ("early-4000", "by_early-4000", "4000"),
    ];
    let qualities = sets.iter().map(|set| of(std::slice::from_ref(set), set.2)).collect();
    vec![
        panel(
            "Sets of several cleanliness",
            "reference above uniform, points",
            "JEST above uniform, points",
            Kind::Points,
            qualities,
        ),
        panel(
            "One curated set, longer and longer (500 to 4,000 steps)",
            "reference above uniform, points",
            "JEST above uniform, points",
            Kind::Lines,
            vec![of(&lengths, "curated")],
        ),
    ]
}

pub(super) fn fig6(record: &Record) -> Vec<Panel> {
    let jump = |run: &StudyRun| Some(run.loss_jump);
    let curves = |value: &dyn Fn(&StudyRun) -> Option<f64>| {
        let calm = Series::of(record, "joint_learnability", "beta2 0.95", StudyRun::x, value);
        let calm = Series { points: calm.points.into_iter().filter(|point| point.x < 0.85).collect(), ..calm };
        let slow = Series::of(record, "slow", "beta2 0.999", StudyRun::x, value);
        vec![from_uniform(record, calm, value), slow]
    };
    vec![
        panel("Score", "filter ratio f", SCORE, Kind::Lines, curves(&score)),
        panel(
            "Largest rise of the loss between two steps",
            "filter ratio f",
            "ln of the ratio",
            Kind::Lines,
            curves(&jump),
        ),
    ]
}

pub(super) fn fig7(record: &Record) -> Vec<Panel> {
    let x = |run: &StudyRun| run.x();
    let gain = |run: &StudyRun| {
        let other = format!("uniform-{}", run.x()?);
        Some(run.target() - record.run(&other, run.seed)?.target())
    };
    let scores = [("jest", "JEST"), ("uniform", "uniform")];
    let scores = scores.iter().map(|(series, name)| Series::of(record, series, name, x, score)).collect();
    vec![
        panel("Sub-batches of one super-batch", "sub-batch b", SCORE, Kind::LogLines, scores),
        panel(
            "What selection adds",
            "sub-batch b",
            GAIN,
            Kind::LogLines,
            vec![Series::of(record, "jest", "JEST", x, gain)],
        ),
    ]
}

pub(super) fn fig8(record: &Record) -> Vec<Panel> {
    let gain = above(record, "uniform");
    let sigmoid = [("joint_learnability", "sigmoid, joint"), ("independent_learnability", "sigmoid, independent")];
    let sigmoid = from_uniform_over_x(record, &sigmoid, &gain);
    let softmax = over_x(record, &[("softmax", "softmax, joint"), ("independent", "softmax, independent")], &gain);
    let title = "Both losses, against uniform with the sigmoid loss";
    vec![panel(title, "filter ratio f", GAIN, Kind::Lines, [sigmoid, softmax].concat())]
}

pub(super) fn fig9(record: &Record) -> Vec<Panel> {
    let gain = above(record, "uniform");
    let share = "share of a batch at the cheap view";
    // Without cheap examples uniform selection is `uniform`; JEST at 0 still scores by the cheap view.
    let curves = |uniform: &str, jest: &str| {
        [from_uniform_over_x(record, &[(uniform, "uniform")], &gain), over_x(record, &[(jest, "JEST")], &gain)].concat()
    };
    let [resolution, dropping] = [curves("iid_patches", "jest_patches"), curves("iid_dropping", "jest_dropping")];
    vec![
        panel("Larger patches, equal work", share, GAIN, Kind::Lines, resolution),
        panel("Dropped patches, equal work", share, GAIN, Kind::Lines, dropping),
    ]
}

pub(super) fn fig10(record: &Record) -> Vec<Panel> {
    let gain = above(record, "uniform");
    let curves = from_uniform_over_x(record, &[("joint_hard", "joint"), ("independent_hard", "independent")], &gain);
    vec![panel("Choosing what is hard for the learner", "filter ratio f", GAIN, Kind::Lines, curves)]
}

pub(super) fn table3(record: &Record) -> Vec<Panel> {
    let groups: [(&str, &[&str]); 2] = [
        ("raw pool", &["uniform", "joint_learnability-0.8"]),
        ("filtered pool", &["filtered_uniform", "filtered_jest"]),
    ];
    let (kind, series) = bars(record, &groups, &["uniform", "JEST"], &score);
    vec![panel("Filtering ahead of time", "", SCORE, kind, series)]
}

pub(super) fn table5(record: &Record) -> Vec<Panel> {
    let longest = |series: &str| {
        let runs = record.runs.iter().filter(|run| run.series() == series);
        runs.max_by_key(|run| run.run.steps).map(|run| run.run.name.clone())
    };
    let tasks: Vec<&str> = TARGETS.into_iter().chain(["icons_zs", "scenes_zs"]).collect();
    let bars = [("uniform", "uniform, longest"), ("reference_pp", "reference"), ("jest_pp", "JEST++")];
    let series = bars.iter().filter_map(|(series, name)| {
        let run = longest(series)?;
        let points = tasks.iter().enumerate().filter_map(|(x, task)| at(record, &run, x as f64, &|run| run.task(task)));
        Some(Series { name: (*name).to_string(), points: points.collect() })
    });
    let groups = tasks.iter().map(|task| task.trim_end_matches("_zs").replace("retrieval", "R").replace('_', " "));
    vec![panel("Task by task", "", "top-1 or R@10, %", Kind::Bars(groups.collect()), series.collect())]
}

#[cfg(test)]
mod tests;
