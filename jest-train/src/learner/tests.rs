use jest_kernels::{Device, DeviceOptions, DeviceRequest};
use jest_model::{Locked, ModelConfig, Parameters, Preset, TextPadding, TextPool, Tower};

use super::*;
use crate::config::OptimizerPlan;
use crate::verbs::bench::synthetic;

mod precisions;
mod reuse;
mod scale;

const N: usize = 12;

/// Captions of full length.
const WHOLE: [u32; N] = [16; N];

fn config() -> ModelConfig {
    let mut config = Preset::Mu.config();
    (config.text.padding, config.text.pool) = (TextPadding::Masked, TextPool::Eos);
    config
}

fn learner(objective: Objective) -> (Pass, Learner, SuperBatch) {
    let device =
        Device::open(&DeviceRequest::Cpu, DeviceOptions { threads: 2, checked: true, ..Default::default() }).unwrap();
    let mut pass = device.pass();
    let mut model = TwoTowers::new(&mut pass, &config(), 1).unwrap();
    // Positives and negatives of a small batch in balance, so that both count in the gradient.
    model.logit_bias.set(pass.upload(&[-2.5], &[1]).unwrap());
    let optimizer = Optimizer::new(&mut pass, &model, OptimizerPlan::default(), None).unwrap();
    let batch = synthetic(&config(), N);
    (pass, Learner::new(model, optimizer, objective), batch)
}

/// The cheap views that a plan can ask for.
fn views() -> [View; 3] {
    [
        View::patches(16),
        View { keep_tokens: Some(5), seed: 3, ..View::default() },
        View { patch_size: Some(16), keep_tokens: Some(3), text_tokens: Some(9), seed: 4 },
    ]
}

fn mixed(cheap: View) -> [Part; 2] {
    [Part { rows: 0..7, view: View::default() }, Part { rows: 7..N, view: cheap }]
}

/// What is minimised.
fn total(pass: &mut Pass, loss: Loss) -> f32 {
    let part = |loss: &Tensor| pass.read(loss).unwrap()[0];
    [loss.contrastive].iter().chain(&loss.distillation).map(part).sum()
}

/// Loss, and the gradients of all parameters in order.
fn gradients(pass: &mut Pass, learner: &mut Learner, batch: &SuperBatch, parts: &[Part]) -> (f32, Vec<Vec<f32>>) {
    let mut grads = Vec::new();
    learner.model.visit_mut(&mut |param| {
        param.grad = pass.zeros(param.value().shape()).unwrap();
    });
    let loss = learner.forward_backward(pass, batch, parts, &Reuse::default()).unwrap();
    learner.model.visit(&mut |param| grads.push(pass.read(&param.grad).unwrap()));
    (total(pass, loss), grads)
}

/// The joined loss in f64, of embeddings that each part was given on its own.
fn loss_of_embeddings(pass: &mut Pass, learner: &Learner, batch: &SuperBatch, parts: &[Part]) -> f64 {
    let (mut image, mut text) = (Vec::new(), Vec::new());
    for part in parts {
        let batch = batch.subset(&part.rows.clone().collect::<Vec<_>>());
        let [i, t] = learner.embed_at(pass, &batch, &part.view).unwrap();
        image.extend(pass.read(&i).unwrap());
        text.extend(pass.read(&t).unwrap());
    }
    let d = image.len() / N;
    let scale = f64::from(pass.read(learner.model.logit_scale.value()).unwrap()[0]).exp();
    let bias = f64::from(pass.read(learner.model.logit_bias.value()).unwrap()[0]);
    let logit = |i: usize, j: usize| {
        scale * (0..d).map(|k| f64::from(image[i * d + k]) * f64::from(text[j * d + k])).sum::<f64>()
    };
    let all = (0..N).flat_map(|i| (0..N).map(move |j| (i, j)));
    let of = |(i, j): (usize, usize)| match learner.objective {
        Objective::Sigmoid => {
            let z = if i == j { 1.0 } else { -1.0 };
            (-z * (logit(i, j) + bias)).exp().ln_1p()
        }
        Objective::Softmax if i == j => {
            let row: f64 = (0..N).map(|k| logit(i, k).exp()).sum();
            let col: f64 = (0..N).map(|k| logit(k, i).exp()).sum();
            0.5 * (row.ln() + col.ln()) - logit(i, i)
        }
        Objective::Softmax => 0.0,
    };
    all.map(of).sum::<f64>() / N as f64
}

#[test]
fn embeddings_of_both_views_meet_in_one_loss() {
    for objective in [Objective::Sigmoid, Objective::Softmax] {
        let (mut pass, mut learner, batch) = learner(objective);
        for cheap in views() {
            let parts = mixed(cheap);
            let (loss, _) = gradients(&mut pass, &mut learner, &batch, &parts);
            let want = loss_of_embeddings(&mut pass, &learner, &batch, &parts);
            assert!((f64::from(loss) - want).abs() < 1e-5 * want, "{objective:?}, {cheap:?}: {loss} is not {want}");
        }
    }
}

