//! Known keys, taken from the types that read them, and the nearest of them to a misspelt one.

use serde::de::{self, Deserialize, Deserializer, Visitor};
use toml::{Table, Value};

use super::ConfigError;
use super::raw::{RawRun, RunWide, fields_of_table};

/// Refuses keys at the top of the file, and in its shared tables, that nothing reads.
pub(super) fn check_shared(shared: &Table) -> Result<(), ConfigError> {
    let mut known: Vec<&str> = [fields_of::<RunWide>(), fields_of::<RawRun>()].concat();
    known.retain(|key| *key != "name");
    known.push("run");
    check(shared, &known, "at the top level", "")
}

/// Refuses keys in a `[[run]]` that nothing reads.
pub(super) fn check_run(run: &Table, name: &str) -> Result<(), ConfigError> {
    let place = format!("in [[run]] \"{name}\"");
    if let Some(key) = run.keys().find(|key| fields_of::<RunWide>().contains(&key.as_str())) {
        return Err(ConfigError::RunWide { key: key.clone(), place });
    }
    check(run, fields_of::<RawRun>(), &place, "run.")
}

fn check(table: &Table, known: &[&str], place: &str, prefix: &str) -> Result<(), ConfigError> {
    for (key, value) in table {
        if !known.contains(&key.as_str()) {
            let nearest = nearest(key, known).to_owned();
            return Err(ConfigError::UnknownKey { key: key.clone(), place: place.to_owned(), nearest });
        }
        match (fields_of_table(key), value) {
            (Some(fields), Value::Table(inner)) => {
                check(inner, fields, &format!("in [{prefix}{key}]"), &format!("{prefix}{key}."))?;
            }
            (Some(_), _) => return Err(ConfigError::Shape { key: key.clone(), expected: "a table" }),
            (None, Value::Table(_)) => {
                return Err(ConfigError::Shape { key: key.clone(), expected: "a value, not a table" });
            }
            (None, _) => {}
        }
    }
    Ok(())
}

/// The entry of `known` that the fewest insertions, deletions and replacements make of `word`; the first of equals.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> &'a str {
    known.iter().copied().min_by_key(|candidate| distance(word, candidate)).unwrap_or_default()
}

/// Levenshtein's distance, by rows.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The keys that the derived reader of `T` knows: it hands them to its deserializer, and this one only listens.
pub(super) fn fields_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut heard: &'static [&'static str] = &[];
    let refused = T::deserialize(Listener(&mut heard)).is_err();
    debug_assert!(refused, "a listener has no value to give");
    heard
}

struct Listener<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Listener<'_> {
    type Error = de::value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(de::Error::custom("only listening"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("only listening"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [("", "abc", 3), ("steps", "steps", 0), ("stpes", "steps", 2), ("lr", "lr_", 1)] {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a} {b}");
        }
        assert_eq!(nearest("filter_ration", &["chunks", "filter_ratio", "gain"]), "filter_ratio");
        assert_eq!(nearest("x", &[]), "");
    }

    #[test]
    fn every_table_of_a_run_is_known_with_its_keys() {
        let tables: Vec<&str> =
            fields_of::<RawRun>().iter().copied().filter(|key| fields_of_table(key).is_some()).collect();
        let expected = [
            "data",
            "augmentation",
            "text",
            "model",
            "selection",
            "distillation",
            "optimizer",
            "schedule",
            "memory",
            "checkpoint",
            "evaluation",
            "logging",
        ];
        assert_eq!(tables, expected);
        for table in tables {
            assert!(!fields_of_table(table).unwrap().is_empty(), "{table}");
        }
        assert!(fields_of_table("selection").unwrap().contains(&"filter_ratio"));
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        let check = |text: &str, expected: &str| {
            let error = check_shared(&text.parse().unwrap()).unwrap_err().to_string();
            assert_eq!(error, expected);
        };
        check(
            "[selection]\nfilter_ration = 0.8",
            "unknown key \"filter_ration\" in [selection]; nearest: \"filter_ratio\"",
        );
        check("batchsize = 8", "unknown key \"batchsize\" at the top level; nearest: \"batch_size\"");
        check("[optimiser]\nlr = 1", "unknown key \"optimiser\" at the top level; nearest: \"optimizer\"");
        check("data = 3", "data must be a table");
        check("[steps]\nx = 3", "steps must be a value, not a table");
        let in_run = |text: &str| check_run(&text.parse().unwrap(), "a").unwrap_err().to_string();
        assert_eq!(in_run("stepz = 1"), "unknown key \"stepz\" in [[run]] \"a\"; nearest: \"steps\"");
        assert_eq!(in_run("[model]\ndept = 1"), "unknown key \"dept\" in [run.model]; nearest: \"depth\"");
        assert_eq!(
            in_run("seed = 1"),
            "key \"seed\" in [[run]] \"a\" holds for all runs; set it at the top of the file"
        );
    }
}
