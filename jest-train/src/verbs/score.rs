//! `jest score`: losses and learnability of every example, as CSV or Parquet.

use std::collections::VecDeque;
use std::io::Write;
use std::path::Path;

use jest_data::{DataError, LoaderConfig, Source};
use jest_kernels::Pass;
use jest_model::TwoTowers;
use serde::{Deserialize, Serialize};

use super::open;
use crate::cli::{ScoreArgs, ScoreFormat, Share};
use crate::clock::SystemClock;
use crate::columns::{Column, parquet};
use crate::config::Objective;
use crate::learnability::{Scorers, score_all};
use crate::lock::Turn;
use crate::meter::Meter;
use crate::reference::Reference;
use crate::run_state::RunState;
use crate::say::say;
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
    let (learner, reads) = open::checkpoint(&mut pass, &args.learner)?;
    let data = open::pairs(&args.pairs, &learner, reads)?;
    let mut references = Vec::new();
    for folder in &args.reference {
        references.push(Reference::load(&mut pass, folder, &data)?);
    }
    let objective = args.objective.map_or_else(|| objective_of(&args.learner, &learner), Ok)?;
    let mut job = Job { args, pass, scorers: Scorers { learner: &learner, references, objective }, data };
    if args.out.extension().is_some() {
        job.data.sources = args.share.of(job.data.sources)?;
        let n = job.file(&args.out)?;
        say!("{}: scores of {n} examples", args.out.display());
        return Ok(());
    }
    let (new, all) = job.folder(&args.out)?;
    say!("{}: scores of {new} shards, {} were there", args.out.display(), all - new);
    Ok(())
}

/// What scores are made of.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct ScoresOf {
    learner: String,
    references: Vec<String>,
    objective: Objective,
    #[serde(default)]
    tokenizer: String,
    #[serde(default)]
    preprocess: String,
    /// Source, name and print of every shard in the order of the files.
    #[serde(default)]
    shards: Vec<String>,
}

impl ScoresOf {
    /// Which shard of `own` each file is of: those that are known first, then what was added; else what is not the same.
    fn order(&self, own: &Self) -> std::result::Result<Vec<usize>, String> {
        if self.learner != own.learner || self.references != own.references {
            return Err("other models".to_string());
        }
        for (what, differs) in [
            ("another loss", self.objective != own.objective),
            ("another tokenizer", self.tokenizer != own.tokenizer),
            ("pictures made in another way", self.preprocess != own.preprocess),
        ] {
            if differs {
                return Err(what.to_string());
            }
        }
        let mut left: VecDeque<usize> = (0..own.shards.len()).collect();
        let mut order = Vec::with_capacity(left.len());
        for (number, shard) in self.shards.iter().enumerate() {
            let same = left.iter().position(|place| own.shards[*place] == *shard);
            let same = same.ok_or_else(|| {
                let name = |shard: &str| shard.rsplit_once(' ').map_or(shard, |(name, _)| name).to_string();
                let now = left.iter().map(|place| &own.shards[*place]).find(|now| name(now) == name(shard));
                let now = now.map_or("none".to_string(), |now| format!("`{now}`"));
                format!("other data: shard {number} was `{shard}`, now it is {now}")
            })?;
            order.extend(left.remove(same));
        }
        order.extend(left);
        Ok(order)
    }
}

/// Two models and the data that they are to score.
struct Job<'a> {
    args: &'a ScoreArgs,
    pass: Pass,
    scorers: Scorers<'a>,
    data: LoaderConfig,
}

