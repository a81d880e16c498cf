//! Layers of a configuration: shared tables, flags on top of them, and each run's own tables on top of both.

use toml::{Table, Value};

use super::ConfigError;
use super::note::Note;

/// Keys that say one thing in several ways, by table; a layer that sets one takes the others of the layer below away.
const ALTERNATIVES: [(&str, &[&str]); 2] =
    [("", &["steps", "examples", "epochs"]), ("selection", &["filter_ratio", "super_batch"])];

/// What the command line sets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    /// Keys, in the order in which they take effect.
    pub keys: Vec<Override>,
    /// `--name`: of the run, where the file has no `[[run]]`, and of the folder under `--logs`.
    pub name: Option<String>,
    /// `--logs`: the folder that holds run folders.
    pub logs: Option<String>,
    /// `--smoke`: at most [`SMOKE_STEPS`](super::SMOKE_STEPS) steps a run, in a folder of their own.
    pub smoke: bool,
}

/// One key that the command line sets.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// As typed, for notes: `--steps`.
    pub flag: String,
    /// Tables and key, outermost first; `run`, NAME in front address one run.
    pub path: Vec<String>,
    /// The value.
    pub value: Value,
}

impl Override {
    /// A flag that sets the key at a dotted path.
    pub fn new(flag: &str, path: &str, value: impl Into<Value>) -> Self {
        Self { flag: flag.to_owned(), path: path.split('.').map(str::to_owned).collect(), value: value.into() }
    }

    /// Reads `table.key=value` as TOML; a value that is no TOML is a text.
    ///
    /// # Errors
    /// `Assignment` where `=` or the key is missing.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let (path, value) = text.split_once('=').ok_or_else(|| ConfigError::Assignment { text: text.to_owned() })?;
        let (path, value) = (path.trim(), value.trim());
        if path.split('.').any(str::is_empty) {
            return Err(ConfigError::Assignment { text: text.to_owned() });
        }
        let parsed = format!("value = {value}").parse::<Table>().ok().filter(|table| table.len() == 1);
        let value = parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::from(value));
        Ok(Self::new(&format!("--set {text}"), path, value))
    }
}

/// A file in its two layers.
pub(super) struct Layers {
    pub shared: Table,
    pub runs: Vec<Table>,
}

impl Layers {
    /// Splits a file; without `[[run]]`, the shared tables are one run of the given name.
    pub fn split(mut file: Table, name: Option<&str>) -> Result<Self, ConfigError> {
        let wrong =
            || ConfigError::Shape { key: "run".to_owned(), expected: "a list of tables, each begun by [[run]]" };
        let runs = match file.remove("run") {
            None => vec![Table::from_iter([("name".to_owned(), Value::from(name.unwrap_or("train")))])],
            Some(Value::Array(runs)) if !runs.is_empty() => {
                let tables =
                    runs.into_iter().map(|run| if let Value::Table(run) = run { Ok(run) } else { Err(wrong()) });
                tables.collect::<Result<_, _>>()?
            }
            Some(_) => return Err(wrong()),
        };
        Ok(Self { shared: file, runs })
    }

    /// Applies what the command line sets.
    pub fn apply(&mut self, overrides: &[Override]) -> Result<(), ConfigError> {
        for set in overrides {
            match set.path.split_first() {
                Some((run, rest)) if run == "run" => {
                    let (index, path) = self.find_run(rest)?;
                    assign(&mut self.runs[index], path, &set.value, "")?;
                }
                _ => assign(&mut self.shared, &set.path, &set.value, "")?,
            }
        }
        Ok(())
    }

    /// The run that `path` begins with the name of, and the rest; a name may itself hold dots.
    fn find_run<'a>(&self, path: &'a [String]) -> Result<(usize, &'a [String]), ConfigError> {
        for length in (1..path.len()).rev() {
            let name = path[..length].join(".");
            if let Some(index) = self.runs.iter().position(|run| name_of(run) == name) {
                return Ok((index, &path[length..]));
            }
        }
        let known: Vec<&str> = self.runs.iter().map(name_of).collect();
        Err(ConfigError::NoSuchRun { name: path.first().cloned().unwrap_or_default(), known: known.join(", ") })
    }

    /// Refuses a layer that says one thing twice.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_alternatives(&self.shared, "at the top level")?;
        self.runs.iter().try_for_each(|run| check_alternatives(run, &format!("in [[run]] \"{}\"", name_of(run))))
    }

    /// What the command line sets for all runs and a run sets itself.
    pub fn shadowed(&self, overrides: &[Override]) -> Vec<Note> {
        let mut notes = Vec::new();
        for set in overrides.iter().filter(|set| set.path.first().is_none_or(|first| first != "run")) {
            for run in self.runs.iter().filter(|run| sets(run, &set.path)) {
                notes.push(Note::Shadowed {
                    run: name_of(run).to_owned(),
                    key: set.path.join("."),
                    flag: set.flag.clone(),
                });
            }
        }
        notes
    }

    /// The shared tables with the tables of one run on top.
    pub fn merged(&self, run: usize) -> Table {
        let mut merged = self.shared.clone();
        merge(&mut merged, &self.runs[run], "");
        merged
    }
}

/// Name of a run as written; empty where it has none.
pub(super) fn name_of(run: &Table) -> &str {
    run.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// Sets the key at `path`, and takes its alternatives away.
fn assign(table: &mut Table, path: &[String], value: &Value, within: &str) -> Result<(), ConfigError> {
    let [key, rest @ ..] = path else { return Ok(()) };
    if rest.is_empty() {
        drop_alternatives(table, within, key);
        table.insert(key.clone(), value.clone());
        return Ok(());
    }
    match table.entry(key).or_insert_with(|| Value::Table(Table::new())) {
        Value::Table(inner) => assign(inner, rest, value, key),
        _ => Err(ConfigError::Shape { key: key.clone(), expected: "a value, not a table" }),
    }
}

/// Puts `over` on top of `base`, table by table.
fn merge(base: &mut Table, over: &Table, within: &str) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above, key),
            _ => {
                drop_alternatives(base, within, key);
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

fn alternatives_of(within: &str, key: &str) -> &'static [&'static str] {
    let group = ALTERNATIVES.iter().find(|(table, keys)| *table == within && keys.contains(&key));
    group.map_or(&[], |(_, keys)| keys)
}

fn drop_alternatives(table: &mut Table, within: &str, key: &str) {
    for other in alternatives_of(within, key) {
        table.remove(*other);
    }
}

fn check_alternatives(layer: &Table, place: &str) -> Result<(), ConfigError> {
    for (within, keys) in ALTERNATIVES {
        let table = if within.is_empty() { Some(layer) } else { layer.get(within).and_then(Value::as_table) };
        let set: Vec<&str> =
            keys.iter().copied().filter(|key| table.is_some_and(|table| table.contains_key(*key))).collect();
        if let [first, second, ..] = set[..] {
            return Err(ConfigError::Both { first, second, place: place.to_owned() });
        }
    }
    Ok(())
}

/// Whether a run sets the key at `path`, or an alternative of it.
fn sets(run: &Table, path: &[String]) -> bool {
    let Some((key, tables)) = path.split_last() else { return false };
    let mut table = run;
    for (depth, name) in tables.iter().enumerate() {
        match table.get(name) {
            Some(Value::Table(inner)) => table = inner,
            // A value in place of a table takes all that the table below it holds away.
            other => return other.is_some() && depth > 0,
        }
    }
    let alternatives = alternatives_of(tables.last().map_or("", String::as_str), key);
    table.contains_key(key) || alternatives.iter().any(|other| table.contains_key(*other))
}
