//! From text to plan, once.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::layers::{Layers, name_of};
use super::plan::{Origin, Plan, RunPlan, SchedulePlan};
use super::raw::{RawRun, RunWide};
use super::{ConfigError, DataPlan, Note, Overrides, checks, keys, sizes};

/// Steps of a run under `--smoke`, at most.
pub const SMOKE_STEPS: u64 = 20;

/// What a plan depends on beside the text: read at the edge and passed in.
pub struct Surroundings<'a> {
    /// Threads where `threads` is not set.
    pub cores: usize,
    /// Whether a file or folder exists.
    pub exists: &'a dyn Fn(&Path) -> bool,
    /// How many examples an epoch over these data has.
    pub count: &'a dyn Fn(&DataPlan) -> jest_data::Result<u64>,
}

/// A plan, and what the user should know about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The plan.
    pub plan: Plan,
    /// Remarks, to print with it.
    pub notes: Vec<Note>,
}

/// The plan of a configuration file with the flags on top.
///
/// Flags set shared keys; a key that a run sets itself wins over them, with a note. `title` names the run folder
/// where neither file nor flags do: the file's stem.
///
/// # Errors
/// The first thing that does not fit, with its place and the nearest that does.
pub fn resolve(
    config: &str,
    title: Option<&str>,
    flags: &Overrides,
    around: &Surroundings<'_>,
) -> Result<Resolved, ConfigError> {
    let mut layers = Layers::split(config.parse::<Table>()?, flags.name.as_deref())?;
    layers.check()?;
    layers.apply(&flags.keys)?;
    keys::check_shared(&layers.shared)?;
    let mut notes = layers.shadowed(&flags.keys);
    let wide = take_run_wide(&mut layers.shared)?;

    let names: Vec<String> = layers.runs.iter().map(|run| name_of(run).to_owned()).collect();
    let mut runs: Vec<RunPlan> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        keys::check_run(&layers.runs[index], name)?;
        checks::name(name, &names[..index])?;
        let raw = read(layers.merged(index), &format!("run \"{name}\""))?;
        let run = run_plan(raw, &names, index, flags.smoke, around)?;
        if run.reference.is_empty() && layers.runs[index].contains_key("reference") {
            notes.push(Note::UnusedReference { run: name.clone() });
        }
        // What several runs share need not be read by each.
        let alone = (names.len() == 1).then(|| layers.merged(index));
        for key in checks::unread(&run, alone.as_ref().unwrap_or(&layers.runs[index])) {
            notes.push(Note::Unread { run: name.clone(), key, method: run.selection.method });
        }
        runs.push(run);
    }
    let out = out_folder(wide.out, title, flags);
    let plan = Plan {
        device: wide.device.unwrap_or_else(|| "auto".to_owned()),
        threads: wide.threads.unwrap_or(around.cores).max(1),
        device_mb: wide.device_mb,
        precision: wide.precision,
        seed: wide.seed,
        autotune: wide.autotune.unwrap_or(true),
        tiles: wide.tiles,
        out,
        runs,
    };
    Ok(Resolved { plan, notes })
}

/// Takes the keys that hold for all runs out of the shared ones.
fn take_run_wide(shared: &mut Table) -> Result<RunWide, ConfigError> {
    let mut wide = Table::new();
    for key in keys::fields_of::<RunWide>() {
        wide.extend(shared.remove_entry(*key));
    }
    read(wide, "the top level")
}

fn read<T: serde::de::DeserializeOwned>(table: Table, place: &str) -> Result<T, ConfigError> {
    Value::Table(table).try_into().map_err(|source| ConfigError::Value { place: place.to_owned(), source })
}

/// `--out`, else `--logs/NAME`, else the file's `out`, else `runs/NAME`.
fn out_folder(out: Option<PathBuf>, title: Option<&str>, flags: &Overrides) -> PathBuf {
    let name = flags.name.as_deref().or(title).unwrap_or("train");
    let by_flag = flags.keys.iter().any(|set| set.path == ["out"]);
    let folder = match (out, &flags.logs) {
        (Some(out), _) if by_flag => out,
        (_, Some(logs)) => Path::new(logs).join(name),
        (Some(out), None) => out,
        (None, None) => Path::new("runs").join(name),
    };
    if !flags.smoke {
        return folder;
    }
    let mut smoke = folder.into_os_string();
    smoke.push("-smoke");
    smoke.into()
}

fn run_plan(
    raw: RawRun,
    names: &[String],
    index: usize,
    smoke: bool,
    around: &Surroundings<'_>,
) -> Result<RunPlan, ConfigError> {
    let selection = sizes::selection(&raw)?;
    let mut steps = sizes::steps(&raw, &selection.sizes, around)?;
    let mut schedule = SchedulePlan { kind: raw.schedule.kind, warmup: raw.schedule.warmup.of(steps) };
    if smoke {
        steps = steps.min(SMOKE_STEPS);
        schedule.warmup = schedule.warmup.min(steps);
    }
    let origin = |key, named: &String| find_origin(named, key, names, index, around);
    let mut reference = Vec::new();
    if selection.needs_reference() {
        if raw.reference.is_empty() {
            let remedy = "its score needs one: name an earlier run or a checkpoint folder in reference, or pass --reference PATH";
            return Err(ConfigError::Missing { run: raw.name, key: "reference", remedy });
        }
        reference = raw.reference.iter().map(|named| origin("reference", named)).collect::<Result<_, _>>()?;
    }
    let init = raw.init.as_ref().map(|named| origin("init", named)).transpose()?;
    let init_towers = [
        raw.init_image.as_ref().map(|named| origin("init_image", named)).transpose()?,
        raw.init_text.as_ref().map(|named| origin("init_text", named)).transpose()?,
    ];
    let run = RunPlan {
        name: raw.name,
        reference,
        init,
        init_towers,
        objective: raw.objective,
        steps,
        data: raw.data,
        augmentation: raw.augmentation,
        text: raw.text,
        model: raw.model,
        selection,
        distillation: raw.distillation,
        optimizer: raw.optimizer,
        schedule,
        memory: raw.memory,
        checkpoint: raw.checkpoint,
        evaluation: raw.evaluation,
        logging: raw.logging,
    };
    checks::run(&run)?;
    Ok(run)
}

/// An earlier run of that name, else a folder that exists.
fn find_origin(
    named: &str,
    key: &'static str,
    names: &[String],
    index: usize,
    around: &Surroundings<'_>,
) -> Result<Origin, ConfigError> {
    let (earlier, later) = names.split_at(index);
    if earlier.iter().any(|name| name == named) {
        return Ok(Origin::Run(named.to_owned()));
    }
    let at = later.iter().position(|name| name == named);
    if at.is_none() && (around.exists)(Path::new(named)) {
        return Ok(Origin::Checkpoint(PathBuf::from(named)));
    }
    let fault = match at {
        Some(0) => "the run itself; name an earlier one".to_owned(),
        Some(_) => "a later run; runs are executed in order, so move it up".to_owned(),
        None => {
            let earlier: Vec<&str> = earlier.iter().map(String::as_str).collect();
            match keys::nearest(named, &earlier) {
                "" => "no folder, and no run comes earlier".to_owned(),
                nearest => format!("neither an earlier run nor a folder; nearest run: \"{nearest}\""),
            }
        }
    };
    Err(ConfigError::Origin { run: names[index].clone(), key, origin: named.to_owned(), fault })
}
