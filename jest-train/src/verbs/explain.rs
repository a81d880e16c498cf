//! `jest explain`: what the runs of a folder chose, over training time.

mod pool;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use pool::Pool;

use crate::audit::{self, Choice};
use crate::cli::ExplainArgs;
use crate::config::{Overrides, Plan, RunPlan, Surroundings, resolve};
use crate::report::{self, ChoicesIn, ChoicesOf, GalleryItem};
use crate::say::say;
use crate::studies::{QUARTERS, Share, StudyRun};
use crate::{Result, TrainError, storage};

/// Values of a field, and examples at either end of learnability, that are shown.
const SHOWN: usize = 8;

pub(super) fn explain(args: &ExplainArgs) -> Result<()> {
    let plan = plan_of(&args.run)?;
    let mut told = Vec::new();
    for run in &plan.runs {
        let choices = audit::read(&crate::assemble::audit_folder(&args.run, &run.name))?;
        if choices.is_empty() {
            continue;
        }
        let pool = Pool::read(run, &args.fields)?;
        let text = tell(&run.name, &choices, &pool, &args.fields);
        say!("{}", text.trim_end());
        let parts = if args.out.is_some() { with_pictures(run, &pool, &choices)? } else { Vec::new() };
        told.push(ChoicesOf { name: run.name.clone(), text, parts });
    }
    if told.is_empty() {
        return Err(TrainError::NoAudit { out: args.run.clone() });
    }
    let Some(out) = &args.out else { return Ok(()) };
    let title = args.run.file_name().unwrap_or(args.run.as_os_str()).to_string_lossy();
    write(out, &report::render_choices(&title, &told)?)
}

/// The plan that a run folder keeps.
fn plan_of(folder: &Path) -> Result<Plan> {
    let path = folder.join("plan.toml");
    let text = std::fs::read_to_string(&path).map_err(TrainError::storage("read", &path))?;
    let around = Surroundings { cores: 1, exists: &|_| true, count: &crate::assemble::count_examples };
    Ok(resolve(&text, None, &Overrides::default(), &around)?.plan)
}

/// Notes with the runs of a folder what their audits say of the noise in what they chose; nothing with those without audit.
pub(super) fn tell_noise(folder: &Path, runs: &mut [StudyRun]) -> Result<()> {
    let mut audited = Vec::new();
    for run in runs {
        let choices = audit::read(&crate::assemble::audit_folder(folder, &run.run.name))?;
        if !choices.is_empty() {
            audited.push((run, choices));
        }
    }
    if audited.is_empty() {
        return Ok(());
    }
    // Runs of a study may differ in their data.
    let plan = plan_of(folder)?;
    let mut pools: Vec<(&RunPlan, Pool)> = Vec::new();
    for (run, choices) in audited {
        let Some(planned) = plan.runs.iter().find(|planned| planned.name == run.run.name) else { continue };
        let known = pools.iter().position(|(known, _)| known.data == planned.data);
        if known.is_none() {
            pools.push((planned, Pool::read(planned, &["noise".to_string()])?));
        }
        let (_, pool) = &pools[known.unwrap_or(pools.len() - 1)];
        let part = part_of(&choices);
        let shares = shares_of(&|id| vec![pool.value(id, 0)], &choices, &part, pool);
        let named = shares.into_iter().filter(|(kind, _)| !kind.is_empty());
        run.noise = named.map(|(kind, share)| (kind.to_string(), share)).collect();
    }
    Ok(())
}

fn write(out: &Path, page: &str) -> Result<()> {
    storage::write_atomic(out, page.as_bytes())?;
    say!("page: {}", out.display());
    Ok(())
}

/// The part of a run that a step lies in.
fn part_of(choices: &[Choice]) -> impl Fn(&Choice) -> usize {
    let (first, last) = (choices.first().map_or(0, |c| c.step), choices.last().map_or(0, |c| c.step));
    let span = (last - first + 1).max(1);
    move |choice| ((choice.step - first) * QUARTERS as i64 / span) as usize
}

