//! `jest explain`: what the runs of a folder chose, over training time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jest_data::{LoaderConfig, Preprocess};

use crate::audit::{self, Choice};
use crate::cli::ExplainArgs;
use crate::config::{Overrides, RunPlan, Surroundings, resolve};
use crate::selector::tags;
use crate::{Result, TrainError};

/// Parts of a run that are told apart.
const PARTS: usize = 4;
/// Values of a field, and examples at either end of learnability, that are shown.
const SHOWN: usize = 8;

pub(super) fn explain(args: &ExplainArgs) -> Result<()> {
    let path = args.run.join("plan.toml");
    let text = std::fs::read_to_string(&path).map_err(TrainError::storage("read", &path))?;
    let around = Surroundings { cores: 1, exists: &|_| true, count: &crate::assemble::count_examples };
    let plan = resolve(&text, None, &Overrides::default(), &around)?.plan;
    let mut told = false;
    for run in &plan.runs {
        let choices = audit::read(&crate::assemble::audit_folder(&args.run, &run.name))?;
        if choices.is_empty() {
            continue;
        }
        let pool = Pool::read(run, &args.fields)?;
        print!("{}", tell(&run.name, &choices, &pool, &args.fields));
        told = true;
    }
    if told { Ok(()) } else { Err(TrainError::NoAudit { out: args.run.clone() }) }
}

/// What is known of every example of a run's data.
#[derive(Default)]
struct Pool {
    /// Caption, and tags by field.
    examples: HashMap<String, (String, Vec<String>)>,
}

impl Pool {
    fn read(run: &RunPlan, fields: &[String]) -> Result<Self> {
        let sources = crate::assemble::sources(&run.data)?;
        // Pictures are decoded to one pixel: captions and JSON are what is looked at.
        let any = jest_data::train_tokenizer(["a"], 300)?;
        let config = LoaderConfig::new(sources, Preprocess::siglip(1), Arc::new(any), 2);
        let mut pool = Self::default();
        for batch in jest_data::read_all(&config, 1024)? {
            let batch = batch?;
            for i in 0..batch.len() {
                let values = fields.iter().map(|field| match field.as_str() {
                    "source" => batch.sources[i].to_string(),
                    field => tags::of(batch.json[i].as_deref(), &[field.to_string()]).join(", "),
                });
                let known = (batch.captions[i].clone(), values.collect());
                pool.examples.insert(batch.ids[i].to_string(), known);
            }
        }
        Ok(pool)
    }

    /// The value of a field; what is not in the data any more has none.
    fn value(&self, id: &str, field: usize) -> &str {
        self.examples.get(id).and_then(|(_, values)| values.get(field)).map_or("", String::as_str)
    }
}

/// Shares by field, repeats, and the ends of learnability.
fn tell(run: &str, choices: &[Choice], pool: &Pool, fields: &[String]) -> String {
    let (first, last) = (choices.first().map_or(0, |c| c.step), choices.last().map_or(0, |c| c.step));
    let mut text = format!("{run}: {} choices in steps {first} to {last}\n", choices.len());
    let span = (last - first + 1).max(1);
    let part = |choice: &Choice| ((choice.step - first) * PARTS as i64 / span) as usize;
    for (at, field) in fields.iter().enumerate() {
        text += &shares(field, &|id| pool.value(id, at), choices, &part, pool);
    }
    let mut times: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for choice in choices {
        let (count, sum) = times.entry(&choice.id).or_default();
        *count += 1;
        *sum += f64::from(choice.learner_loss - choice.reference_loss);
    }
    let most = times.values().map(|(count, _)| *count).max().unwrap_or(0);
    let mean = choices.len() as f64 / times.len().max(1) as f64;
    let never = pool.examples.len().saturating_sub(times.len());
    text += &format!(
        "  repeats: {} examples were picked {mean:.2} times on average, one {most} times; {never} of {} never\n",
        times.len(),
        pool.examples.len()
    );
    let mut ranked: Vec<(f64, usize, &str)> =
        times.iter().map(|(id, (count, sum))| (sum / *count as f64, *count, *id)).collect();
    ranked.retain(|(learnability, ..)| learnability.is_finite());
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.2.cmp(b.2)));
    let mut line = |(learnability, count, id): &(f64, usize, &str)| {
        let caption = pool.examples.get(*id).map_or("", |(caption, _)| caption.as_str());
        let caption: String = caption.chars().take(60).collect();
        format!("    {learnability:>9.3}  {count:>4} times  {id}  {caption}\n")
    };
    if !ranked.is_empty() {
        text += "  most learnable when picked:\n";
        text.extend(ranked.iter().take(SHOWN).map(&mut line));
        text += "  least learnable when picked:\n";
        text.extend(ranked.iter().rev().take(SHOWN).map(&mut line));
    }
    text
}

