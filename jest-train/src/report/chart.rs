//! Curves worked out as geometry; the template draws them.

use serde::Serialize;

/// Size of a drawing, and the frame in it that curves stay inside, in pixels.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const FRAME: Frame = Frame { left: 56.0, right: 628.0, top: 14.0, bottom: 260.0 };

/// Points of a curve, at most; more are averaged in groups.
const POINTS: usize = 200;
/// Points of a curve up to which each is marked.
const MARKED: usize = 40;

struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

/// Curves over a common axis.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// What runs along it, and what goes up.
    pub axes: (String, String),
    /// The curves.
    pub series: Vec<Series>,
}

/// One curve.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Index of its colour; runs keep theirs over all charts.
    pub color: usize,
    /// Whether it is drawn dashed.
    pub dashed: bool,
    /// Its points, left to right; those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// A chart in pixels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Drawing {
    title: String,
    x_label: String,
    y_label: String,
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x_ticks: Vec<Tick>,
    y_ticks: Vec<Tick>,
    curves: Vec<Curve>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Tick {
    at: f64,
    label: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Curve {
    name: String,
    color: usize,
    dashed: bool,
    path: String,
    marks: Vec<(f64, f64)>,
}

impl Chart {
    /// The chart in pixels; none where no curve has a finite point.
    pub(super) fn draw(&self) -> Option<Drawing> {
        let series: Vec<(&Series, Vec<(f64, f64)>)> = self
            .series
            .iter()
            .map(|series| (series, thinned(&series.points)))
            .filter(|(_, points)| !points.is_empty())
            .collect();
        let all = || series.iter().flat_map(|(_, points)| points.iter());
        let last = all().fold(f64::NEG_INFINITY, |last, point| last.max(point.0));
        let x = Axis::over(all().map(|point| point.0).chain([0.0]), 7)?.ending_at(last);
        let y = Axis::over(all().map(|point| point.1), 6)?;
        let place = |&(px, py): &(f64, f64)| {
            (tenth(x.place(px, FRAME.left, FRAME.right)), tenth(y.place(py, FRAME.bottom, FRAME.top)))
        };
        let curve = |(series, points): &(&Series, Vec<(f64, f64)>)| {
            let placed: Vec<(f64, f64)> = points.iter().map(place).collect();
            Curve {
                name: series.name.clone(),
                color: series.color,
                dashed: series.dashed,
                path: placed.iter().map(|(x, y)| format!("{x},{y}")).collect::<Vec<_>>().join(" "),
                marks: if placed.len() <= MARKED { placed } else { Vec::new() },
            }
        };
        Some(Drawing {
            title: self.title.clone(),
            x_label: self.axes.0.clone(),
            y_label: self.axes.1.clone(),
            width: WIDTH,
            height: HEIGHT,
            left: FRAME.left,
            right: FRAME.right,
            top: FRAME.top,
            bottom: FRAME.bottom,
            x_ticks: x.ticks(FRAME.left, FRAME.right),
            y_ticks: y.ticks(FRAME.bottom, FRAME.top),
            curves: series.iter().map(curve).collect(),
        })
    }
}

/// A range in steps of 1, 2 or 5 times a power of ten.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// The round range around `values`, in at most `parts` steps; none without values.
    fn over(values: impl Iterator<Item = f64>, parts: u32) -> Option<Self> {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if !(low.is_finite() && high.is_finite()) {
            return None;
        }
        // Equal values get a range around them, so that nothing is divided by zero.
        let room = if high > low { 0.0 } else { (0.1 * high.abs()).max(1e-6) };
        let (low, high) = (low - room, high + room);
        let rough = (high - low) / f64::from(parts);
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| *step >= rough * (1.0 - 1e-9))?;
        Some(Self { low: (low / step + 1e-9).floor() * step, high: (high / step - 1e-9).ceil() * step, step })
    }

    /// The same steps, up to the last value alone, so that curves end at the frame.
    fn ending_at(self, last: f64) -> Self {
        if last > self.low { Self { high: last, ..self } } else { self }
    }

    fn place(&self, value: f64, from: f64, to: f64) -> f64 {
        from + (to - from) * (value - self.low) / (self.high - self.low)
    }

    fn ticks(&self, from: f64, to: f64) -> Vec<Tick> {
        let count = ((self.high - self.low) / self.step + 1e-6).floor() as usize;
        let values = (0..=count).map(|index| self.low + index as f64 * self.step);
        values.map(|value| Tick { at: tenth(self.place(value, from, to)), label: label(value, self.step) }).collect()
    }
}

