//! Studies: what the paper's figures and tables ask, repeated at a scale that a CPU can afford.
//!
//! A study is a configuration of runs in `configs/reproduce/`, trained once a seed, and panels made of what the runs
//! gave. `jest reproduce` runs them and writes `docs/reproduction/NAME.{json,svg,png}`.

mod draw;
mod error;
mod figure;
mod panels;
mod record;
mod sampler;
mod speedup;

pub use draw::{png, svg};
pub use error::StudyError;
pub use figure::{Kind, Panel, Point, Series};
pub use record::{QUARTERS, Record, Share, StudyRun, TARGETS, finished, precision};
pub use sampler::{Draw, POOLS, Pool, sampler};
pub use speedup::Speedup;

/// One question, and how it is answered.
#[derive(Debug, Clone, Copy)]
pub struct Study {
    /// Its name: a figure or table of the paper.
    pub name: &'static str,
    /// What the paper found.
    pub claim: &'static str,
    /// Seeds that are trained where no other number is asked for.
    pub seeds: u64,
    /// Runs of other studies that it looks at, by study and curve.
    pub borrows: &'static [(&'static str, &'static [&'static str])],
    /// Whether it trains the runs of `configs/reproduce/NAME.toml`; else it only looks at what it borrows.
    pub trains: bool,
    panels: fn(&Record) -> Vec<Panel>,
    /// Methods and the run that they are to reach, where a speed-up is asked for; the first is the headline.
    speedup: Option<(&'static [&'static str], &'static str)>,
}

/// The references that the others share, and the models of several qualities that stand in for curation.
pub const REFERENCES: &str = "references";

