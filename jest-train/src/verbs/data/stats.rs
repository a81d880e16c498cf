//! `jest data stats`: counts over a data set, from captions and the headers of pictures.

use std::collections::BTreeMap;
use std::convert::Infallible;

use jest_data::{Limits, Skip, Source, Surveyed, survey};
use serde::Serialize;
use serde_json::Value;

use crate::cli::DataStatsArgs;
use crate::say::say;
use crate::{Result, TrainError};

/// Values that are told apart in a count by field; the rest is one.
const VALUES: usize = 1000;
const OTHER: &str = "(other)";

#[derive(Default, Serialize)]
struct Stats {
    examples: u64,
    skipped: BTreeMap<String, u64>,
    sources: BTreeMap<String, u64>,
    formats: BTreeMap<&'static str, u64>,
    captions_per_example: Spread,
    caption_characters: Spread,
    caption_words: Spread,
    width: Spread,
    height: Spread,
    file_kb: Spread,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    by: BTreeMap<String, u64>,
}

/// How often each value came; written as its quantiles.
#[derive(Default, Clone)]
struct Spread(BTreeMap<u64, u64>);

impl Spread {
    fn add(&mut self, value: usize) {
        *self.0.entry(value as u64).or_default() += 1;
    }

    /// The smallest value that at least this share of all values does not exceed.
    fn quantile(&self, share: f64) -> u64 {
        let all: u64 = self.0.values().sum();
        let mut left = (share * all as f64).ceil().max(1.0) as u64;
        for (value, count) in &self.0 {
            if left <= *count {
                return *value;
            }
            left -= count;
        }
        0
    }

    fn mean(&self) -> f64 {
        let sum: f64 = self.0.iter().map(|(value, count)| *value as f64 * *count as f64).sum();
        sum / self.0.values().sum::<u64>().max(1) as f64
    }
}

impl Serialize for Spread {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        let quantiles = [("min", 0.0), ("p5", 0.05), ("median", 0.5), ("p95", 0.95), ("max", 1.0)];
        let values = quantiles.iter().map(|(name, share)| (*name, Value::from(self.quantile(*share))));
        // Two decimals are enough to read, and do not depend on the order of a sum.
        to.collect_map(values.chain([("mean", Value::from((self.mean() * 100.0).round() / 100.0))]))
    }
}

pub(super) fn stats(args: &DataStatsArgs) -> Result<()> {
    let mut stats = Stats::default();
    for source in Source::parse_list(&args.data)? {
        let mut skipped = BTreeMap::<String, u64>::new();
        let add = |sample: Surveyed| -> std::result::Result<(), Infallible> {
            stats.add(source.name(), &sample, args.by.as_deref());
            Ok(())
        };
        let skip = |skip: Skip| *skipped.entry(skip.reason.word().to_string()).or_default() += 1;
        match survey(&source, &Limits::default(), add, skip) {
            Ok(()) => {}
            Err(never) => match never {},
        }
        skipped.into_iter().for_each(|(reason, n)| *stats.skipped.entry(reason).or_default() += n);
    }
    let text = serde_json::to_value(&stats).map_err(|source| TrainError::Json { what: "the statistics", source })?;
    if args.json {
        say!("{text}");
    } else {
        say!("{}", stats.text(args.by.as_deref()).trim_end());
    }
    Ok(())
}

impl Stats {
    fn add(&mut self, source: &str, sample: &Surveyed, by: Option<&str>) {
        self.examples += 1;
        *self.sources.entry(source.to_string()).or_default() += 1;
        *self.formats.entry(sample.header.ending).or_default() += 1;
        self.captions_per_example.add(sample.captions.len());
        let caption = sample.captions.first().map_or("", String::as_str);
        self.caption_characters.add(caption.chars().count());
        self.caption_words.add(caption.split_whitespace().count());
        self.width.add(sample.header.width as usize);
        self.height.add(sample.header.height as usize);
        self.file_kb.add(sample.image.len().div_ceil(1000));
        if let Some(field) = by {
            let json: Value =
                sample.json.as_deref().and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
            let value = match json.get(field) {
                None | Some(Value::Null) => "(none)".to_string(),
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            };
            let known = self.by.contains_key(&value) || self.by.len() < VALUES;
            *self.by.entry(if known { value } else { OTHER.to_string() }).or_default() += 1;
        }
    }

    fn text(&self, by: Option<&str>) -> String {
        let mut out = format!("examples {}\n", self.examples);
        let mut shares = |title: &str, counts: Vec<(&str, u64)>| {
            if !counts.is_empty() {
                out.push_str(&format!("{title}\n"));
            }
            for (name, count) in counts {
                let share = 100.0 * count as f64 / self.examples.max(1) as f64;
                out.push_str(&format!("  {name:<24} {count:>10} {share:>6.2} %\n"));
            }
        };
        let named = |map: &'_ BTreeMap<String, u64>| -> Vec<(String, u64)> {
            let mut all: Vec<_> = map.iter().map(|(name, n)| (name.clone(), *n)).collect();
            all.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
            all
        };
        let lists = [
            ("sources", named(&self.sources)),
            (by.unwrap_or("by"), named(&self.by)),
            ("left out", named(&self.skipped)),
        ];
        for (title, list) in &lists {
            shares(title, list.iter().map(|(name, n)| (name.as_str(), *n)).collect());
        }
        shares("formats", self.formats.iter().map(|(name, n)| (*name, *n)).collect());
        out.push_str(&format!(
            "{:<24} {:>7} {:>7} {:>7} {:>7} {:>7} {:>9}\n",
            "", "min", "5 %", "median", "95 %", "max", "mean"
        ));
        for (name, spread) in [
            ("captions per example", &self.captions_per_example),
            ("characters of a caption", &self.caption_characters),
            ("words of a caption", &self.caption_words),
            ("width", &self.width),
            ("height", &self.height),
            ("file, thousand bytes", &self.file_kb),
        ] {
            let [min, low, median, high, max] = [0.0, 0.05, 0.5, 0.95, 1.0].map(|share| spread.quantile(share));
            out.push_str(&format!(
                "{name:<24} {min:>7} {low:>7} {median:>7} {high:>7} {max:>7} {:>9.2}\n",
                spread.mean()
            ));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occur() {
        let mut spread = Spread::default();
        assert_eq!(spread.quantile(0.5), 0);
        (1..=100).for_each(|value| spread.add(value));
        let found = [0.0, 0.05, 0.5, 0.95, 1.0].map(|share| spread.quantile(share));
        assert_eq!((found, spread.mean()), ([1, 5, 50, 95, 100], 50.5));
        spread.add(1000);
        assert_eq!((spread.quantile(0.5), spread.quantile(1.0)), (51, 1000));
    }
}
