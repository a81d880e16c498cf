//! The comparison of runs: a column a run, for the terminal and the report.

use crate::events::{RunSummary, Summary};

/// One line of the comparison.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Row {
    /// What is compared, with its unit.
    pub label: String,
    /// A value a run; `-` where a run has none.
    pub values: Vec<String>,
}

/// The comparison as plain text, aligned.
pub fn comparison(summary: &Summary) -> String {
    let names = Row { label: String::new(), values: summary.runs.iter().map(|run| run.name.clone()).collect() };
    let rows = [vec![names], rows(summary)].concat();
    let first = rows.iter().map(|row| row.label.chars().count()).max().unwrap_or(0);
    let width = |column: usize| rows.iter().map(|row| row.values[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..summary.runs.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        text.push_str(&format!("{:first$}", row.label));
        for (value, width) in row.values.iter().zip(&widths) {
            text.push_str(&format!("  {value:>width$}"));
        }
        text.push('\n');
    }
    text
}

/// The lines of the comparison: what each run did, what it took, and each number of each task.
pub fn rows(summary: &Summary) -> Vec<Row> {
    let row = |label: &str, value: &dyn Fn(&RunSummary) -> String| Row {
        label: label.to_owned(),
        values: summary.runs.iter().map(value).collect(),
    };
    let mut rows = vec![
        row("selection", &selection),
        row("steps", &|run| grouped(run.steps as f64)),
        row("examples trained", &|run| grouped(run.examples_trained as f64)),
        row("examples drawn", &|run| grouped(run.examples_drawn as f64)),
        row("GFLOP learn", &|run| grouped(run.flops.learn / 1e9)),
        row("GFLOP score", &|run| grouped(run.flops.score / 1e9)),
        row("GFLOP reference", &|run| grouped(run.flops.reference / 1e9)),
        row("seconds", &|run| format!("{:.1}", run.seconds.total())),
        row("peak memory, MB", &|run| grouped(run.peak_rss_mb as f64)),
    ];
    if summary.runs.iter().any(|run| run.peak_device_bytes.is_some()) {
        rows.push(row("peak device memory, MB", &|run| {
            run.peak_device_bytes.map_or_else(|| "-".to_owned(), |bytes| grouped((bytes >> 20) as f64))
        }));
    }
    if summary.runs.iter().any(|run| run.skipped_updates.is_some()) {
        rows.push(row("updates skipped", &|run| {
            run.skipped_updates.map_or_else(|| "-".to_owned(), |skipped| grouped(skipped as f64))
        }));
    }
    for (task, metric) in measured(summary) {
        let value = |run: &RunSummary| {
            let value = run.eval.get(&task).and_then(|metrics| metrics.get(&metric));
            value.map_or_else(|| "-".to_owned(), |value| format!("{:.1} %", 100.0 * value))
        };
        rows.push(row(&format!("{task} {metric}"), &value));
    }
    rows
}

/// Tasks and metrics that any run has, in the order of the first that does.
fn measured(summary: &Summary) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (task, metrics) in summary.runs.iter().flat_map(|run| run.eval.iter()) {
        for (metric, _) in metrics.iter() {
            let pair = (task.to_owned(), metric.to_owned());
            if !all.contains(&pair) {
                all.push(pair);
            }
        }
    }
    all.sort_by_key(|(task, _)| all_tasks(summary).iter().position(|known| known == task));
    all
}

fn all_tasks(summary: &Summary) -> Vec<&str> {
    let mut tasks = Vec::new();
    for (task, _) in summary.runs.iter().flat_map(|run| run.eval.iter()) {
        if !tasks.contains(&task) {
            tasks.push(task);
        }
    }
    tasks
}

/// `joint 80% by learnability`, `uniform`.
fn selection(run: &RunSummary) -> String {
    if run.filter_ratio == 0.0 {
        return run.selection.clone();
    }
    format!("{} {:.0}% by {}", run.selection, 100.0 * run.filter_ratio, run.score)
}

/// `38,400`; below 10, with two digits after the point.
pub(crate) fn grouped(value: f64) -> String {
    if value != 0.0 && value.abs() < 10.0 && value.fract() != 0.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Metrics, Named, samples};

    #[test]
    fn columns_are_aligned_and_what_is_missing_is_a_dash() {
        let uniform = RunSummary {
            name: "uniform".into(),
            selection: "uniform".into(),
            filter_ratio: 0.0,
            eval: Named::from_iter([("fashion_zs".to_owned(), Metrics::from_iter([("top1".to_owned(), 0.155)]))]),
            ..samples::run_summary("")
        };
        let text = comparison(&Summary { runs: vec![samples::run_summary("jest"), uniform], ..Summary::default() });
        let lines: Vec<&str> = text.lines().collect();
        let expected = [
            "                                                        jest  uniform",
            "selection                           joint 80% by learnability  uniform",
            "steps                                                    300      300",
        ];
        assert_eq!(lines.len(), 16, "{text}");
        assert_eq!(
            lines.iter().map(|line| line.chars().count()).min(),
            lines.iter().map(|line| line.chars().count()).max()
        );
        for (line, expected) in lines.iter().zip(expected) {
            assert_eq!(
                line.split_whitespace().collect::<Vec<_>>(),
                expected.split_whitespace().collect::<Vec<_>>(),
                "{text}"
            );
        }
        assert!(text.contains("GFLOP learn") && text.contains("3,100"), "{text}");
        assert!(lines[10].starts_with("fashion_zs top1") && lines[10].ends_with("15.5 %"), "{text}");
        assert!(lines[15].ends_with("-"), "{text}");
    }

    #[test]
    fn skipped_updates_are_shown_where_any_run_scales_its_loss() {
        let scaled = RunSummary { skipped_updates: Some(3), ..samples::run_summary("f16") };
        let text = comparison(&Summary { runs: vec![samples::run_summary("f32"), scaled], ..Summary::default() });
        let line = text.lines().find(|line| line.starts_with("updates skipped")).unwrap();
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["updates", "skipped", "-", "3"]);
    }

    #[test]
    fn digits_are_grouped() {
        for (value, expected) in [
            (0.0, "0"),
            (999.0, "999"),
            (38_400.0, "38,400"),
            (1_234_567.4, "1,234,567"),
            (0.125, "0.12"),
            (-4000.0, "-4,000"),
        ] {
            assert_eq!(grouped(value), expected);
        }
    }
}