/// Every study, in an order in which each finds what it borrows.
pub const STUDIES: [Study; 17] = [
    Study {
        name: REFERENCES,
        claim: "Quality of the curated set, not its size, makes a reference; all others of these studies share these.",
        seeds: 1,
        borrows: &[],
        trains: true,
        panels: panels::references,
        speedup: None,
    },
    Study {
        name: "fig3",
        claim: "Joint selection gains more with every step of the filter ratio, independent selection loses its gain at 0.9; \
                learnability beats easy reference there.",
        seeds: 5,
        borrows: &[],
        trains: true,
        panels: panels::fig3,
        speedup: None,
    },
    Study {
        name: "fig3_long",
        claim: "Joint selection is ahead of independent selection at filter ratios of 0.8 and 0.9.",
        seeds: 5,
        borrows: &[],
        trains: true,
        panels: panels::fig3_long,
        speedup: None,
    },
    Study {
        name: "picks",
        claim: "(ours) In the last half of training joint selection chooses captions of another picture and boilerplate at most half as often as they come.",
        seeds: 5,
        borrows: &[],
        trains: true,
        panels: panels::picks,
        speedup: None,
    },
    Study {
        name: "fig1",
        claim: "JEST++ reaches what uniform selection ends with on 13 times fewer examples, Flexi-JEST++ with 9.9 times fewer FLOPs.",
        seeds: 5,
        borrows: &[],
        trains: true,
        panels: panels::fig1,
        speedup: Some((&["flexi_jest_pp", "jest_pp", "jest"], "uniform-12000")),
    },
    Study {
        name: "fig2",
        claim: "Sixteen chunks come within 1 % of brute-force Gibbs sampling; choosing by an example's own score alone is worse than random.",
        seeds: 5,
        borrows: &[("fig3", &["uniform"])],
        trains: false,
        panels: panels::fig2,
        speedup: None,
    },
    Study {
        name: "fig5",
        claim: "The cleaner the reference's data, the more JEST gains, even where the reference itself scores worse.",
        seeds: 3,
        borrows: &[("fig3", &["uniform"]), (REFERENCES, &["reference", "moderate", "weak", "raw", "early"])],
        trains: true,
        panels: panels::fig5,
        speedup: None,
    },
    Study {
        name: "fig6",
        claim: "With selection, a beta2 of 0.999 brings spikes of the loss and gains nothing; 0.95 does not.",
        seeds: 3,
        borrows: &[("fig3", &["uniform", "joint_learnability"])],
        trains: true,
        panels: panels::fig6,
        speedup: None,
    },
    Study {
        name: "fig7",
        claim: "Out of one super-batch, half the sub-batch costs nothing: the gain over uniform selection grows as batches shrink.",
        seeds: 3,
        borrows: &[],
        trains: true,
        panels: panels::fig7,
        speedup: None,
    },
    Study {
        name: "fig8",
        claim: "The softmax loss tells the same story as the sigmoid loss, somewhat lower.",
        seeds: 5,
        borrows: &[("fig3", &["uniform", "joint_learnability", "independent_learnability"])],
        trains: true,
        panels: panels::fig8,
        speedup: None,
    },
    Study {
        name: "fig9",
        claim: "Lower resolution is a better cheap view than dropped patches once it is trained on.",
        seeds: 3,
        borrows: &[("fig3", &["uniform", "joint_learnability"])],
        trains: true,
        panels: panels::fig9,
        speedup: None,
    },
    Study {
        name: "fig4",
        claim: "Flexi-JEST adds 10 % to the work of a uniform step, JEST 133 %; a cheap scorer that is not trained at its view hurts.",
        seeds: 3,
        borrows: &[("fig1", &["uniform", "jest", "flexi_jest_pp"]), ("fig9", &["iid_patches", "jest_patches"])],
        trains: false,
        panels: panels::fig4,
        speedup: None,
    },
    Study {
        name: "flexi_share",
        claim: "At equal examples Flexi-JEST, half of them trained at the cheap view, is 1.35 points below JEST.",
        seeds: 3,
        borrows: &[],
        trains: true,
        panels: panels::flexi_share,
        speedup: None,
    },
    Study {
        name: "flexi_cost",
        claim: "At the price of uniform selection Flexi-JEST is 5.85 points above it, where JEST is 7.2 above.",
        seeds: 12,
        borrows: &[],
        trains: true,
        panels: panels::flexi_cost,
        speedup: None,
    },
    Study {
        name: "fig10",
        claim: "Choosing what the learner finds hard gains little and loses at high ratios, joint selection more so.",
        seeds: 3,
        borrows: &[("fig3", &["uniform"])],
        trains: true,
        panels: panels::fig10,
        speedup: None,
    },
    Study {
        name: "table3",
        claim: "JEST makes filtering of the pool ahead of time redundant.",
        seeds: 3,
        borrows: &[("fig3", &["uniform", "joint_learnability"])],
        trains: true,
        panels: panels::table3,
        speedup: None,
    },
    Study {
        name: "table5",
        claim: "A reference that is a specialist trains a learner that is a generalist.",
        seeds: 3,
        borrows: &[("fig1", &["uniform", "jest_pp"]), (REFERENCES, &["reference_pp"])],
        trains: false,
        panels: panels::table5,
        speedup: None,
    },
];

impl Study {
    /// The study of that name.
    pub fn named(name: &str) -> Option<Self> {
        STUDIES.into_iter().find(|study| study.name == name)
    }

    /// The same runs with panels and speed-up made of them.
    pub fn conclude(&self, record: Record) -> Record {
        let (methods, uniform) = self.speedup.unwrap_or_default();
        let mut speedups = methods.iter().map(|method| Speedup::of(&record, method, uniform));
        let speedup = speedups.next().flatten();
        let other_speedups = speedups.flatten().collect();
        Record {
            study: self.name.to_string(),
            claim: self.claim.to_string(),
            command: format!("cargo xtask reproduce {}", self.name),
            targets: TARGETS.iter().filter(|task| record.evaluated(task)).map(ToString::to_string).collect(),
            speedup,
            other_speedups,
            panels: (self.panels)(&record),
            ..record
        }
    }
}
