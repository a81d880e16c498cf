//! The scale of the loss: exact, and no trace of what it skips.

use super::*;

#[test]
fn a_scaled_loss_gives_the_same_bytes_in_f32() {
    let trained = |scaled: bool| {
        let (mut pass, mut learner, batch) = learner(Objective::Sigmoid);
        learner.loss_scale = scaled.then(LossScale::default);
        let mut told = Vec::new();
        for _ in 0..3 {
            let numbers = learner.step(&mut pass, &batch, 1e-3, 1e-3).unwrap();
            assert_eq!(numbers.gradient_scale(), if scaled { 65_536.0 } else { 1.0 });
            let arrived = numbers.arrive().unwrap();
            told.push([arrived.loss, arrived.grad_norm, arrived.logit_scale, arrived.logit_bias].map(f32::to_bits));
        }
        let values = learner.model.parameters().into_iter().map(|param| pass.read(param.value()).unwrap());
        (told, values.collect::<Vec<_>>())
    };
    assert_eq!(trained(true), trained(false));
}

/// After them, running means and the corrections of their bias are those of a learner that never met them.
#[test]
fn skipped_updates_leave_no_trace() {
    let trained = |scale: Option<LossScale>| {
        let (mut pass, mut learner, batch) = learner(Objective::Sigmoid);
        learner.loss_scale = scale;
        let mut step = |lr| {
            let norm = learner.step(&mut pass, &batch, lr, 0.0).unwrap().arrive().unwrap().grad_norm;
            if let Some(scale) = &mut learner.loss_scale {
                scale.learn(norm.is_finite());
            }
            norm.is_finite()
        };
        // The first update that is made comes before the last skipped one counts.
        while !step(0.0) {}
        assert!(step(1e-3) && step(1e-3));
        let values = learner.model.parameters().into_iter().map(|param| pass.read(param.value()).unwrap());
        (values.collect::<Vec<_>>(), learner.loss_scale.map_or(0, |scale| scale.skipped()))
    };
    let large = r#"{"exponent":70,"good":0,"skipped":0,"skipped_in_a_row":0,"open":0,"known":[]}"#;
    let (values, skipped) = trained(Some(serde_json::from_str(large).unwrap()));
    assert!(skipped > 1, "{skipped}");
    assert!(values == trained(None).0);
}
