//! The command line: arguments become a [`Command`]; whatever fails is printed here, once, with its causes.

mod args;
mod curate;
mod data;
mod eval;
mod foreign;
mod interchange;
mod reproduce;
mod train;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use args::{
    BenchCommand, BenchLossArgs, BenchNumericsArgs, BenchOpsArgs, BenchSelectArgs, BenchStepArgs, EmbedArgs,
    InspectArgs, OnDevice, Pairs, ParityArgs, ReferenceCacheArgs, ReferenceCommand, ScoreArgs, ScoreFormat, Share,
    TokenizerCommand, TokenizerTrainArgs,
};
pub use curate::{Cosine, CurateArgs, ExplainArgs, GainFlag, Keep};
pub use data::{DataBuildArgs, DataCheckArgs, DataCommand, DataStatsArgs, DataSubsetArgs};
pub use eval::{EvalArgs, EvalFormat, Probe};
pub use interchange::{ExportArgs, ExportFormat, ImportArgs};
pub use reproduce::ReproduceArgs;
pub use train::{KeyFlags, TrainArgs};

use crate::error::Result;
use crate::say::tell;

/// Trains image-text models on the examples that teach them most.
#[derive(Debug, Clone, Parser)]
#[command(name = "jest", version, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What `jest` is asked to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Train the runs of a configuration, in order
    Train(Box<TrainArgs>),
    /// Evaluate a checkpoint on tasks
    Eval(EvalArgs),
    /// Write the embeddings of a data set
    Embed(EmbedArgs),
    /// Write the learnability of every example of a data set
    Score(ScoreArgs),
    /// Write the part of a data set that a method selects
    Curate(CurateArgs),
    /// Tell what the runs of a folder chose
    Explain(ExplainArgs),
    /// Work with a reference ahead of training
    #[command(subcommand)]
    Reference(ReferenceCommand),
    /// Look at a data set, or write shards and subset files of it
    #[command(subcommand)]
    Data(DataCommand),
    /// List the devices of this machine
    Devices,
    /// Time whole pieces of training
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Make a tokenizer
    #[command(subcommand)]
    Tokenizer(TokenizerCommand),
    /// Read a model of another library
    Import(ImportArgs),
    /// Write a model as another library reads it
    Export(ExportArgs),
    /// Hold what is computed here against what other libraries computed
    Parity(ParityArgs),
    /// Repeat a study of the paper
    Reproduce(ReproduceArgs),
    /// Show what is in a checkpoint or a shard
    Inspect(InspectArgs),
}

/// Parses the arguments, the program's name first, and hands the command to `execute`.
///
/// The exit code is 2 where the arguments are wrong, else that of [`exit_code`](crate::TrainError::exit_code).
pub fn run(args: impl IntoIterator<Item = OsString>, execute: impl FnOnce(Command) -> Result<()>) -> ExitCode {
    let command = match parse(args) {
        Ok(command) => command,
        Err(Usage::Foreign(text)) => {
            tell!("error: {text}");
            return ExitCode::from(2);
        }
        Err(Usage::Clap(answer)) => {
            // Help and version are answers too, and go to standard output.
            if let Err(error) = answer.print() {
                tell!("error: {error}");
            }
            return ExitCode::from(if answer.use_stderr() { 2 } else { 0 });
        }
    };
    match execute(command) {
        // What was asked for is done; what it had to say is not all there.
        Ok(()) if crate::say::lost() => ExitCode::from(7),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell!("error: {}", error.explain());
            ExitCode::from(error.exit_code())
        }
    }
}

/// Arguments that make no command.
enum Usage {
    /// A flag of open_clip's that has no counterpart, with the reason.
    Foreign(String),
    /// Everything else, in clap's words.
    Clap(clap::Error),
}

fn parse(args: impl IntoIterator<Item = OsString>) -> std::result::Result<Command, Usage> {
    let args: Vec<OsString> = args.into_iter().collect();
    let verb = args.get(1).filter(|verb| *verb != "reference").or(args.get(2));
    let training = verb.is_some_and(|verb| verb == "train");
    let (args, notes) = if training { foreign::pass_over(args) } else { (args, Vec::new()) };
    let parsed = Cli::command().try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    match parsed {
        Ok(Cli { command: Command::Train(mut args) }) => {
            args.passed_over = notes;
            Ok(Command::Train(args))
        }
        Ok(Cli { command: Command::Reference(ReferenceCommand::Train(mut args)) }) => {
            (args.passed_over, args.is_reference) = (notes, true);
            Ok(Command::Reference(ReferenceCommand::Train(args)))
        }
        Ok(cli) => Ok(cli.command),
        Err(error) => Err(foreign_flag(&error).map_or_else(|| Usage::Clap(error), Usage::Foreign)),
    }
}

/// The reason why a flag known elsewhere is not known here.
fn foreign_flag(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(flag) => foreign::explain(flag.split('=').next().unwrap_or(flag)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
