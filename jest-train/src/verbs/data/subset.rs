//! `jest data subset`: the subset file of the examples with the best scores.

use std::fs::File;
use std::path::Path;

use jest_data::{DataError, ExampleId, Subset};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};

use crate::cli::DataSubsetArgs;
use crate::config::ConfigError;
use crate::say::say;
use crate::{Result, TrainError};

pub(super) fn subset(args: &DataSubsetArgs) -> Result<()> {
    if !(args.keep > 0.0 && args.keep <= 1.0) {
        let expected = "a share to keep is above 0 and at most 1";
        let run = "data subset".to_string();
        return Err(ConfigError::Range { run, key: "--keep", value: args.keep, expected }.into());
    }
    let csv = args.scores.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
    let mut scores = if csv { read_csv(&args.scores, &args.by) } else { read_parquet(&args.scores, &args.by) }?;
    // Ids part equal scores, so that the same scores give the same file.
    scores.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let kept = (args.keep * scores.len() as f64).round() as usize;
    let written = Subset::write(&args.out, scores[..kept].iter().map(|(id, _)| *id))?;
    say!("{}: {written} of {} examples by {}", args.out.display(), scores.len(), args.by);
    Ok(())
}

/// That a file of scores is none, and why.
fn unfit(path: &Path, problem: impl Into<String>) -> TrainError {
    DataError::Table { path: path.to_path_buf(), problem: problem.into() }.into()
}

fn entry(path: &Path, row: usize, id: &str, value: Option<f64>) -> Result<(ExampleId, f64)> {
    let id = id.parse().map_err(|e| unfit(path, format!("row {row}: `{id}`: {e}")))?;
    let value = value.filter(|value| !value.is_nan());
    Ok((id, value.ok_or_else(|| unfit(path, format!("row {row}: the score is no number")))?))
}

fn read_csv(path: &Path, by: &str) -> Result<Vec<(ExampleId, f64)>> {
    let damaged = |e: csv::Error| unfit(path, e.to_string());
    let mut reader = csv::Reader::from_path(path).map_err(damaged)?;
    let header = reader.headers().map_err(damaged)?.clone();
    let column = |name: &str| {
        let at = header.iter().position(|known| known == name);
        at.ok_or_else(|| unfit(path, format!("no column `{name}` among {:?}", header.iter().collect::<Vec<_>>())))
    };
    let (id, value) = (column("id")?, column(by)?);
    let mut scores = Vec::new();
    for (row, record) in (1..).zip(reader.records()) {
        let record = record.map_err(damaged)?;
        scores.push(entry(path, row, &record[id], record[value].parse().ok())?);
    }
    Ok(scores)
}

fn read_parquet(path: &Path, by: &str) -> Result<Vec<(ExampleId, f64)>> {
    let damaged = |e: ParquetError| unfit(path, e.to_string());
    let file = File::open(path).map_err(|e| unfit(path, format!("cannot be read: {e}")))?;
    let reader = SerializedFileReader::new(file).map_err(damaged)?;
    let mut scores = Vec::new();
    for (row, fields) in (1..).zip(reader.get_row_iter(None).map_err(damaged)?) {
        let fields: Row = fields.map_err(damaged)?;
        let field = |name: &str| {
            let found = fields.get_column_iter().find(|(known, _)| *known == name).map(|(_, field)| field);
            found.ok_or_else(|| unfit(path, format!("no column `{name}`")))
        };
        let id = match field("id")? {
            Field::Str(id) => id.as_str(),
            _ => "",
        };
        let value = match field(by)? {
            Field::Float(value) => Some(f64::from(*value)),
            Field::Double(value) => Some(*value),
            _ => None,
        };
        scores.push(entry(path, row, id, value)?);
    }
    Ok(scores)
}
