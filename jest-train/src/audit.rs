//! Every choice that a selection made, as Parquet.

use std::fs;
use std::path::{Path, PathBuf};

use jest_data::SuperBatch;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Row, RowAccessor};

use crate::columns::{Column, parquet};
use crate::selector::Pick;
use crate::{Result, TrainError, storage};

/// One example that was picked.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The update it was picked for, from 1.
    pub step: i64,
    /// Id of the example.
    pub id: String,
    /// Its key.
    pub key: String,
    /// Its source.
    pub source: String,
    /// Its conditional score when it was drawn.
    pub score: f32,
    /// The learner's loss of the pair alone, at the logit scale that scores have; NaN where nothing read it.
    pub learner_loss: f32,
    /// The references' mean loss of the pair alone; NaN where nothing read it.
    pub reference_loss: f32,
}

/// Choices on their way into a file.
#[derive(Debug, Default)]
pub struct Choices {
    step: Vec<i64>,
    id: Vec<String>,
    key: Vec<String>,
    source: Vec<String>,
    numbers: [Vec<f32>; 3],
}

impl Choices {
    /// Adds what was picked from these candidates, in the order of the draw.
    pub fn add(&mut self, step: u64, candidates: &SuperBatch, pick: &Pick) {
        for (at, index) in pick.indices.iter().enumerate() {
            self.step.push(step as i64);
            self.id.push(candidates.ids[*index].to_string());
            self.key.push(candidates.keys[*index].clone());
            self.source.push(candidates.sources[*index].to_string());
            for (column, values) in self.numbers.iter_mut().zip([&pick.scores, &pick.learner, &pick.reference]) {
                column.push(values.get(at).copied().unwrap_or(f32::NAN));
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.step.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.step.is_empty()
    }

    /// Writes them as one file.
    ///
    /// # Errors
    /// `Parquet`, `Storage`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let [score, learner_loss, reference_loss] = &self.numbers;
        let columns = [
            Column::Count("step", &self.step),
            Column::Text("id", &self.id),
            Column::Text("key", &self.key),
            Column::Text("source", &self.source),
            Column::Float("score", score),
            Column::Float("learner_loss", learner_loss),
            Column::Float("reference_loss", reference_loss),
        ];
        let bytes = parquet(&columns).map_err(|source| TrainError::Parquet { path: path.to_path_buf(), source })?;
        storage::write_atomic(path, &bytes)
    }
}

/// The audit of a run: a file a checkpoint, named by its step, with all choices since the one before.
#[derive(Debug)]
pub struct Audit {
    folder: PathBuf,
    choices: Choices,
}

impl Audit {
    /// Goes on in `folder` after `step` updates: files of later ones are made again, and are taken away.
    ///
    /// # Errors
    /// `Storage`.
    pub fn open(folder: &Path, step: u64) -> Result<Self> {
        fs::create_dir_all(folder).map_err(TrainError::storage("create", folder))?;
        for (of, path) in files(folder)? {
            if of > step {
                fs::remove_file(&path).map_err(TrainError::storage("remove", &path))?;
            }
        }
        Ok(Self { folder: folder.to_path_buf(), choices: Choices::default() })
    }

    /// Adds the choices of an update.
    pub fn add(&mut self, step: u64, candidates: &SuperBatch, pick: &Pick) {
        self.choices.add(step, candidates, pick);
    }

    /// Writes what was added since the last time, before the checkpoint of this step is.
    ///
    /// # Errors
    /// As [`Choices::write`]; the choices are kept for a later try.
    pub fn flush(&mut self, step: u64) -> Result<()> {
        if self.choices.is_empty() {
            return Ok(());
        }
        self.choices.write(&self.folder.join(format!("step-{step:08}.parquet")))?;
        self.choices = Choices::default();
        Ok(())
    }
}

/// All choices of a folder, in the order of the steps.
///
/// # Errors
/// `Storage`; `NoTable` for a file that is none of ours.
pub fn read(folder: &Path) -> Result<Vec<Choice>> {
    let mut all = Vec::new();
    for (_, path) in files(folder)? {
        let file = fs::File::open(&path).map_err(TrainError::storage("read", &path))?;
        let wrong = |source| TrainError::NoTable { path: path.clone(), source };
        for row in SerializedFileReader::new(file).map_err(wrong)?.get_row_iter(None).map_err(wrong)? {
            all.push(row.and_then(|row| choice(&row)).map_err(wrong)?);
        }
    }
    Ok(all)
}

fn choice(row: &Row) -> parquet::errors::Result<Choice> {
    Ok(Choice {
        step: row.get_long(0)?,
        id: row.get_string(1)?.clone(),
        key: row.get_string(2)?.clone(),
        source: row.get_string(3)?.clone(),
        score: row.get_float(4)?,
        learner_loss: row.get_float(5)?,
        reference_loss: row.get_float(6)?,
    })
}

/// Files of a folder by step; none where there is no folder.
fn files(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(TrainError::storage("list", folder)(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(TrainError::storage("list", folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let step = name.strip_prefix("step-").and_then(|name| name.strip_suffix(".parquet")?.parse().ok());
        files.extend(step.map(|step| (step, path.clone())));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::bench::synthetic;

    #[test]
    fn choices_read_back_and_later_ones_are_made_again() {
        let out = tempfile::tempdir().unwrap();
        let batch = synthetic(&jest_model::Preset::Mu.config(), 4);
        let pick = |indices: Vec<usize>| Pick {
            scores: indices.iter().map(|index| *index as f32).collect(),
            learner: vec![0.5; indices.len()],
            reference: Vec::new(),
            indices,
            picked: None,
            reuse: crate::reuse::Reuse::default(),
        };
        let mut audit = Audit::open(out.path(), 0).unwrap();
        audit.add(1, &batch, &pick(vec![2, 0]));
        audit.add(2, &batch, &pick(vec![3, 1]));
        audit.flush(2).unwrap();
        audit.flush(2).unwrap();
        audit.add(3, &batch, &pick(vec![1]));
        audit.flush(3).unwrap();
        let all = read(out.path()).unwrap();
        let of: Vec<_> = all.iter().map(|choice| (choice.step, choice.key.as_str(), choice.score)).collect();
        assert_eq!(of, [(1, "2", 2.0), (1, "0", 0.0), (2, "3", 3.0), (2, "1", 1.0), (3, "1", 1.0)]);
        assert_eq!((all[0].id.as_str(), all[0].source.as_str()), (batch.ids[2].to_string().as_str(), "synthetic"));
        assert!(all[0].learner_loss == 0.5 && all[0].reference_loss.is_nan());
        Audit::open(out.path(), 2).unwrap();
        assert_eq!(read(out.path()).unwrap().len(), 4);
        assert!(read(&out.path().join("nowhere")).unwrap().is_empty());
        fs::write(out.path().join("step-00000009.parquet"), b"none").unwrap();
        let said = read(out.path()).unwrap_err().to_string();
        assert!(said.contains("step-00000009.parquet"), "{said}");
    }
}