/// The ends of each part's choices, with their pictures.
fn with_pictures(run: &RunPlan, pool: &Pool, choices: &[Choice]) -> Result<Vec<ChoicesIn>> {
    let part = part_of(choices);
    let ends = (0..QUARTERS).filter_map(|at| {
        let own: Vec<&Choice> = choices.iter().filter(|choice| part(choice) == at).collect();
        let steps = (own.first()?.step, own.last()?.step);
        let ranked = ranked(own.into_iter());
        let most: Vec<_> = ranked.iter().take(SHOWN).cloned().collect();
        let least: Vec<_> = ranked.iter().rev().take(SHOWN).cloned().collect();
        Some((steps, most, least))
    });
    let ends: Vec<_> = ends.collect();
    let wanted: HashSet<&str> =
        ends.iter().flat_map(|(_, most, least)| most.iter().chain(least)).map(|shown| shown.id).collect();
    let pictures = pool::pictures(run, pool, &wanted)?;
    // What is not in the data any more has no picture.
    let item = |end: &Ranked<'_>| Some(GalleryItem { score: end.learnability as f32, ..pictures.get(end.id)?.clone() });
    let items = |ends: &[Ranked<'_>]| ends.iter().filter_map(item).collect();
    let part = |(steps, most, least): &((i64, i64), Vec<Ranked<'_>>, Vec<Ranked<'_>>)| ChoicesIn {
        steps: *steps,
        most: items(most),
        least: items(least),
    };
    Ok(ends.iter().map(part).collect())
}

/// An example that was chosen.
#[derive(Clone, Debug)]
struct Ranked<'a> {
    /// Mean of learner loss minus reference loss when it was.
    learnability: f64,
    /// How often.
    count: usize,
    id: &'a str,
}

/// Examples by their learnability, largest first; those without a finite one are left out.
fn ranked<'a>(choices: impl Iterator<Item = &'a Choice>) -> Vec<Ranked<'a>> {
    let mut times: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for choice in choices {
        let (count, sum) = times.entry(&choice.id).or_default();
        *count += 1;
        *sum += f64::from(choice.learner_loss - choice.reference_loss);
    }
    let mut ranked: Vec<_> = times
        .into_iter()
        .map(|(id, (count, sum))| Ranked { learnability: sum / count as f64, count, id })
        .filter(|ranked| ranked.learnability.is_finite())
        .collect();
    ranked.sort_by(|a, b| b.learnability.total_cmp(&a.learnability).then(a.id.cmp(b.id)));
    ranked
}

