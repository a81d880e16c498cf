//! Tags of an example, from the JSON of its sample.

use serde_json::Value;

/// The texts in these fields: a text is one tag, a list of texts several; numbers and truth values are tags as they are
/// written. Anything else, and JSON that is none, has no tags.
pub(crate) fn of(json: Option<&str>, fields: &[String]) -> Vec<String> {
    let Some(Ok(Value::Object(sample))) = json.map(serde_json::from_str::<Value>) else { return Vec::new() };
    let tag = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    };
    let mut tags = Vec::new();
    for value in fields.iter().filter_map(|field| sample.get(field)) {
        match value {
            Value::Array(list) => tags.extend(list.iter().filter_map(tag)),
            value => tags.extend(tag(value)),
        }
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_lists_and_numbers_are_tags() {
        let fields = ["concept".to_string(), "year".to_string()];
        for (json, expected) in [
            (Some("{\"concept\":\"cat\",\"year\":1999,\"x\":\"no\"}"), vec!["cat", "1999"]),
            (Some("{\"concept\":[\"cat\",\"dog\",null]}"), vec!["cat", "dog"]),
            (Some("{\"concept\":{\"a\":1}}"), vec![]),
            (Some("[1]"), vec![]),
            (Some("{"), vec![]),
            (None, vec![]),
        ] {
            assert_eq!(of(json, &fields), expected, "{json:?}");
        }
    }
}