/// Along the gradient the loss rises by the square of its norm: both views, and the resize of kernels, have their part.
#[test]
fn gradients_of_a_mixed_batch_are_its_derivative() {
    for objective in [Objective::Sigmoid, Objective::Softmax] {
        for cheap in views() {
            let (mut pass, mut learner, batch) = learner(objective);
            let parts = mixed(cheap);
            let (_, grads) = gradients(&mut pass, &mut learner, &batch, &parts);
            let squares: Vec<f64> = grads.iter().map(|grad| grad.iter().map(|g| f64::from(*g).powi(2)).sum()).collect();
            assert!(squares.iter().filter(|square| **square > 0.0).count() + 2 >= squares.len(), "{squares:?}");
            let slope: f64 = squares.iter().sum();
            let step = 2e-3 / slope.sqrt();
            let mut at = |sign: f64| {
                let mut index = 0;
                learner.model.visit_mut(&mut |param| {
                    let moved: Vec<f32> = pass
                        .read(param.value())
                        .unwrap()
                        .iter()
                        .zip(&grads[index])
                        .map(|(value, grad)| (f64::from(*value) + sign * step * f64::from(*grad)) as f32)
                        .collect();
                    param.set(pass.upload(&moved, param.value().shape()).unwrap());
                    index += 1;
                });
                loss_of_embeddings(&mut pass, &learner, &batch, &parts)
            };
            let up = at(1.0);
            let down = at(-2.0);
            let got = (up - down) / (2.0 * step);
            assert!((got - slope).abs() < 0.01 * slope, "{objective:?}, {cheap:?}: {got} is not {slope}");
        }
    }
}

/// A cheap view that leaves nothing out is the full one, and cutting a batch in two changes nothing.
#[test]
fn two_parts_of_one_view_are_one_batch() {
    let (mut pass, mut learner, batch) = learner(Objective::Sigmoid);
    let whole = gradients(&mut pass, &mut learner, &batch, &[Part { rows: 0..N, view: View::default() }]);
    for same in [View::default(), View::patches(8), View { keep_tokens: Some(16), ..View::default() }] {
        let parts = gradients(&mut pass, &mut learner, &batch, &mixed(same));
        assert!((whole.0 - parts.0).abs() < 1e-6 * whole.0, "{same:?}");
        for (whole, parts) in whole.1.iter().zip(&parts.1) {
            let size = whole.iter().fold(1e-6f32, |max, x| max.max(x.abs()));
            for (a, b) in whole.iter().zip(parts) {
                assert!((a - b).abs() <= 1e-4 * size, "{same:?}: {a} and {b} of {size}");
            }
        }
    }
}

/// Gradients by name of the test, largest element and largest difference.
fn assert_same_gradients(name: &str, whole: &(f32, Vec<Vec<f32>>), other: &(f32, Vec<Vec<f32>>), slack: f32) {
    assert!((whole.0 - other.0).abs() <= slack * whole.0, "{name}: loss {} and {}", whole.0, other.0);
    for (whole, other) in whole.1.iter().zip(&other.1) {
        let size = whole.iter().fold(1e-6f32, |max, x| max.max(x.abs()));
        for (a, b) in whole.iter().zip(other) {
            assert!((a - b).abs() <= slack * size, "{name}: {a} and {b} of {size}");
        }
    }
}

#[test]
fn memory_is_saved_without_another_gradient() {
    for objective in [Objective::Sigmoid, Objective::Softmax] {
        for cheap in [View::patches(16), View { text_tokens: Some(9), ..View::default() }] {
            let with = |memory| {
                let (mut pass, learner, batch) = learner(objective);
                let mut learner = learner.with_memory(memory);
                gradients(&mut pass, &mut learner, &batch, &mixed(cheap))
            };
            let whole = with(MemoryPlan::default());
            let again = with(MemoryPlan { recompute: true, ..MemoryPlan::default() });
            assert_same_gradients("recompute", &whole, &again, 0.0);
            // Parts of 7 and 5 are cut within, at their end, and not at all.
            for rows in [1, 3, 5, N - 1, N, 99] {
                for recompute in [false, true] {
                    let cut = with(MemoryPlan { micro_batch: Some(rows), recompute });
                    assert_same_gradients(&format!("{objective:?} {rows}"), &whole, &cut, 1e-4);
                }
            }
        }
    }
}

