//! `jest data`: what lies in a data set, what is wrong with it, and shards and subset files made of it.

mod build;
mod check;
mod stats;
mod subset;

use crate::Result;
use crate::cli::DataCommand;

pub(super) fn data(command: &DataCommand) -> Result<()> {
    match command {
        DataCommand::Check(args) => check::check(args),
        DataCommand::Stats(args) => stats::stats(args),
        DataCommand::Build(args) => build::build(args),
        DataCommand::Subset(args) => subset::subset(args),
    }
}