/// A table of the share of each value: in the data, and among the choices of each part of the run.
fn shares<'a>(
    field: &str,
    value: &dyn Fn(&'a str) -> &'a str,
    choices: &'a [Choice],
    part: &dyn Fn(&Choice) -> usize,
    pool: &'a Pool,
) -> String {
    let mut counts: BTreeMap<&str, (f64, [f64; PARTS])> = BTreeMap::new();
    let mut totals = [0.0; PARTS];
    for id in pool.examples.keys() {
        counts.entry(value(id)).or_default().0 += 1.0;
    }
    for choice in choices {
        counts.entry(value(&choice.id)).or_default().1[part(choice)] += 1.0;
        totals[part(choice)] += 1.0;
    }
    let mut rows: Vec<_> = counts.into_iter().collect();
    rows.sort_by(|a, b| b.1.0.total_cmp(&a.1.0).then(a.0.cmp(b.0)));
    let mut text = format!("  share by {field}, in the data and among the choices of each quarter of the run\n");
    let percent = |count: f64, total: f64| 100.0 * count / f64::max(total, 1.0);
    let hidden = rows.len().saturating_sub(SHOWN);
    for (name, (all, picked)) in rows.into_iter().take(SHOWN) {
        let name = if name.is_empty() { "(none)" } else { name };
        text += &format!("    {name:<24} {:>6.2} %  ", percent(all, pool.examples.len() as f64));
        for (count, total) in picked.into_iter().zip(totals) {
            text += &format!(" {:>6.2}", percent(count, total));
        }
        text.push('\n');
    }
    if hidden > 0 {
        text += &format!("    and {hidden} values more\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(step: i64, id: &str, learner_loss: f32) -> Choice {
        let (key, source) = (id.to_string(), "pool".to_string());
        Choice { step, id: id.to_string(), key, source, score: 0.0, learner_loss, reference_loss: 1.0 }
    }

    #[test]
    fn shares_repeats_and_ends_are_told() {
        let known = |caption: &str, noise: &str| (caption.to_string(), vec![noise.to_string()]);
        let examples = [("a", known("a cat", "none")), ("b", known("a dog", "shuffle")), ("c", known("x", ""))];
        let pool = Pool { examples: examples.map(|(id, known)| (id.to_string(), known)).into() };
        let choices = [choice(1, "a", 3.0), choice(2, "b", 1.5), choice(3, "a", 4.0), choice(4, "a", f32::NAN)];
        let text = tell("jest", &choices, &pool, &["noise".to_string()]);
        for line in [
            "jest: 4 choices in steps 1 to 4",
            "    none                      33.33 %   100.00   0.00 100.00 100.00",
            "    shuffle                   33.33 %     0.00 100.00   0.00   0.00",
            "  repeats: 2 examples were picked 2.00 times on average, one 3 times; 1 of 3 never",
            "        0.500     1 times  b  a dog",
        ] {
            assert!(text.lines().any(|told| told == line), "`{line}` is not in:\n{text}");
        }
    }
}