/// Shares by field, duplicates, repeats, and the ends of learnability.
fn tell(run: &str, choices: &[Choice], pool: &Pool, fields: &[String]) -> String {
    let (first, last) = (choices.first().map_or(0, |c| c.step), choices.last().map_or(0, |c| c.step));
    let mut text = format!("{run}: {} choices in steps {first} to {last}\n", choices.len());
    let part = part_of(choices);
    for (at, field) in fields.iter().enumerate() {
        text += &table_of_shares(&format!("share by {field}"), &|id| vec![pool.value(id, at)], choices, &part, pool);
    }
    text += &table_of_shares("share of duplicates", &|id| pool.twins(id), choices, &part, pool);
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    choices.iter().for_each(|choice| *times.entry(&choice.id).or_default() += 1);
    let most = times.values().copied().max().unwrap_or(0);
    let mean = choices.len() as f64 / times.len().max(1) as f64;
    let met: HashSet<&str> = times.keys().map(|id| pool.first(id)).collect();
    let never = pool.examples.keys().filter(|id| !met.contains(id.as_str())).count();
    text += &format!(
        "  repeats: {} examples were picked {mean:.2} times on average, one {most} times; {never} of {} never\n",
        times.len(),
        pool.examples.len()
    );
    let ranked = ranked(choices.iter());
    let mut line = |Ranked { learnability, count, id }: &Ranked<'_>| {
        let caption: String = pool.caption(id).chars().take(60).collect();
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

/// The share of each value in the data and among the choices of each part of the run, commonest first.
fn shares_of<'a>(
    values: &dyn Fn(&'a str) -> Vec<&'a str>,
    choices: &'a [Choice],
    part: &dyn Fn(&Choice) -> usize,
    pool: &'a Pool,
) -> Vec<(&'a str, Share)> {
    let mut shares: BTreeMap<&str, Share> = BTreeMap::new();
    let mut totals = [0.0; QUARTERS];
    for id in pool.examples.keys() {
        values(id).into_iter().for_each(|value| shares.entry(value).or_default().data += 1.0);
    }
    for choice in choices {
        values(&choice.id).into_iter().for_each(|value| shares.entry(value).or_default().quarters[part(choice)] += 1.0);
        totals[part(choice)] += 1.0;
    }
    // Nine digits, as JSON may lose the last of seventeen.
    let of = |count: f64, total: f64| (count / f64::max(total, 1.0) * 1e9).round() / 1e9;
    let examples = pool.examples.len() as f64;
    let share = |share: Share| Share {
        data: of(share.data, examples),
        quarters: std::array::from_fn(|at| of(share.quarters[at], totals[at])),
    };
    let mut rows: Vec<_> = shares.into_iter().map(|(value, counts)| (value, share(counts))).collect();
    rows.sort_by(|a, b| b.1.data.total_cmp(&a.1.data).then(a.0.cmp(b.0)));
    rows
}

/// A table of these shares.
fn table_of_shares<'a>(
    what: &str,
    values: &dyn Fn(&'a str) -> Vec<&'a str>,
    choices: &'a [Choice],
    part: &dyn Fn(&Choice) -> usize,
    pool: &'a Pool,
) -> String {
    let rows = shares_of(values, choices, part, pool);
    let mut text = format!("  {what}, in the data and among the choices of each quarter of the run\n");
    let hidden = rows.len().saturating_sub(SHOWN);
    for (name, Share { data, quarters }) in rows.into_iter().take(SHOWN) {
        let name = if name.is_empty() { "(none)" } else { name };
        text += &format!("    {name:<24} {:>6.2} %  ", 100.0 * data);
        quarters.into_iter().for_each(|share| text += &format!(" {:>6.2}", 100.0 * share));
        text.push('\n');
    }
    if hidden > 0 {
        text += &format!("    and {hidden} values more\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::pool::TWINS;
    use super::*;

    fn choice(step: i64, id: &str, learner_loss: f32) -> Choice {
        let (key, source) = (id.to_string(), "pool".to_string());
        Choice { step, id: id.to_string(), key, source, score: 0.0, learner_loss, reference_loss: 1.0 }
    }

    #[test]
    fn shares_repeats_and_ends_are_told() {
        let mut pool = Pool::default();
        for (id, caption, noise, pixel) in
            [("a", "a cat", "none", 1), ("b", "a dog", "shuffle", 1), ("c", "a dog", "", 2)]
        {
            pool.add(id.to_string(), caption, &[pixel], vec![noise.to_string()]);
        }
        pool.find_twins();
        let choices = [choice(1, "a", 3.0), choice(2, "b", 1.5), choice(3, "a", 4.0), choice(4, "a", f32::NAN)];
        let text = tell("jest", &choices, &pool, &["noise".to_string()]);
        for line in [
            "jest: 4 choices in steps 1 to 4",
            "    none                      33.33 %   100.00   0.00 100.00 100.00",
            "    shuffle                   33.33 %     0.00 100.00   0.00   0.00",
            "    same picture              66.67 %   100.00 100.00 100.00 100.00",
            "    same caption              66.67 %     0.00 100.00   0.00   0.00",
            "  repeats: 2 examples were picked 2.00 times on average, one 3 times; 1 of 3 never",
            "        0.500     1 times  b  a dog",
        ] {
            assert!(text.lines().any(|told| told == line), "`{line}` is not in:\n{text}");
        }
        assert!(!text.contains(TWINS[0]), "no two have both:\n{text}");
    }

    #[test]
    fn ends_are_ranked_by_their_mean() {
        let choices = [choice(1, "a", 3.0), choice(2, "b", 1.5), choice(3, "a", 5.0), choice(4, "c", f32::NAN)];
        let told: Vec<_> = ranked(choices.iter()).iter().map(|r| (r.id, r.count, r.learnability)).collect();
        assert_eq!(told, [("a", 2, 3.0), ("b", 1, 0.5)]);
    }
}
