//! Rounded products train every family of towers, with blocks computed again and with parts locked.

use jest_kernels::Precision;

use super::*;

const STEPS: usize = 30;

/// Loss and norm of the gradient at first, and the loss in the end.
fn trained(config: &ModelConfig, precision: Precision, memory: MemoryPlan, locked: Locked) -> [f32; 3] {
    let options = DeviceOptions { threads: 2, checked: true, precision, ..Default::default() };
    let mut pass = Device::open(&DeviceRequest::Cpu, options).unwrap().pass();
    let mut model = TwoTowers::new(&mut pass, config, 1).unwrap();
    model.lock(&mut pass, locked).unwrap();
    let optimizer = Optimizer::new(&mut pass, &model, OptimizerPlan::default(), None).unwrap();
    let mut learner =
        Learner::new(model, optimizer, Objective::Softmax).with_memory(memory).with_precision(precision, None);
    let batch = synthetic(config, N);
    let mut numbers = Vec::new();
    for _ in 0..STEPS {
        let arrived = learner.step(&mut pass, &batch, 1e-3, 0.0).unwrap().arrive().unwrap();
        numbers.push([arrived.loss, arrived.grad_norm]);
    }
    [numbers[0][0], numbers[0][1], numbers[STEPS - 1][0]]
}

#[test]
fn rounded_products_train_every_family() {
    let recompute = MemoryPlan { recompute: true, ..MemoryPlan::default() };
    let locked = Locked { image: true, unlocked_image: 2, ..Locked::default() };
    let families = [config(), Preset::Mu.config().into_clip(), Preset::Mu.config().into_dual()];
    for (config, memory, locked) in families.iter().flat_map(|config| {
        [
            (config, MemoryPlan::default(), Locked::default()),
            (config, recompute, Locked::default()),
            (config, recompute, locked),
        ]
    }) {
        let [loss, norm, _] = trained(config, Precision::F32, memory, locked);
        for precision in [Precision::Bf16, Precision::F16] {
            let name = format!("{} in {precision}, {memory:?}, {locked:?}", config.family);
            let [rounded_loss, rounded_norm, last] = trained(config, precision, memory, locked);
            assert!((rounded_loss - loss).abs() <= 0.02 * loss, "{name}: loss {rounded_loss}, {loss} in f32");
            assert!((rounded_norm - norm).abs() <= 0.1 * norm, "{name}: norm {rounded_norm}, {norm} in f32");
            assert!(last < 0.7 * rounded_loss, "{name}: {rounded_loss} became {last}");
        }
    }
}
