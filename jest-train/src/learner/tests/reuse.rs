//! What scoring leaves to a step, and captions without padding.

use super::*;

/// Embeddings that scoring made stand for the first pass, of what was scored as it is trained; nothing else changes.
#[test]
fn scores_serve_as_the_first_pass_of_micro_batches() {
    for scored in [View::default(), View::patches(16), View { text_tokens: Some(8), ..View::default() }] {
        let memory = MemoryPlan { micro_batch: Some(5), recompute: false };
        let (mut pass, learner, batch) = learner(Objective::Sigmoid);
        let mut learner = learner.with_memory(memory);
        let parts = mixed(View { patch_size: Some(16), ..View::default() });
        let (loss, want) = gradients(&mut pass, &mut learner, &batch, &parts);
        let made = learner.embed_at(&mut pass, &batch, &scored).unwrap();
        let reuse = Reuse::default().with_learner(&mut pass, scored, &made, &(0..N).collect::<Vec<_>>()).unwrap();
        learner.model.zero_gradients(&mut pass).unwrap();
        let again = learner.forward_backward(&mut pass, &batch, &parts, &reuse).unwrap();
        assert!((total(&mut pass, again) - loss).abs() < 1e-6 * loss);
        for (param, want) in learner.model.parameters().into_iter().zip(&want) {
            let size = want.iter().fold(1e-6f32, |max, x| max.max(x.abs()));
            for (a, b) in pass.read(&param.grad).unwrap().iter().zip(want) {
                assert!((a - b).abs() <= 1e-4 * size, "{}, {scored:?}: {a} is not {b}", param.name());
            }
        }
        let config = config();
        let saved = learner.training_flops_in_parts(&WHOLE, &parts, &Reuse::default())
            - learner.training_flops_in_parts(&WHOLE, &parts, &reuse);
        let texts = if scored.text_tokens.is_none() { N as u64 * config.text_flops(&View::default()) } else { 0 };
        // Seven pictures are trained at the full view, five at the cheap one.
        let images = if scored.patch_size.is_none() { 7 } else { 5 } * config.image_flops(&scored);
        assert_eq!(saved, (texts + images) as f64, "{scored:?}");
    }
}

/// A locked tower whose embeddings are there is not computed at all, and counts nothing.
#[test]
fn embeddings_of_a_locked_tower_spare_its_forward_pass() {
    let (mut pass, learner, batch) = learner(Objective::Sigmoid);
    let mut learner = learner.with_memory(MemoryPlan { micro_batch: Some(5), recompute: false });
    learner.model.lock(&mut pass, jest_model::Locked { image: true, ..Default::default() }).unwrap();
    let made = learner.embed(&mut pass, &batch).unwrap();
    let all: Vec<usize> = (0..N).collect();
    let reuse = Reuse::default().with_learner(&mut pass, View::default(), &made, &all).unwrap();
    let whole = [Part { rows: 0..N, view: View::default() }];
    let counted = |reuse: &Reuse| learner.training_flops_in_parts(&WHOLE, &whole, reuse);
    let (config, view) = (config(), View::default());
    let spared = N as u64 * (config.image_flops(&view) + config.text_flops(&view));
    assert_eq!(counted(&Reuse::default()) - counted(&reuse), spared as f64);
    // What is left: the text tower once with its backward, and the loss.
    let loss = 6.0 * (N * N * config.embedding_dim()) as f64;
    assert_eq!(counted(&reuse), loss + (N as u64 * config.text_training_flops(&view)) as f64);
}

