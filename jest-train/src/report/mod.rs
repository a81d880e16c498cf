//! `report.html`: one file that shows what the runs did, without a script or a second file.

mod chart;
mod picture;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};

pub use chart::{Chart, Series};

use crate::error::{Result, TrainError};
use crate::events::{Evaluated, Summary};
use crate::history::{History, RunHistory};
use crate::table;

/// Colours that the template knows; later runs begin again with the first.
const COLORS: usize = 6;

/// What a report shows.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// Its title: the name of the plan.
    pub title: &'a str,
    /// The plan, as TOML.
    pub plan: &'a str,
    /// What runs took and gave.
    pub summary: &'a Summary,
    /// Steps and evaluations.
    pub history: &'a History,
    /// The most learnable examples, best first.
    pub most: &'a [GalleryItem],
    /// The least learnable examples, least first.
    pub least: &'a [GalleryItem],
}

/// An example in the gallery.
#[derive(Debug, Clone, PartialEq)]
pub struct GalleryItem {
    /// Its id.
    pub id: String,
    /// Its caption.
    pub caption: String,
    /// Its score.
    pub score: f32,
    /// Its picture, `[side, side, 3]`.
    pub rgb: Vec<u8>,
    /// Pixels a side.
    pub side: usize,
}

/// The report as HTML. Titles, names, captions and the plan are escaped.
///
/// # Errors
/// `Picture` where a picture's bytes do not fit its side; `Template` never, short of a fault in the template.
pub fn render(report: &Report<'_>) -> Result<String> {
    let mut pages = pages()?;
    pages.add_template("report.html", include_str!("report.html"))?;
    pages.add_template("chart.html", include_str!("chart.html"))?;
    let names: Vec<String> = report.summary.runs.iter().map(|run| run.name.clone()).collect();
    let chart = pages.get_template("chart.html")?;
    let mut charts = Vec::new();
    for drawing in charts_of(report.history).iter().filter_map(Chart::draw) {
        charts.push(Value::from_safe_string(chart.render(context! { chart => Serde(drawing) })?)); // Escaped there.
    }
    let page = pages.get_template("report.html")?.render(context! {
        title => report.title,
        device => report.summary.device.as_str(),
        threads => report.summary.threads,
        seed => report.summary.seed,
        plan => report.plan,
        names,
        rows => Serde(table::rows(report.summary)),
        charts,
        style => style(&pages)?,
        most => gallery(&pages, report.most)?,
        least => gallery(&pages, report.least)?,
    })?;
    Ok(page)
}

/// What a run chose.
#[derive(Debug, Clone)]
pub struct ChoicesOf {
    /// Name of the run.
    pub name: String,
    /// What is told of its choices.
    pub text: String,
    /// Its parts in time, in which something was chosen.
    pub parts: Vec<ChoicesIn>,
}

/// The ends of what was chosen in a part of a run.
#[derive(Debug, Clone)]
pub struct ChoicesIn {
    /// Its first and its last step.
    pub steps: (i64, i64),
    /// The most learnable examples, best first.
    pub most: Vec<GalleryItem>,
    /// The least learnable examples, least first.
    pub least: Vec<GalleryItem>,
}

/// The choices of several runs as HTML.
///
/// # Errors
/// As [`render`].
pub fn render_choices(title: &str, runs: &[ChoicesOf]) -> Result<String> {
    let mut pages = pages()?;
    pages.add_template("choices.html", include_str!("choices.html"))?;
    let part = |part: &ChoicesIn| {
        let (first, last) = part.steps;
        Ok(context! { first, last, most => gallery(&pages, &part.most)?, least => gallery(&pages, &part.least)? })
    };
    let run = |run: &ChoicesOf| {
        let parts: Result<Vec<Value>> = run.parts.iter().map(part).collect();
        Ok(context! { name => run.name.as_str(), text => run.text.as_str(), parts => parts? })
    };
    let runs: Result<Vec<Value>> = runs.iter().map(run).collect();
    let style = style(&pages)?;
    Ok(pages.get_template("choices.html")?.render(context! { title, style, runs => runs? })?)
}

/// The templates that pages share.
fn pages() -> Result<Environment<'static>> {
    let mut pages = Environment::new();
    pages.set_undefined_behavior(UndefinedBehavior::Strict);
    pages.set_auto_escape_callback(|_| AutoEscape::Html);
    pages.add_template("gallery.html", include_str!("gallery.html"))?;
    pages.add_template("style.html", include_str!("style.html"))?;
    Ok(pages)
}

