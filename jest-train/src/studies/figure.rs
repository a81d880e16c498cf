//! Figures as data: panels, curves, points with their spread over seeds.

use serde::{Deserialize, Serialize};

use super::record::{Record, StudyRun};

/// One drawing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Panel {
    /// What it shows.
    pub title: String,
    /// What runs along it.
    pub x_label: String,
    /// What goes up.
    pub y_label: String,
    /// How it is drawn.
    pub kind: Kind,
    /// Curves, or bars of one colour.
    pub series: Vec<Series>,
}

impl Panel {
    /// Whether it has no point.
    pub fn is_empty(&self) -> bool {
        self.series.iter().all(|series| series.points.is_empty())
    }
}

/// How a panel is drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Points joined by lines.
    Lines,
    /// Points joined by lines over a logarithmic axis.
    LogLines,
    /// Points alone.
    Points,
    /// Bars in groups; x counts the groups, which have these names.
    Bars(Vec<String>),
}

/// One curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Left to right.
    pub points: Vec<Point>,
}

/// A mean over seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Where.
    pub x: f64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation over seeds, with n - 1; 0 of one seed.
    pub std: f64,
    /// Seeds.
    pub n: usize,
}

impl Point {
    /// Mean and spread of values; none without values.
    pub fn of(x: f64, values: &[f64]) -> Option<Self> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let std = if n > 1 { (squares / (n - 1) as f64).sqrt() } else { 0.0 };
        // Nine digits: what is made of a record that was read back comes out the same, though JSON may lose the last of seventeen.
        let kept = |value: f64| format!("{value:.8e}").parse().unwrap_or(value);
        Some(Self { x: kept(x), mean: kept(mean), std: kept(std), n })
    }

    /// Standard error of the mean.
    pub fn error(&self) -> f64 {
        self.std / (self.n as f64).sqrt()
    }
}

impl Series {
    /// The runs of one curve, `value` of each averaged over seeds, at `x`, averaged too; in the order of x.
    ///
    /// A run without a value is left out.
    pub fn of(
        record: &Record,
        series: &str,
        name: &str,
        x: impl Fn(&StudyRun) -> Option<f64>,
        value: impl Fn(&StudyRun) -> Option<f64>,
    ) -> Self {
        let mut names: Vec<&str> = Vec::new();
        for run in record.runs.iter().filter(|run| run.series() == series) {
            if !names.contains(&run.run.name.as_str()) {
                names.push(&run.run.name);
            }
        }
        let point = |name: &&str| {
            let runs = record.runs.iter().filter(|run| run.run.name == **name);
            let (xs, values): (Vec<f64>, Vec<f64>) = runs.filter_map(|run| Some((x(run)?, value(run)?))).unzip();
            Point::of(Point::of(0.0, &xs)?.mean, &values)
        };
        let mut points: Vec<Point> = names.iter().filter_map(point).collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        Self { name: name.to_string(), points }
    }
}

/// What a run scores above another of the same seed.
pub fn above<'a>(record: &'a Record, baseline: &'a str) -> impl Fn(&StudyRun) -> Option<f64> + 'a {
    move |run| Some(run.target() - record.run(baseline, run.seed)?.target())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::RunSummary;

    fn run(name: &str, seed: u64, top1: f64) -> StudyRun {
        let metrics = [("top1".to_string(), top1)].into_iter().collect();
        let eval = [("fashion_zs".to_string(), metrics)].into_iter().collect();
        StudyRun { seed, run: RunSummary { name: name.into(), eval, ..RunSummary::default() }, ..StudyRun::default() }
    }

    #[test]
    fn seeds_become_a_mean_and_a_spread() {
        let point = Point::of(1.0, &[1.0, 2.0, 6.0]).unwrap();
        assert_eq!((point.mean, point.n), (3.0, 3));
        assert!((point.std - 7f64.sqrt()).abs() < 1e-6);
        assert!((point.error() - (7.0 / 3.0f64).sqrt()).abs() < 1e-6);
        assert_eq!(Point::of(1.0, &[4.0]).unwrap().std, 0.0);
        assert_eq!(Point::of(1.0, &[]), None);
    }

    #[test]
    fn gains_are_taken_seed_by_seed() {
        let runs = vec![
            run("uniform", 0, 0.1),
            run("uniform", 1, 0.3),
            run("joint-0.8", 0, 0.2),
            run("joint-0.8", 1, 0.4),
            run("joint-0.5", 1, 0.35),
            run("other-0.5", 0, 0.9),
        ];
        let record = Record { runs, ..Record::default() };
        let gains = Series::of(&record, "joint", "joint", StudyRun::x, above(&record, "uniform"));
        let found: Vec<(f64, usize)> = gains.points.iter().map(|point| (point.x, point.n)).collect();
        assert_eq!(found, [(0.5, 1), (0.8, 2)]);
        assert!((gains.points[0].mean - 5.0).abs() < 1e-9);
        assert!((gains.points[1].mean - 10.0).abs() < 1e-9 && gains.points[1].std < 1e-9);
    }
}
