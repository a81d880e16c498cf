//! Conditions on the fields of a sample's JSON: which examples of a data set are used.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde_json::Value;

use crate::DataError;

/// Values that fields must have: one of those named, for every field that is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(BTreeMap<(Option<String>, String), BTreeSet<String>>);

impl Fields {
    /// Conditions `FIELD=VALUE`; several on one field leave a choice. `SOURCE:FIELD=VALUE` is asked of the examples of that source alone.
    ///
    /// # Errors
    /// `Setting` for one without `=` or without a field.
    pub fn parse<S: AsRef<str>>(conditions: impl IntoIterator<Item = S>) -> Result<Self, DataError> {
        let mut all = Self::default();
        for condition in conditions {
            let Condition { source, field, value } = condition.as_ref().parse()?;
            all.0.entry((source, field)).or_default().insert(value);
        }
        Ok(all)
    }

    /// Whether every example is used.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first source that a condition names and that is none of these.
    pub(crate) fn unknown<'a>(&'a self, known: &[&str]) -> Option<&'a str> {
        self.0.keys().filter_map(|(source, _)| source.as_deref()).find(|source| !known.contains(source))
    }

    /// Whether a sample of `source` with this JSON is used; one without a named field is not. Numbers are compared as
    /// serde_json writes them: 0.5 for 0.50.
    pub(crate) fn hold(&self, source: &str, json: Option<&[u8]>) -> bool {
        let asked = || self.0.iter().filter(|((of, _), _)| of.as_ref().is_none_or(|of| of == source));
        if asked().next().is_none() {
            return true;
        }
        let object = json.and_then(|json| serde_json::from_slice::<BTreeMap<String, Value>>(json).ok());
        asked().all(|((_, field), values)| {
            let found = object.as_ref().and_then(|object| object.get(field));
            found.is_some_and(|found| match found {
                Value::String(text) => values.contains(text),
                other => values.contains(&other.to_string()),
            })
        })
    }
}

impl std::fmt::Display for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut between = "";
        for ((source, field), values) in &self.0 {
            let source = source.as_ref().map(|source| format!("{source}:")).unwrap_or_default();
            write!(f, "{between}{source}{field}={}", Vec::from_iter(values.iter().map(String::as_str)).join("|"))?;
            between = ", ";
        }
        Ok(())
    }
}

struct Condition {
    source: Option<String>,
    field: String,
    value: String,
}

impl FromStr for Condition {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        let wrong = || DataError::Setting {
            setting: "where",
            value: text.to_string(),
            problem: "a condition is FIELD=VALUE or SOURCE:FIELD=VALUE, a field of the JSON beside a picture and what it must be",
        };
        let (field, value) = text.split_once('=').ok_or_else(wrong)?;
        let (source, field) =
            field.split_once(':').map_or((None, field), |(source, field)| (Some(source.trim()), field));
        if field.trim().is_empty() || source.is_some_and(str::is_empty) {
            return Err(wrong());
        }
        Ok(Self { source: source.map(String::from), field: field.trim().to_string(), value: value.trim().to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_the_values_of_every_field() {
        let fields = Fields::parse(["noise=none", "noise = weak", "pool:good=true", "n=3"]).unwrap();
        assert_eq!(fields.to_string(), "n=3, noise=none|weak, pool:good=true");
        for (source, json, held) in [
            ("pool", r#"{"noise":"none","good":true,"n":3,"more":[1]}"#, true),
            ("pool", r#"{"noise":"weak","good":true,"n":3}"#, true),
            ("pool", r#"{"noise":"spam","good":true,"n":3}"#, false),
            ("pool", r#"{"noise":"none","good":false,"n":3}"#, false),
            ("pool", r#"{"noise":"none","n":3}"#, false),
            ("other", r#"{"noise":"none","n":3}"#, true),
            ("other", r#"["noise"]"#, false),
            ("other", "{", false),
        ] {
            assert_eq!(fields.hold(source, Some(json.as_bytes())), held, "{source} {json}");
        }
        assert!(!fields.hold("pool", None));
        assert!(Fields::default().hold("pool", None));
        assert_eq!(fields.unknown(&["pool", "other"]), None);
        assert_eq!(fields.unknown(&["other"]), Some("pool"));
        let scoped = Fields::parse(["pool:good=true"]).unwrap();
        assert!(scoped.hold("other", None) && !scoped.hold("pool", None));
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for text in ["noise", "=none", " = x", ":a=b", "pool:=x"] {
            let error = Fields::parse([text]).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains("FIELD=VALUE"), "{text}: {error}");
        }
    }
}
