//! What each verb of `jest` does.

pub(crate) mod bench;
mod bench_numerics;
mod bench_ops;
mod bench_select;
mod curate;
mod data;
mod embed;
mod eval;
mod explain;
mod inspect;
mod interchange;
mod open;
mod parity;
mod reference;
mod report;
mod reproduce;
mod run_folder;
mod sampled;
mod score;
mod starting;
mod train;

use std::ffi::OsString;
use std::path::PathBuf;

use jest_data::RemoteOptions;
use jest_kernels::Device;

use crate::Result;
use crate::cli::{BenchCommand, Command, ReferenceCommand, TokenizerCommand, TokenizerTrainArgs};
use crate::config::ConfigError;
use crate::say::say;

/// Does what the command line asks.
///
/// # Errors
/// Whatever the verb reports.
pub fn execute(command: Command) -> Result<()> {
    remote()?.install();
    match command {
        Command::Train(args) => train::train(&args),
        Command::Eval(args) => eval::eval(&args),
        Command::Embed(args) => embed::embed(&args),
        Command::Score(args) => score::score(&args),
        Command::Curate(args) => curate::curate(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Reference(ReferenceCommand::Train(args)) => train::train(&args),
        Command::Reference(ReferenceCommand::Cache(args)) => reference::cache(&args),
        Command::Data(command) => data::data(&command),
        Command::Devices => {
            devices();
            Ok(())
        }
        Command::Tokenizer(TokenizerCommand::Train(args)) => train_tokenizer(&args),
        Command::Bench(BenchCommand::Step(args)) => bench::step(&args),
        Command::Bench(BenchCommand::Ops(args)) => bench_ops::ops(&args),
        Command::Bench(BenchCommand::Loss(args)) => bench_ops::loss(&args),
        Command::Bench(BenchCommand::Numerics(args)) => bench_numerics::numerics(&args),
        Command::Import(args) => interchange::import(&args),
        Command::Export(args) => interchange::export(&args),
        Command::Parity(args) => parity::parity(&args),
        Command::Bench(BenchCommand::Select(args)) => bench_select::select(&args),
        Command::Reproduce(args) => reproduce::reproduce(&args),
        Command::Inspect(args) => inspect::inspect(&args),
    }
}

/// How shards on servers are read: credentials and the cache of shards are in the environment, as for WebDataset.
fn remote() -> Result<RemoteOptions> {
    let wanted = |name: &str| ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|prefix| name.starts_with(prefix));
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    let settings = std::env::vars_os().filter_map(text).filter(|(name, _)| wanted(name)).collect();
    let mut options = RemoteOptions { settings, ..RemoteOptions::default() };
    let given = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    options.cache = given("WDS_CACHE").map(PathBuf::from);
    if let Some(size) = given("WDS_CACHE_SIZE") {
        let bytes = size.to_str().and_then(|size| size.parse().ok());
        let key = format!("WDS_CACHE_SIZE, which is {size:?},");
        options.cache_bytes = bytes.ok_or(ConfigError::Shape { key, expected: "a number of bytes" })?;
    }
    Ok(options)
}

fn devices() {
    let all = Device::list();
    let gpus = all.len() - 1;
    for (index, info) in all.iter().enumerate() {
        let name = if index < gpus { format!("gpu:{index}") } else { "cpu".to_string() };
        let software = if info.software { ", software" } else { "" };
        say!("{name:<6} {} ({}{software})", info.name, info.driver);
        say!("       features: {}", if info.features.is_empty() { "none".into() } else { info.features.join(", ") });
        if index < gpus {
            let [tensor, binding] = [info.max_tensor_bytes, info.max_binding_bytes].map(|bytes| bytes >> 20);
            let workgroup = info.workgroup_bytes >> 10;
            say!(
                "       limits: {tensor} MiB a tensor, {binding} MiB of it at once, {workgroup} KiB of workgroup memory"
            );
        }
    }
    if gpus == 0 {
        say!("no GPU adapter: `--device auto` takes the CPU; for a GPU install its Vulkan, Metal or DX12 driver");
    }
}

fn train_tokenizer(args: &TokenizerTrainArgs) -> Result<()> {
    let sources = jest_data::Source::parse_list(&args.data)?;
    let captions = open::captions(sources)?;
    let tokenizer = jest_data::train_tokenizer(&captions, args.vocab_size)?;
    crate::storage::write_atomic(&args.out, tokenizer.to_json().as_bytes())?;
    say!("{}: {} ids from {} captions", args.out.display(), tokenizer.vocab_size(), captions.len());
    Ok(())
}