/// Finite points, averaged in equal groups where there are too many.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let finite: Vec<(f64, f64)> = points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    let group = finite.len().div_ceil(POINTS).max(1);
    let mean = |chunk: &[(f64, f64)]| {
        let (x, y) = chunk.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (x / chunk.len() as f64, y / chunk.len() as f64)
    };
    finite.chunks(group).map(mean).collect()
}

/// As many digits as the distance between ticks needs; thousands as `k`, millions as `M`.
fn label(value: f64, step: f64) -> String {
    let value = if value.abs() < step * 1e-6 { 0.0 } else { value };
    let (unit, suffix) = match value.abs().max(step) {
        large if large >= 1e6 => (1e6, "M"),
        large if large >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let digits = (-(step / unit).log10().floor()).clamp(0.0, 8.0) as usize;
    format!("{:.digits$}{}", value / unit, if value == 0.0 { "" } else { suffix })
}

fn tenth(pixel: f64) -> f64 {
    (pixel * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_round() {
        let axis = |values: &[f64]| Axis::over(values.iter().copied(), 5).map(|axis| (axis.low, axis.high, axis.step));
        assert_eq!(axis(&[0.0, 400.0]), Some((0.0, 400.0, 100.0)));
        assert_eq!(axis(&[0.0, 38_400.0]), Some((0.0, 40_000.0, 10_000.0)));
        assert_eq!(axis(&[-3.0, 7.1]), Some((-5.0, 10.0, 5.0)));
        assert_eq!(axis(&[]), None);
        assert_eq!(axis(&[f64::INFINITY]), None);
        let (low, high, _) = axis(&[2.0]).unwrap();
        assert!(low < 2.0 && high > 2.0);
        assert!(axis(&[0.0]).is_some_and(|(low, high, _)| low < 0.0 && high > 0.0));
    }

    #[test]
    fn labels_have_the_digits_they_need() {
        for (value, step, expected) in [
            (0.25, 0.05, "0.25"),
            (3.0, 1.0, "3"),
            (40_000.0, 10_000.0, "40k"),
            (12_500.0, 500.0, "12.5k"),
            (2e6, 1e6, "2M"),
            (-1e-12, 0.1, "0.0"),
        ] {
            assert_eq!(label(value, step), expected);
        }
    }

    #[test]
    fn curves_stay_in_the_frame_and_lose_what_is_not_finite() {
        let points =
            (0..1000).map(|x| (f64::from(x), if x == 500 { f64::NAN } else { 1.0 / f64::from(x + 1) })).collect();
        let chart =
            Chart { series: vec![Series { points, ..Series::default() }, Series::default()], ..Chart::default() };
        let drawing = chart.draw().unwrap();
        let [curve] = &drawing.curves[..] else { panic!("a curve without points is not drawn") };
        assert!(!curve.path.contains("NaN"));
        assert!(curve.path.split(' ').count() <= POINTS);
        for point in curve.path.split(' ') {
            let (x, y) = point.split_once(',').unwrap();
            assert!((FRAME.left..=FRAME.right).contains(&x.parse().unwrap()), "{point}");
            assert!((FRAME.top..=FRAME.bottom).contains(&y.parse().unwrap()), "{point}");
        }
        assert_eq!(Chart::default().draw(), None);
    }

    #[test]
    fn thinning_keeps_means() {
        let points: Vec<(f64, f64)> = (0..POINTS * 2).map(|x| (x as f64, 3.0)).collect();
        let thin = thinned(&points);
        assert_eq!((thin.len(), thin[0]), (POINTS, (0.5, 3.0)));
    }
}
