//! The repository's documents, held against the code that they describe.

/// Every Rust block of the README is a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

#[cfg(test)]
mod tests {
    use clap::{Args, Command};

    use crate::cli::{
        BenchNumericsArgs, BenchSelectArgs, BenchStepArgs, CurateArgs, DataBuildArgs, DataCheckArgs, DataStatsArgs,
        DataSubsetArgs, EmbedArgs, EvalArgs, ExplainArgs, ExportArgs, ImportArgs, InspectArgs, ParityArgs,
        ReferenceCacheArgs, ScoreArgs, TokenizerTrainArgs, TrainArgs,
    };
    use crate::config::{Overrides, Surroundings, resolve};
    use crate::events::{Event, Summary};

    const README: &str = include_str!("../../README.md");
    const CONFIGURATION: &str = include_str!("../../docs/configuration.md");
    const FORMATS: &str = include_str!("../../docs/formats.md");

    /// Blocks of a document fenced as this language.
    fn blocks<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
        let fence = format!("\n```{language}\n");
        document.split(&fence).skip(1).filter_map(|rest| rest.split("\n```").next()).collect()
    }

    #[test]
    fn configurations_in_documents_make_plans() {
        let around = Surroundings { cores: 2, exists: &|_| true, count: &|_| Ok(1000) };
        let all = [blocks(README, "toml"), blocks(CONFIGURATION, "toml")].concat();
        assert!(all.len() >= 2, "{all:?}");
        for text in all {
            let resolved = resolve(text, Some("my"), &Overrides::default(), &around);
            resolved.unwrap_or_else(|error| panic!("{error}\n{text}"));
        }
    }

    #[test]
    fn every_key_is_documented() {
        let sources = [include_str!("config/raw.rs"), include_str!("config/tables.rs")].concat();
        let keys = sources.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(": "));
        let keys = keys.map(|(key, kind)| (key.trim_start_matches("r#"), kind));
        let tables = ["data", "augmentation", "text", "model", "selection", "optimizer", "schedule", "checkpoint"];
        let tables = [&tables[..], &["memory", "evaluation", "logging", "distillation"]].concat();
        let mut count = 0;
        for (key, _) in keys {
            let wanted = if tables.contains(&key) { format!("\n## `[{key}]`") } else { format!("\n| `{key}` |") };
            assert!(CONFIGURATION.contains(&wanted), "docs/configuration.md does not explain {key}");
            count += 1;
        }
        assert!(count > 50, "{count} keys found");
    }

    #[test]
    fn every_flag_is_documented() {
        fn flags<T: Args>() -> Vec<String> {
            let command = T::augment_args(Command::new("jest"));
            command.get_arguments().filter_map(|flag| flag.get_long()).map(|long| format!("| `--{long}` |")).collect()
        }
        let own = [flags::<TrainArgs>(), flags::<EvalArgs>(), flags::<EmbedArgs>(), flags::<ScoreArgs>()].concat();
        let more = [flags::<TokenizerTrainArgs>(), flags::<InspectArgs>(), flags::<ParityArgs>()].concat();
        let data = [flags::<DataCheckArgs>(), flags::<DataStatsArgs>(), flags::<DataBuildArgs>()].concat();
        let more = [more, data, flags::<DataSubsetArgs>(), flags::<ImportArgs>(), flags::<ExportArgs>()].concat();
        let bench = [flags::<BenchStepArgs>(), flags::<BenchSelectArgs>(), flags::<BenchNumericsArgs>()].concat();
        let offline = [flags::<ReferenceCacheArgs>(), flags::<CurateArgs>(), flags::<ExplainArgs>()].concat();
        for flag in [own, more, bench, offline].concat() {
            assert!(CONFIGURATION.contains(&flag), "docs/configuration.md has no row {flag}");
        }
    }

    #[test]
    fn presets_are_documented_as_they_are() {
        for preset in jest_model::Preset::ALL {
            let jest_model::ModelConfig { vision, text, .. } = preset.config();
            let sizes = [vision.image_size, vision.patch_size, vision.width, vision.depth, vision.num_heads];
            let sizes: Vec<String> =
                sizes.iter().chain([&vision.mlp_dim, &text.tokens]).map(usize::to_string).collect();
            let row = format!("| `{preset}` | {} |", sizes.join(" | "));
            assert!(CONFIGURATION.contains(&row), "docs/configuration.md has no row {row}");
        }
    }

    #[test]
    fn records_in_documents_are_what_is_written() {
        for line in blocks(FORMATS, "jsonl").iter().flat_map(|block| block.lines()) {
            let event: Event = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(serde_json::to_string(&event).unwrap(), line);
        }
        let summary = blocks(FORMATS, "json").into_iter().find(|block| block.starts_with("{\"device\"")).unwrap();
        let read: Summary = serde_json::from_str(summary).unwrap();
        let again: serde_json::Value = serde_json::to_value(&read).unwrap();
        assert_eq!(again, serde_json::from_str::<serde_json::Value>(summary).unwrap());
    }
}
