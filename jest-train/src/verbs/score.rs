//! `jest score`: losses and learnability of every example, as CSV or Parquet.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, FloatType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::open;
use crate::cli::{ScoreArgs, ScoreFormat};
use crate::clock::SystemClock;
use crate::config::Objective;
use crate::learnability::{Scorers, score_all};
use crate::meter::Meter;
use crate::reference::Reference;
use crate::run_state::RunState;
use crate::{Result, TrainError, storage};

/// One row an example.
#[derive(Debug, Default)]
struct Rows {
    ids: Vec<String>,
    keys: Vec<String>,
    sources: Vec<String>,
    learner: Vec<f32>,
    reference: Vec<f32>,
}

pub(super) fn score(args: &ScoreArgs) -> Result<()> {
    let device = open::device(&args.on)?;
    let mut pass = device.pass();
    let (learner, tokenizer) = open::checkpoint(&mut pass, &args.learner)?;
    let data = open::pairs(&args.pairs, &learner, tokenizer)?;
    let mut references = Vec::new();
    for folder in &args.reference {
        references.push(Reference::load(&mut pass, folder, &data)?);
    }
    let objective = args.objective.unwrap_or_else(|| objective_of(&args.learner));
    let clock = SystemClock::start();
    let mut rows = Rows::default();
    let mut meter = Meter::new(&clock);
    let mut scorers = Scorers { learner: &learner, references, objective };
    score_all(&mut pass, &mut scorers, &data, usize::MAX, &mut meter, |batch, losses| {
        rows.ids.extend(batch.ids.iter().map(ToString::to_string));
        rows.keys.extend(batch.keys.iter().cloned());
        rows.sources.extend(batch.sources.iter().map(ToString::to_string));
        rows.learner.extend_from_slice(&losses.learner);
        rows.reference.extend_from_slice(&losses.reference);
        Ok(())
    })?;
    match args.format() {
        ScoreFormat::Csv => storage::write_atomic_with(&args.out, |out| rows.csv(out))?,
        ScoreFormat::Parquet => {
            let bytes = rows.parquet().map_err(|source| TrainError::Parquet { path: args.out.clone(), source })?;
            storage::write_atomic(&args.out, &bytes)?;
        }
    }
    println!("{}: scores of {} examples", args.out.display(), rows.ids.len());
    Ok(())
}

/// What the checkpoint was trained to minimise; the sigmoid loss where it does not say.
fn objective_of(folder: &Path) -> Objective {
    RunState::read(folder).map(|state| state.objective).unwrap_or_default()
}

impl Rows {
    fn learnability(&self) -> impl Iterator<Item = f32> {
        self.learner.iter().zip(&self.reference).map(|(learner, reference)| learner - reference)
    }

    fn csv(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "id,key,source,learner_loss,reference_loss,learnability")?;
        for (i, learnability) in self.learnability().enumerate() {
            let (key, source) = (quoted(&self.keys[i]), quoted(&self.sources[i]));
            let (learner, reference) = (self.learner[i], self.reference[i]);
            writeln!(out, "{},{key},{source},{learner},{reference},{learnability}", self.ids[i])?;
        }
        Ok(())
    }

    fn parquet(&self) -> parquet::errors::Result<Vec<u8>> {
        let schema = "message scores {
            required binary id (utf8); required binary key (utf8); required binary source (utf8);
            required float learner_loss; required float reference_loss; required float learnability;
        }";
        let schema = Arc::new(parse_message_type(schema)?);
        let properties = Arc::new(WriterProperties::builder().build());
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties)?;
        let mut group = writer.next_row_group()?;
        for texts in [&self.ids, &self.keys, &self.sources] {
            let values: Vec<ByteArray> = texts.iter().map(|text| ByteArray::from(text.as_str())).collect();
            if let Some(mut column) = group.next_column()? {
                column.typed::<ByteArrayType>().write_batch(&values, None, None)?;
                column.close()?;
            }
        }
        for values in [self.learner.clone(), self.reference.clone(), self.learnability().collect()] {
            if let Some(mut column) = group.next_column()? {
                column.typed::<FloatType>().write_batch(&values, None, None)?;
                column.close()?;
            }
        }
        group.close()?;
        writer.into_inner()
    }
}

/// A CSV field: quoted when it holds a comma, a quote or a line break.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_string() }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    use super::*;

    fn rows() -> Rows {
        let keys = vec!["a,b".to_string(), "c\"d".to_string()];
        let ids = vec!["01".to_string(), "02".to_string()];
        let sources = vec!["pool".to_string(); 2];
        Rows { ids, keys, sources, learner: vec![3.0, 1.0], reference: vec![1.0, 4.0] }
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let mut out = Vec::new();
        rows().csv(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1], "01,\"a,b\",pool,3,1,2");
        assert_eq!(lines[2], "02,\"c\"\"d\",pool,1,4,-3");
    }

    #[test]
    fn parquet_reads_back() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&rows().parquet().unwrap()).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let read: Vec<_> = reader.get_row_iter(None).unwrap().map(|row| row.unwrap()).collect();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].get_string(1).unwrap(), "a,b");
        assert_eq!(read[1].get_float(5).unwrap(), -3.0);
    }
}
