//! What was compared, and how far off it was.

use std::path::Path;

use jest_model::{NamedTensor, TensorFile, TensorSource};
use serde::Serialize;

use crate::say::{say, tell};
use crate::{Result, TrainError};

/// One value of another library against ours.
#[derive(Debug, Serialize)]
struct Check {
    group: String,
    name: String,
    error: f64,
    limit: f64,
    ok: bool,
}

/// All comparisons so far.
#[derive(Debug, Serialize)]
pub(super) struct Checks {
    checks: Vec<Check>,
    #[serde(skip)]
    group: String,
    #[serde(skip)]
    slack: f64,
}

impl Checks {
    /// `slack` multiplies every limit of arithmetic.
    pub(super) fn new(slack: f64) -> Self {
        Self { checks: Vec::new(), group: String::new(), slack }
    }

    /// Later checks belong to this file or folder.
    pub(super) fn begin(&mut self, name: &str) {
        self.group = name.strip_suffix(".safetensors").unwrap_or(name).to_string();
    }

    /// Holds `max|got - want| / max|want|` to a limit.
    pub(super) fn compare(&mut self, name: &str, got: &[f32], want: &[f32], limit: f64) {
        self.compare_above(name, got, want, 0.0, limit);
    }

    /// Holds `max|got - want| / max(max|want|, floor)` to a limit; 0 against 0 is equal.
    pub(super) fn compare_above(&mut self, name: &str, got: &[f32], want: &[f32], floor: f64, limit: f64) {
        let limit = limit * self.slack;
        self.push(name, relative_error(got, want, floor), limit);
    }

    /// Holds the number of values that differ to 0, on any device; no value at all is one that differs.
    pub(super) fn compare_exactly(&mut self, name: &str, got: &[f32], want: &[f32]) {
        let differing = got.iter().zip(want).filter(|(got, want)| got != want).count() + got.len().abs_diff(want.len());
        self.push(name, differing.max(usize::from(want.is_empty())) as f64, 0.0);
    }

    /// A check that cannot be made, for a reason that is printed.
    pub(super) fn refuse(&mut self, name: &str, why: &str) {
        tell!("{} {name}: {why}", self.group);
        self.fail(name);
    }

    /// A check that cannot be made.
    pub(super) fn fail(&mut self, name: &str) {
        self.push(name, 1.0, 0.0);
    }

    fn push(&mut self, name: &str, error: f64, limit: f64) {
        // A value that is computed in several ways is one check, as far off as the worst of them.
        let same = |check: &&mut Check| check.group == self.group && check.name == name;
        if let Some(check) = self.checks.iter_mut().rev().find(same) {
            check.error = check.error.max(error);
            check.ok &= error <= limit;
            return;
        }
        let check = Check { group: self.group.clone(), name: name.to_string(), error, limit, ok: error <= limit };
        self.checks.push(check);
    }

    pub(super) fn len(&self) -> usize {
        self.checks.len()
    }

    pub(super) fn failed(&self) -> usize {
        self.checks.iter().filter(|check| !check.ok).count()
    }

    /// One line a check; with `json` one line of JSON last.
    pub(super) fn print(&self, json: bool) -> Result<()> {
        for Check { group, name, error, limit, ok } in &self.checks {
            let word = if *ok { "ok " } else { "OUT" };
            say!("{word} {group} {name}: {error:.1e}, limit {limit:.0e}");
        }
        if json {
            let line = serde_json::to_string(self);
            say!("{}", line.map_err(|source| TrainError::Json { what: "the list of checks", source })?);
        }
        Ok(())
    }
}

/// `max|got - want| / max(max|want|, floor)`; the largest f64 for another length, none or NaN, which JSON has no word for.
fn relative_error(got: &[f32], want: &[f32], floor: f64) -> f64 {
    if got.len() != want.len() || want.is_empty() {
        return f64::MAX;
    }
    let differences = got.iter().zip(want).map(|(got, want)| (f64::from(*got) - f64::from(*want)).abs());
    // `f64::max` drops NaN, so it is looked for first.
    let worst = if differences.clone().any(f64::is_nan) { f64::MAX } else { differences.fold(0.0, f64::max) };
    let error = if worst == 0.0 { 0.0 } else { worst / largest(want).max(floor) };
    error.min(f64::MAX)
}

/// Largest magnitude.
pub(super) fn largest(values: &[f32]) -> f64 {
    values.iter().fold(0.0, |top, value| f64::from(value.abs()).max(top))
}

/// A file of expected values.
pub(super) struct Expected {
    file: TensorFile,
}

impl Expected {
    pub(super) fn open(path: &Path) -> Result<Self> {
        Ok(Self { file: TensorFile::open(path)? })
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.file.names().map(str::to_string).collect()
    }

    /// Names that begin so, with what follows.
    pub(super) fn beginning(&self, with: &str) -> Vec<(String, String)> {
        let rest = |name: String| name.strip_prefix(with).map(|rest| (name.clone(), rest.to_string()));
        self.names().into_iter().filter_map(rest).collect()
    }

    pub(super) fn tensor(&mut self, name: &str) -> Result<NamedTensor> {
        Ok(self.file.tensor(name)?)
    }

    /// Elements of a tensor that must have this shape.
    pub(super) fn shaped(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        Ok(self.file.read_f32(name, shape)?)
    }

    pub(super) fn floats(&mut self, name: &str) -> Result<Vec<f32>> {
        Ok(self.tensor(name)?.values)
    }

    /// The one value of a tensor of length 1.
    pub(super) fn number(&mut self, name: &str) -> Result<f32> {
        let shape = self.file.shape(name).unwrap_or(&[1]).to_vec();
        let shape = if shape.iter().product::<usize>() == 1 { shape } else { vec![1] };
        Ok(self.file.read_f32(name, &shape)?[0])
    }

    /// Shape and elements of a 64-bit tensor of ids or indices.
    pub(super) fn indices(&mut self, name: &str) -> Result<(Vec<usize>, Vec<u32>)> {
        Ok(self.file.indices(name)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_relative_and_nan_is_out() {
        assert_eq!(relative_error(&[0.0, 0.0], &[0.0, 0.0], 0.0), 0.0);
        assert_eq!(relative_error(&[1.0, 3.0], &[1.0, 4.0], 0.0), 0.25);
        assert_eq!(relative_error(&[1.0, 3.0], &[1.0, 4.0], 10.0), 0.1);
        assert_eq!(relative_error(&[1e-9], &[0.0], 0.0), f64::MAX);
        assert_eq!(relative_error(&[f32::NAN, 0.0], &[1.0, 0.0], 0.0), f64::MAX);
        assert_eq!(relative_error(&[1.0], &[1.0, 1.0], 0.0), f64::MAX);
        assert_eq!(relative_error(&[], &[], 0.0), f64::MAX);
    }

    #[test]
    fn slack_is_for_arithmetic_alone() {
        let mut checks = Checks::new(10.0);
        checks.compare("a", &[1.0 + 5e-4], &[1.0], 1e-4);
        checks.compare_exactly("b", &[1.0, 2.0], &[1.0, 2.0]);
        assert_eq!((checks.len(), checks.failed()), (2, 0));
        checks.compare_exactly("c", &[1.0, 2.0], &[1.0, 2.5]);
        checks.compare("d", &[f32::NAN], &[1.0], 1e-4);
        checks.fail("known");
        checks.compare_exactly("e", &[], &[]);
        assert_eq!((checks.len(), checks.failed()), (6, 4));
    }
}