#[test]
fn pieces_of_a_part_drop_patches_of_their_own() {
    let view = View { keep_tokens: Some(5), seed: 3, ..View::default() };
    let pieces = cut(&mixed(view), 3);
    let rows: Vec<_> = pieces.iter().map(|piece| piece.rows.clone()).collect();
    assert_eq!(rows, [0..3, 3..6, 6..7, 7..10, 10..12]);
    assert_eq!((pieces[3].view, pieces[4].view.seed), (view, 6));
    // The same draws in both passes: the loss falls along its gradient.
    let (mut pass, learner, batch) = learner(Objective::Sigmoid);
    let mut learner = learner.with_memory(MemoryPlan { micro_batch: Some(3), recompute: false });
    let parts = [Part { rows: 0..N, view }];
    let losses: Vec<f32> = (0..20)
        .map(|_| {
            learner
                .step_in_parts(&mut pass, &batch, &parts, &Reuse::default(), 1e-3, 0.0)
                .unwrap()
                .arrive()
                .unwrap()
                .loss
        })
        .collect();
    assert!(losses[19] < 0.7 * losses[0], "{losses:?}");
}

#[test]
fn flops_are_those_of_the_parts() {
    let learner_with = |memory| learner(Objective::Sigmoid).1.with_memory(memory);
    let (learner, config) = (learner_with(MemoryPlan::default()), config());
    for cheap in views() {
        let towers = 7 * config.training_flops(&View::default()) + 5 * config.training_flops(&cheap);
        let loss = 6.0 * (N * N * config.embedding_dim()) as f64;
        assert_eq!(learner.training_flops_in_parts(&WHOLE, &mixed(cheap), &Reuse::default()), towers as f64 + loss);
        let (mut twice, parts) = (towers, mixed(cheap));
        for Part { rows, view } in &parts {
            twice += rows.len() as u64
                * (config.forward_flops(view) + config.image_block_flops(view) + config.text_block_flops(view));
        }
        let memory = MemoryPlan { micro_batch: Some(4), recompute: true };
        assert_eq!(
            learner_with(memory).training_flops_in_parts(&WHOLE, &parts, &Reuse::default()),
            twice as f64 + loss
        );
        assert_eq!(learner.forward_flops(&WHOLE[..9], &cheap), 9.0 * config.forward_flops(&cheap) as f64);
    }
    assert_eq!(text_parts(&mixed(View::patches(16))), [Part { rows: 0..N, view: View::default() }]);
    assert_eq!(text_parts(&mixed(views()[2])).len(), 2);
}

/// The other tower's gradients are those of the whole model; the locked one keeps its bytes and costs no backward.
#[test]
fn a_locked_tower_stays_and_the_other_learns_as_before() {
    for (locked, tower) in [
        (Locked { image: true, ..Locked::default() }, Tower::Image),
        (Locked { text: true, ..Locked::default() }, Tower::Text),
    ] {
        let (mut pass, mut learner, batch) = learner(Objective::Sigmoid);
        let whole = gradients(&mut pass, &mut learner, &batch, &mixed(views()[0]));
        let whole_flops = learner.training_flops(&WHOLE);
        learner.model.zero_gradients(&mut pass).unwrap();
        learner.model.lock(&mut pass, locked).unwrap();
        learner.optimizer = Optimizer::new(&mut pass, &learner.model, OptimizerPlan::default(), None).unwrap();
        let loss = learner.forward_backward(&mut pass, &batch, &mixed(views()[0]), &Reuse::default()).unwrap();
        assert_eq!(total(&mut pass, loss), whole.0);
        for (param, want) in learner.model.parameters().into_iter().zip(&whole.1) {
            let grad = pass.read(&param.grad).unwrap();
            if tower.has(param) {
                assert_eq!(grad, [0.0], "{}", param.name());
            } else {
                assert_eq!(grad, *want, "{}", param.name());
            }
        }
        for param in learner.model.trained_mut() {
            param.grad = pass.zeros(param.value().shape()).unwrap();
        }
        let values = |pass: &mut Pass, learner: &Learner| -> Vec<Vec<f32>> {
            learner.model.parameters().iter().map(|param| pass.read(param.value()).unwrap()).collect()
        };
        let before = values(&mut pass, &learner);
        learner.step(&mut pass, &batch, 1e-2, 1e-2).unwrap();
        let after = values(&mut pass, &learner);
        for ((param, before), after) in learner.model.parameters().into_iter().zip(&before).zip(&after) {
            assert_eq!(before == after, tower.has(param), "{}", param.name());
        }
        let config = config();
        let (image, text) = (config.image_flops(&View::default()), config.text_flops(&View::default()));
        let saved = if tower == Tower::Image {
            config.image_training_flops(&View::default()) - image
        } else {
            config.text_training_flops(&View::default()) - text
        };
        assert_eq!(whole_flops - learner.training_flops(&WHOLE), (N as u64 * saved) as f64);
        let folder = tempfile::tempdir().unwrap();
        learner.save(&mut pass, folder.path()).unwrap();
        let file = jest_model::TensorFile::open(&folder.path().join("optimizer.safetensors")).unwrap();
        let prefix = if tower == Tower::Image { "vision_model" } else { "text_model" };
        assert!(file.names().all(|name| !name.contains(prefix)));
        learner.optimizer.load(&mut pass, &learner.model, folder.path()).unwrap();
    }
}