impl Job<'_> {
    /// One file a shard, those that are there passed over: how many were made, and how many there are to be.
    fn folder(&mut self, folder: &Path) -> Result<(usize, usize)> {
        let sources = self.data.sources.clone();
        self.args.share.of(sources.clone())?;
        let order = self.claim(folder)?;
        let Share { task_index, num_tasks } = self.args.share;
        let (mut new, mut all) = (0, 0);
        for (number, place) in order.iter().enumerate().skip(task_index).step_by(num_tasks) {
            all += 1;
            let ending = if self.args.format() == ScoreFormat::Csv { "csv" } else { "parquet" };
            let path = folder.join(format!("{number:06}.{ending}"));
            if path.exists() {
                continue;
            }
            self.data.sources = Share { task_index: *place, num_tasks: order.len() }.of(sources.clone())?;
            self.data.sources.retain(|source| !source.shards().is_empty());
            self.file(&path)?;
            new += 1;
        }
        Ok((new, all))
    }

    /// Which shard each file is of; refuses a folder whose files are of other models, of another loss or of other data.
    fn claim(&mut self, folder: &Path) -> Result<Vec<usize>> {
        let references = self.scorers.references.iter().map(|reference| reference.model().hash(&mut self.pass));
        let references = references.collect::<std::result::Result<_, _>>()?;
        let learner = self.scorers.learner.hash(&mut self.pass)?;
        let mut own = ScoresOf {
            learner,
            references,
            objective: self.scorers.objective,
            tokenizer: self.data.tokenizer.hash().to_string(),
            preprocess: self.data.preprocess.key(),
            shards: self.data.sources.iter().flat_map(known).collect(),
        };
        let path = folder.join("scores.json");
        let json = |source| TrainError::Json { what: "scores.json", source };
        // Of two processes that add shards at once, neither may lose the other's.
        let _turn = Turn::wait(folder)?;
        let there = match std::fs::read(&path) {
            Ok(text) => Some(serde_json::from_slice::<ScoresOf>(&text).map_err(json)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(TrainError::storage("read", &path)(error)),
        };
        let order = match &there {
            None => (0..own.shards.len()).collect(),
            Some(there) => there.order(&own).map_err(|what| TrainError::OtherScores { path: path.clone(), what })?,
        };
        own.shards = order.iter().map(|place| own.shards[*place].clone()).collect();
        if there.as_ref() != Some(&own) {
            storage::write_atomic(&path, &serde_json::to_vec_pretty(&own).map_err(json)?)?;
        }
        Ok(order)
    }

    /// Scores of the data as it is set, in one file: of how many examples.
    fn file(&mut self, path: &Path) -> Result<usize> {
        let clock = SystemClock::start();
        let mut rows = Rows::default();
        let Self { pass, scorers, data, .. } = self;
        let scored = score_all(pass, scorers, data, usize::MAX, &mut Meter::new(&clock), |batch, losses| {
            rows.ids.extend(batch.ids.iter().map(ToString::to_string));
            rows.keys.extend(batch.keys.iter().cloned());
            rows.sources.extend(batch.sources.iter().map(ToString::to_string));
            rows.learner.extend_from_slice(&losses.learner);
            rows.reference.extend_from_slice(&losses.reference);
            Ok(())
        });
        match scored {
            // A shard without an example has a file without a row.
            Err(TrainError::Data(DataError::NoExamples { .. })) if self.args.out.extension().is_none() => {}
            scored => scored?,
        }
        match self.args.format() {
            ScoreFormat::Csv => storage::write_atomic_with(path, |out| rows.csv(out))?,
            ScoreFormat::Parquet => {
                let bytes =
                    rows.parquet().map_err(|source| TrainError::Parquet { path: path.to_path_buf(), source })?;
                storage::write_atomic(path, &bytes)?;
            }
        }
        Ok(rows.ids.len())
    }
}

/// Name and print of each shard; of one that cannot be read, its name.
fn known(source: &Source) -> impl Iterator<Item = String> + '_ {
    source.shards().iter().map(|shard| {
        format!("{}/{} {}", source.name(), shard.name, shard.print().unwrap_or_default()).trim_end().to_string()
    })
}

/// What the checkpoint was trained to minimise; where it does not say, the loss of its family.
pub(super) fn objective_of(folder: &Path, model: &TwoTowers) -> Result<Objective> {
    if RunState::is_in(folder) {
        return Ok(RunState::read(folder)?.objective);
    }
    Ok(if model.config().has_logit_bias() { Objective::Sigmoid } else { Objective::Softmax })
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

    fn parquet(&self) -> ::parquet::errors::Result<Vec<u8>> {
        let learnability: Vec<f32> = self.learnability().collect();
        parquet(&[
            Column::Text("id", &self.ids),
            Column::Text("key", &self.keys),
            Column::Text("source", &self.sources),
            Column::Float("learner_loss", &self.learner),
            Column::Float("reference_loss", &self.reference),
            Column::Float("learnability", &learnability),
        ])
    }
}

/// A CSV field: quoted when it holds a comma, a quote or a line break.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_string() }
}

#[cfg(test)]
mod tests {
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use ::parquet::record::RowAccessor;

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
