//! Keys of `[selection]` that go with others.

use super::*;

#[test]
fn a_cheap_share_is_one_of_a_cheap_view() {
    assert_eq!(
        fault(ONE_RUN, &["selection.cheap_share_end=1.5"]),
        "selection.cheap_share_end = 1.5 in run \"train\" is out of range; a share is between 0 and 1"
    );
    assert_eq!(
        fault(ONE_RUN, &["selection.cheap_share_end=0.5"]),
        "selection.cheap_share_end in run \"train\" does not go with a full view: set selection.approximation, such as \
         { patch_size = 16 }, or leave it out"
    );
}

#[test]
fn a_factor_on_the_logit_scale_is_of_scores_that_read_the_learner() {
    let with = |factor: &str, score: &str| {
        let keys = ["reference=there/x", "selection.method=joint", "selection.chunks=4"];
        let asked = [format!("selection.logit_scale_factor={factor}"), format!("selection.score={score}")];
        [&keys.map(str::to_owned)[..], &asked].concat()
    };
    let asked = |factor, score| with(factor, score).iter().map(String::as_str).collect::<Vec<_>>().join("\n");
    for (factor, told) in [("0", "0"), ("-1", "-1"), ("nan", "NaN"), ("inf", "inf"), ("1e-50", "0"), ("1e39", "inf")] {
        let keys = asked(factor, "learnability");
        assert_eq!(
            fault(ONE_RUN, &keys.lines().collect::<Vec<_>>()),
            format!(
                "selection.logit_scale_factor = {told} in run \"train\" is out of range; a factor on the logit scale is \
                 above 0 and finite"
            )
        );
    }
    let keys = asked("0.5", "easy_reference");
    assert_eq!(
        fault(ONE_RUN, &keys.lines().collect::<Vec<_>>()),
        "selection.logit_scale_factor in run \"train\" does not go with selection.score = \"easy_reference\": it reads no \
         loss of the learner; leave one of them out"
    );
    for (factor, score) in [("0.5", "learnability"), ("1", "easy_reference")] {
        let keys = asked(factor, score);
        let run = plan(ONE_RUN, &keys.lines().collect::<Vec<_>>()).runs.remove(0);
        assert_eq!(run.selection.logit_scale_factor.to_string(), factor);
    }
}
