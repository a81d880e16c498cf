//! From a configuration file and flags to a plan.
//!
//! A file has keys for all runs (`device`, `threads`, `seed`, `out`), shared keys and tables, and `[[run]]` tables
//! executed in order, each of which may set any shared key or table anew:
//!
//! ```
//! use jest_train::config::{Origin, Overrides, Surroundings, resolve};
//!
//! let config = r#"
//!     batch_size = 128
//!     steps = 400
//!     data.train = "pool/{000..003}.tar"
//!     model.preset = "mu"
//!
//!     [[run]]
//!     name = "curator"
//!     data.train = "curated/000.tar"
//!
//!     [[run]]
//!     name = "learner"
//!     reference = "curator"
//!     selection.filter_ratio = 0.8
//! "#;
//! let around = Surroundings { cores: 2, exists: &|_| false, count: &|_| Ok(1000) };
//! let resolved = resolve(config, Some("two-runs"), &Overrides::default(), &around)?;
//! let learner = &resolved.plan.runs[1];
//! assert_eq!(learner.selection.sizes.super_batch(), 640); // 128 / (1 - 0.8)
//! assert_eq!(learner.reference, [Origin::Run("curator".to_owned())]);
//! assert_eq!(learner.schedule.warmup, 4); // 1% of 400
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checks;
mod describe;
mod error;
mod keys;
mod layers;
mod note;
mod plan;
mod raw;
mod resolve;
mod sizes;
mod tables;
#[cfg(test)]
mod tests;
mod values;

pub use describe::PLAN;
pub use error::ConfigError;
pub use layers::{Override, Overrides};
pub use note::Note;
pub use plan::{Origin, Plan, RunPlan, SchedulePlan, SelectionPlan};
pub use resolve::{Resolved, SMOKE_STEPS, Surroundings, resolve};
pub use tables::{
    Approximated, Canonicalize, CheckpointPlan, DataPlan, DecayOn, DistillationPlan, EvaluationPlan, LoggingPlan,
    MemoryPlan, ModelPlan, Objective, OptimizerPlan, Padding, ReportTo, TextPlan, TextPool,
};
pub use values::Gain;