fn style(pages: &Environment<'_>) -> Result<Value> {
    Ok(Value::from_safe_string(pages.get_template("style.html")?.render(())?))
}

/// Pictures with their captions; nothing where there are none.
fn gallery(pages: &Environment<'_>, items: &[GalleryItem]) -> Result<Value> {
    let items = shown(items)?;
    let text = if items.is_empty() {
        String::new()
    } else {
        pages.get_template("gallery.html")?.render(context! { items })?
    };
    Ok(Value::from_safe_string(text)) // Escaped there.
}

/// What the template reads of each example.
fn shown(items: &[GalleryItem]) -> Result<Vec<Value>> {
    let show = |item: &GalleryItem| {
        let address = picture::data_address(&item.rgb, item.side);
        let address = address.map_err(|source| TrainError::Picture { id: item.id.clone(), source })?;
        Ok(context! {
            id => item.id.as_str(),
            caption => item.caption.as_str(),
            score => format!("{:+.3}", item.score),
            picture => Value::from_safe_string(address), // Base64 has nothing to escape.
        })
    };
    items.iter().map(show).collect()
}

/// Loss, what was picked, and each number of each task that was measured more than once.
fn charts_of(history: &History) -> Vec<Chart> {
    let mut charts = vec![loss(history), picked(history)];
    let all = || history.runs.iter().flat_map(|run| run.evaluated.iter());
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (task, metric) in all().flat_map(|done| done.metrics.iter().map(|(metric, _)| (done.task.as_str(), metric))) {
        if !seen.contains(&(task, metric)) {
            seen.push((task, metric));
            charts.push(score(history, task, metric));
        }
    }
    charts.retain(|chart| chart.series.iter().any(|series| series.points.len() > 1));
    charts
}

fn series(name: String, color: usize, dashed: bool, points: impl Iterator<Item = (f64, f64)>) -> Series {
    Series { name, color: color % COLORS, dashed, points: points.collect() }
}

fn loss(history: &History) -> Chart {
    let curve = |(color, run): (usize, &RunHistory)| {
        let points = run.steps.iter().map(|step| (step.examples_trained as f64, f64::from(step.loss)));
        series(run.name.clone(), color, false, points)
    };
    Chart {
        title: "Loss of the sub-batch".to_owned(),
        axes: ("examples trained".to_owned(), "loss".to_owned()),
        series: history.runs.iter().enumerate().map(curve).collect(),
    }
}

fn picked(history: &History) -> Chart {
    let mut curves = Vec::new();
    for (color, run) in history.runs.iter().enumerate() {
        let picks =
            || run.steps.iter().filter_map(|step| Some((step.examples_trained as f64, step.picked.as_ref()?.score)));
        let of = |word, dashed, value: fn((f64, crate::events::Contrast)) -> (f64, f64)| {
            series(format!("{} {word}", run.name), color, dashed, picks().map(value))
        };
        curves.push(of("picked", false, |(x, score)| (x, f64::from(score.picked))));
        curves.push(of("super-batch", true, |(x, score)| (x, f64::from(score.super_batch))));
    }
    Chart {
        title: "Mean score of what was picked, and of what it was picked from".to_owned(),
        axes: ("examples trained".to_owned(), "score".to_owned()),
        series: curves,
    }
}

fn score(history: &History, task: &str, metric: &str) -> Chart {
    let curve = |(color, run): (usize, &RunHistory)| {
        let of_task = run.evaluated.iter().filter(|done| done.task == task);
        let points = of_task.filter_map(|done| Some((examples_at(run, done), 100.0 * done.metrics.get(metric)?)));
        series(run.name.clone(), color, false, points)
    };
    Chart {
        title: format!("{task}: {metric}"),
        axes: ("examples trained".to_owned(), "%".to_owned()),
        series: history.runs.iter().enumerate().map(curve).collect(),
    }
}

/// Examples trained by an evaluation; 0 before the first step.
fn examples_at(run: &RunHistory, done: &Evaluated) -> f64 {
    let before = run.steps.partition_point(|step| step.step <= done.step);
    before.checked_sub(1).map_or(0.0, |last| run.steps[last].examples_trained as f64)
}

#[cfg(test)]
mod tests;