/// Packed captions give the gradients of padded ones, and are counted at the lengths they are computed at.
#[test]
fn packed_captions_change_nothing_but_the_work() {
    let (mut pass, mut learner, mut batch) = learner(Objective::Sigmoid);
    batch.lengths = (0..N as u32).map(|i| 1 + (i * 7) % 16).collect();
    for cheap in [View::patches(16), View { text_tokens: Some(5), ..View::default() }] {
        let parts = mixed(cheap);
        learner.model.set_packing(false);
        let padded = gradients(&mut pass, &mut learner, &batch, &parts);
        let whole = learner.training_flops_in_parts(&batch.lengths, &parts, &Reuse::default());
        learner.model.set_packing(true);
        let packed = gradients(&mut pass, &mut learner, &batch, &parts);
        assert_same_gradients("packed", &padded, &packed, 1e-4);
        let config = config();
        let saved: u64 = parts
            .iter()
            .flat_map(|part| part.rows.clone().map(move |row| (row, part.view)))
            .map(|(row, view)| {
                let l = view.text_tokens(&config);
                let at = |l| config.text_training_flops(&View { text_tokens: Some(l), ..view });
                at(l) - at((batch.lengths[row].next_multiple_of(2) as usize).min(l))
            })
            .sum();
        assert_eq!(whole - learner.training_flops_in_parts(&batch.lengths, &parts, &Reuse::default()), saved as f64);
        let forward = |learner: &Learner| learner.forward_flops(&batch.lengths, &cheap);
        let packed = forward(&learner);
        learner.model.set_packing(false);
        assert!(packed < forward(&learner));
        // Blocks of captions that are scored come back in order.
        learner.model.set_packing(true);
        let [_, text] = learner.embed_at(&mut pass, &batch, &cheap).unwrap();
        learner.model.set_packing(false);
        let [_, want] = learner.embed_at(&mut pass, &batch, &cheap).unwrap();
        for (a, b) in pass.read(&text).unwrap().iter().zip(pass.read(&want).unwrap()) {
            assert!((a - b).abs() < 1e-5, "{a} is not {b}");
        }
    }
}

/// With a teacher the loss is the sum of both, its gradients flow through both towers, in pieces or not, and a teacher
/// that is the learner leaves all but logit_scale's zero gradient unchanged.
#[test]
fn a_teacher_adds_its_gradient() {
    let (mut pass, learner, batch) = learner(Objective::Sigmoid);
    let mut learner = learner.with_distillation(2.0);
    let parts = mixed(View::patches(16));
    let all: Vec<usize> = (0..N).collect();
    let plain = gradients(&mut pass, &mut learner, &batch, &parts);
    // The learner as it sees both parts itself.
    let mut made = [0, 1].map(|_| Vec::new());
    for part in &parts {
        let rows = batch.subset(&part.rows.clone().collect::<Vec<_>>());
        for (all, own) in made.iter_mut().zip(learner.embed_at(&mut pass, &rows, &part.view).unwrap()) {
            all.extend(pass.read(&own).unwrap());
        }
    }
    let made = made.map(|rows| pass.upload(&rows, &[N, rows.len() / N]).unwrap());
    let own_scale = learner.model.logit_scale.value().clone();
    let taught_by = |pass: &mut Pass, learner: &mut Learner, scale: &Tensor| {
        learner.model.zero_gradients(pass).unwrap();
        let reuse = Reuse::default().with_teacher(pass, scale, &made, &all).unwrap();
        let loss = learner.forward_backward(pass, &batch, &parts, &reuse).unwrap();
        let mut grads = Vec::new();
        learner.model.visit(&mut |param| grads.push(pass.read(&param.grad).unwrap()));
        let flops = learner.training_flops_in_parts(&WHOLE, &parts, &reuse);
        (total(pass, loss), grads, flops)
    };
    let (loss, same, flops) = taught_by(&mut pass, &mut learner, &own_scale);
    // Twice the entropy of softmaxes over 12: at most twice ln 12 for each side's half.
    assert!(loss > plain.0 && loss < plain.0 + 2.0 * 12f32.ln(), "{loss}");
    assert_same_gradients("own teacher", &(1.0, plain.1), &(1.0, same), 1e-4);
    let pairs = (N * N * config().embedding_dim()) as f64;
    assert_eq!(flops - learner.training_flops_in_parts(&WHOLE, &parts, &Reuse::default()), 12.0 * pairs);
    // A sharper teacher sharpens the learner.
    let sharp = pass.upload(&[4.0], &[1]).unwrap();
    let whole = taught_by(&mut pass, &mut learner, &sharp);
    let mut learner = learner.with_memory(MemoryPlan { micro_batch: Some(5), recompute: false });
    let cut = taught_by(&mut pass, &mut learner, &sharp);
    assert_same_gradients("in pieces", &(whole.0, whole.1.clone()), &(cut.0, cut.1), 1e-4);
    assert!(whole.1[0][0] < 0.0, "by logit_scale: {:?}", whole.1[0]);
}