/// A locked tower is embedded once, in pieces or not.
#[test]
fn a_locked_tower_is_not_computed_again() {
    let (mut pass, learner, batch) = learner(Objective::Sigmoid);
    let mut learner = learner.with_memory(MemoryPlan { micro_batch: Some(5), recompute: true });
    let (all, config) = (learner.training_flops(&WHOLE), config());
    learner.model.lock(&mut pass, Locked { image: true, ..Locked::default() }).unwrap();
    learner.optimizer = Optimizer::new(&mut pass, &learner.model, OptimizerPlan::default(), None).unwrap();
    let once = config.image_training_flops(&View::default()) + config.image_block_flops(&View::default());
    assert_eq!(all - learner.training_flops(&WHOLE), (N as u64 * once) as f64);
    let values = |pass: &mut Pass, learner: &Learner| -> Vec<Vec<f32>> {
        learner.model.parameters().iter().map(|param| pass.read(param.value()).unwrap()).collect()
    };
    let before = values(&mut pass, &learner);
    learner.step(&mut pass, &batch, 1e-2, 1e-2).unwrap();
    let after = values(&mut pass, &learner);
    for ((param, before), after) in learner.model.parameters().into_iter().zip(&before).zip(&after) {
        assert_eq!(before == after, Tower::Image.has(param), "{}", param.name());
    }
}

/// Buffers made by the first and by the last of so many steps, scoring included.
fn buffers_made(request: &DeviceRequest, steps: [usize; 2]) -> [u64; 2] {
    let device = Device::open(request, DeviceOptions { threads: 2, ..Default::default() }).unwrap();
    let mut pass = device.pass();
    let mut config = config();
    (config.vision.image_size, config.vision.depth, config.text.depth) = (16, 1, 1);
    let model = TwoTowers::new(&mut pass, &config, 1).unwrap();
    let optimizer = Optimizer::new(&mut pass, &model, OptimizerPlan::default(), None).unwrap();
    let (mut learner, batch) = (Learner::new(model, optimizer, Objective::Sigmoid), synthetic(&config, 4));
    let mut waiting = None;
    let mut seen = Vec::new();
    for step in 1..=steps[1] {
        drop(learner.embed(&mut pass, &batch).unwrap());
        // As in the loop: numbers are read one step late.
        let numbers = learner.step(&mut pass, &batch, 1e-3, 0.0).unwrap();
        waiting.replace(numbers).map(StepNumbers::arrive).transpose().unwrap();
        if steps.contains(&step) {
            seen.push(device.buffers());
        }
    }
    assert!(seen[1].reused > seen[0].reused, "{seen:?}");
    [seen[0].made, seen[1].made]
}

#[test]
fn a_thousand_steps_allocate_nothing() {
    let [early, late] = buffers_made(&DeviceRequest::Cpu, [20, 1000]);
    assert_eq!(early, late);
    let [early, late] = buffers_made(&DeviceRequest::Gpu, [20, 60]);
    assert_eq!(early, late);
}

/// Of a locked tower whose last parts learn, pieces and blocks computed again change neither the gradients nor what is counted.
#[test]
fn the_last_parts_of_a_locked_tower_learn() {
    let locked = Locked { image: true, unlocked_image: 2, text: true, unlocked_text: 1 };
    let with = |memory| {
        let (mut pass, learner, batch) = learner(Objective::Sigmoid);
        let mut learner = learner.with_memory(memory);
        learner.model.lock(&mut pass, locked).unwrap();
        let gradients = gradients(&mut pass, &mut learner, &batch, &mixed(views()[0]));
        (gradients, learner.training_flops(&WHOLE))
    };
    let (whole, flops) = with(MemoryPlan::default());
    assert!(whole.1.iter().any(|grad| grad.iter().all(|value| *value == 0.0)), "what is locked has no gradient");
    let (again, more) = with(MemoryPlan { recompute: true, ..MemoryPlan::default() });
    assert_same_gradients("recompute", &whole, &again, 0.0);
    // One of the two blocks of the image tower, none of the text tower's.
    assert_eq!(more - flops, (N as u64 * config().image_block_flops(&View::default()) / 2) as f64);
    let (cut, more) = with(MemoryPlan { micro_batch: Some(5), recompute: false });
    assert_same_gradients("pieces", &whole, &cut, 1e-4);
    assert_eq!(more - flops, (N as u64 * config().forward_flops(&View::default())) as f64);
}
