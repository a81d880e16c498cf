//! Which tile is fastest, timed once for a class of shapes: only among tiles that sum in the same order and gave the same
//! bits as the usual one where they were timed. Matrix units sum in an order of their own, and are chosen by shape alone.

use std::collections::BTreeMap;
use std::time::Duration;

use super::kernels::{Store, Tile, Units};
use super::{Ends, Form, Sizes, run_with, trial};
use crate::device::gpu::Gpu;
use crate::device::{Abilities, Backend, DeviceInfo};
use crate::profile::Now;
use crate::testing::random;
use crate::{KernelError, Pass, Precision, Result};

/// Time of a device after which no further class is timed.
const BUDGET: Duration = Duration::from_secs(3);
/// Timed runs of a tile, after one that compiles it.
const REPEATS: usize = 3;
/// Largest sides of the products that are timed.
const SIDES: Sizes = Sizes { z: 8, m: 2048, n: 2048, k: 1024 };
/// Multiply-adds of the largest of them.
const PRODUCTS: usize = 1 << 32;

/// Tiles that were chosen, by class of shapes, and how to choose others.
#[derive(Debug, Default)]
pub(crate) struct Tuning {
    /// Name of the tile by the name of the class, the adapter and its driver.
    pub(crate) tiles: BTreeMap<String, String>,
    /// Times classes that are not known yet.
    pub(crate) now: Option<Now>,
    spent: Duration,
}

/// Shapes that have one tile: sides up to the same powers of two, and the same axes in whole vectors.
#[derive(Clone, Copy, Debug)]
struct Class {
    form: Form,
    halves: bool,
    fours: bool,
    rows_in_fours: bool,
    most: Sizes,
}

impl Class {
    fn of(form: Form, precision: Precision, sizes: Sizes) -> Self {
        let Sizes { z, m, n, k } = sizes;
        let [z, m, n, k] = [z, m, n, k].map(usize::next_power_of_two);
        Self {
            form,
            halves: precision == Precision::F16,
            fours: Tile::in_fours(form, sizes),
            rows_in_fours: sizes.n.is_multiple_of(4),
            most: Sizes { z, m, n, k },
        }
    }

    /// As in `abt f32 z1 m8192 n1024 k256 fours rows on ADAPTER, DRIVER`.
    fn name(self, adapter: &DeviceInfo) -> String {
        let form = match self.form {
            Form::AB => "ab",
            Form::ABt => "abt",
            Form::AtB => "atb",
        };
        let (Sizes { z, m, n, k }, stored) = (self.most, if self.halves { "f16" } else { "f32" });
        let [fours, rows] =
            [(self.fours, " fours"), (self.rows_in_fours, " rows")].map(|(is, word)| if is { word } else { "" });
        format!("{form} {stored} z{z} m{m} n{n} k{k}{fours}{rows}{}", of_adapter(adapter))
    }

    /// Tiles that can compute the class, each sum in one dispatch and in the order of depths.
    fn candidates(self, abilities: Abilities) -> Vec<Tile> {
        let Sizes { z, m, n, k } = self.most;
        let rows = self.rows_in_fours && (self.form != Form::ABt || z == 1);
        let fits = |tile: &Tile| match tile {
            Tile::Wide => self.fours,
            Tile::Registers => rows && abilities.lanes >= Tile::LANES && m >= 32 && n >= 64,
            Tile::Subgroup => rows && abilities.subgroups && n >= 64,
            _ => true,
        };
        let all = [Tile::Small, Tile::Large, Tile::Wide, Tile::Subgroup, Tile::Registers];
        all.into_iter().filter(|tile| fits(tile) && k <= tile.depth()).collect()
    }

    /// A product of the class, or the largest like it that is timed.
    fn sample(self) -> Sizes {
        let Sizes { z, m, n, k } = self.most;
        let (m, n, k) = (m.min(SIDES.m), n.min(SIDES.n), k.min(SIDES.k));
        Sizes { z: z.min(SIDES.z).min(PRODUCTS / (m * n * k)).max(1), m, n, k }
    }
}

/// How names of classes end: what is fastest on one adapter, or under one driver, says nothing of another.
pub(crate) fn of_adapter(adapter: &DeviceInfo) -> String {
    format!(" on {}, {}", adapter.name, adapter.driver)
}

/// Tiles that a product may be given on a GPU, each with the name of its class.
pub(crate) fn choices(gpu: &Gpu, form: Form, [m, n, k]: [usize; 3]) -> Vec<(String, &'static str)> {
    let class = Class::of(form, gpu.precision, Sizes { z: 1, m, n, k });
    let name = class.name(gpu.info());
    class.candidates(gpu.abilities()).into_iter().map(|tile| (name.clone(), tile.name())).collect()
}

/// The tile of a product on this pass's GPU.
pub(super) fn choose(pass: &mut Pass, form: Form, sizes: Sizes) -> Result<Tile> {
    let (mut abilities, precision) = (pass.abilities(), pass.precision());
    abilities.matrices = abilities.matrices && precision == Precision::F16 && trial::matrices_agree(pass)?;
    if abilities.matrices && !trial::doubled_tiles_agree(pass)? {
        abilities.workgroup_bytes = Units::Fours.bytes();
    }
    let usual = Tile::choose(abilities, precision, form, sizes);
    tile(pass, usual, form, sizes)
}

/// The known or the fastest tile of its class, or `usual` where neither may be asked for.
fn tile(pass: &mut Pass, usual: Tile, form: Form, sizes: Sizes) -> Result<Tile> {
    let device = pass.device().clone();
    let Backend::Gpu(gpu) = device.backend() else { return Ok(usual) };
    let class = Class::of(form, pass.precision(), sizes);
    let candidates = class.candidates(pass.abilities());
    if !candidates.contains(&usual) {
        return Ok(usual);
    }
    let name = class.name(gpu.info());
    let now = {
        let mut tuning = gpu.tuning();
        let known = tuning.tiles.get(&name).and_then(|tile| candidates.iter().find(|known| known.name() == tile));
        match (known, tuning.now.filter(|_| tuning.spent < BUDGET)) {
            (Some(known), _) => return Ok(*known),
            (None, None) => {
                // Kept, so that a run that is gone on with, and has time again, goes on with it.
                if tuning.now.is_some() {
                    tuning.tiles.insert(name, usual.name().to_string());
                }
                return Ok(usual);
            }
            (None, Some(now)) => now,
        }
    };
    let began = now();
    let fastest = fastest(pass, usual, &candidates, class, now)?;
    let mut tuning = gpu.tuning();
    tuning.spent += now().saturating_sub(began);
    tuning.tiles.insert(name, fastest.name().to_string());
    Ok(fastest)
}

/// The usual tile unless another is faster and gives the same bits; one that the driver refuses is passed over.
fn fastest(pass: &mut Pass, usual: Tile, candidates: &[Tile], class: Class, now: Now) -> Result<Tile> {
    let others = candidates.iter().copied().filter(|tile| *tile != usual);
    let mut best = (usual, Duration::MAX);
    let mut wanted: Option<Vec<u32>> = None;
    for tile in std::iter::once(usual).chain(others) {
        let (time, bits) = match time(pass, tile, class, now) {
            Ok(timed) => timed,
            Err(lost @ KernelError::Lost { .. }) => return Err(lost),
            Err(_) => continue,
        };
        // A driver may fuse the multiplication and the addition of one kernel and not of another.
        if time < best.1 && *wanted.get_or_insert_with(|| bits.clone()) == bits {
            best = (tile, time);
        }
    }
    Ok(best.0)
}

/// The shortest of several runs, and the bits of the product.
fn time(pass: &mut Pass, tile: Tile, class: Class, now: Now) -> Result<(Duration, Vec<u32>)> {
    let (form, sizes) = (class.form, class.sample());
    let Sizes { z, m, n, k } = sizes;
    let mut operand = |shape: [usize; 3], seed: u64| pass.upload(&random(shape.iter().product(), seed), &shape);
    let a = operand(if form == Form::AtB { [z, k, m] } else { [z, m, k] }, 1)?;
    let b = operand(if form == Form::ABt { [z, n, k] } else { [z, k, n] }, 2)?;
    let mut y = pass.zeros(&[z, m, n])?;
    let mut shortest = Duration::MAX;
    for repeat in 0..=REPEATS {
        let start = now();
        run_with(pass, tile, form, Store::Write, sizes, [&a, &b], Ends::default(), &mut y, None)?;
        pass.wait()?;
        if repeat > 0 {
            shortest = shortest.min(now().saturating_sub(start));
        }
    }
    Ok((shortest, pass.read(&y)?.into_iter().map(f32::to_bits).collect()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::Device;
    use crate::ops::matmul::{batched, forward};
    use crate::testing::lesser_gpu;

    const FORMS: [Form; 3] = Form::ALL;

    /// Every measurement is shorter than the last, so the tile that is timed last is the fastest.
    fn hurrying() -> Duration {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        let calls = CALLS.fetch_add(1, Ordering::Relaxed) as f64;
        Duration::from_secs_f64((1.0 + calls).ln() / 1000.0)
    }

    fn standing() -> Duration {
        Duration::ZERO
    }

    /// More than a process gives to timing passes between any two calls.
    fn leaping() -> Duration {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        BUDGET * CALLS.fetch_add(1, Ordering::Relaxed) as u32
    }

    fn gpu() -> Device {
        lesser_gpu(Default::default())
    }

    fn on_it(class: &str) -> String {
        format!("{class}{}", of_adapter(&gpu().info()))
    }

    fn product(device: &Device, form: Form, (m, n, k): (usize, usize, usize)) -> Vec<u32> {
        let pass = &mut device.pass();
        let a = if form == Form::AtB { [k, m] } else { [m, k] };
        let b = if form == Form::ABt { [n, k] } else { [k, n] };
        let [a, b] = [a, b].map(|shape| pass.upload(&random(shape[0] * shape[1], 1), &shape).unwrap());
        let y = forward(pass, form, &a, &b).unwrap();
        pass.read(&y).unwrap().into_iter().map(f32::to_bits).collect()
    }

    fn ran(device: &Device, part: &str) -> bool {
        device.kernels_run().iter().any(|kernel| kernel.contains(part))
    }

    #[test]
    fn every_candidate_gives_the_same_bits() {
        for form in FORMS {
            let class = Class::of(form, Precision::F32, Sizes { z: 1, m: 68, n: 132, k: 200 });
            let candidates = class.candidates(Abilities { subgroups: true, lanes: 8, ..Default::default() });
            assert_eq!(candidates.len(), 5, "{form:?}: {candidates:?}");
            let offered = gpu().tile_choices(form, [68, 132, 200]);
            assert!(offered.iter().map(|(_, tile)| *tile).eq(candidates.iter().map(|tile| tile.name())), "{offered:?}");
            let of = |tile: &Tile| {
                let device = gpu();
                device.use_tiles([(class.name(&device.info()), tile.name().to_string())].into());
                assert_eq!(offered[0].0, class.name(&device.info()));
                let bits = product(&device, form, (68, 132, 200));
                assert_eq!(device.tiles().len(), 1);
                bits
            };
            let all: Vec<_> = candidates.iter().map(of).collect();
            // A real GPU's driver may fuse in one kernel what it does not in another; then that one is not taken.
            let same = all.iter().all(|bits| *bits == all[0]);
            assert!(same || !gpu().info().software, "{form:?}: {candidates:?}");
        }
    }

    #[test]
    fn what_is_fastest_is_taken_for_its_class_and_nothing_else_is_timed_again() {
        let device = gpu();
        let plain = product(&device, Form::AB, (40, 64, 64));
        assert!(device.tiles().is_empty() && !ran(&device, "registers"));
        device.start_tuning(hurrying);
        assert_eq!(product(&device, Form::AB, (40, 64, 64)), plain);
        assert!(ran(&device, "registers") && ran(&device, "wide"), "{:?}", device.kernels_run());
        let chosen = device.tiles();
        assert!(chosen.len() == 1 && chosen.contains_key(&on_it("ab f32 z1 m64 n64 k64 fours rows")), "{chosen:?}");
        // The one that was timed last, if its bits are the same, as they are where no driver fuses.
        let last = chosen.values().all(|tile| tile == "registers");
        assert!(last || !device.info().software, "{chosen:?}");
        // Another shape of the class, another class, and the same choice on another device that times nothing.
        product(&device, Form::AB, (64, 64, 36));
        assert_eq!(device.tiles(), chosen);
        product(&device, Form::AtB, (64, 64, 36));
        assert_eq!(device.tiles().len(), 2);
        let other = gpu();
        other.use_tiles(chosen);
        assert_eq!(product(&other, Form::AB, (40, 64, 64)), plain);
        assert!(ran(&other, "registers") == last && other.kernels_run().len() == 1, "{:?}", other.kernels_run());
    }

    #[test]
    fn equals_leave_the_usual_tile_and_time_that_is_spent_is_not_spent_again() {
        let device = gpu();
        device.start_tuning(standing);
        product(&device, Form::AB, (40, 64, 64));
        assert_eq!(device.tiles().into_values().collect::<Vec<_>>(), ["small"]);
        let device = gpu();
        device.start_tuning(leaping);
        product(&device, Form::AB, (40, 64, 64));
        let timed = device.tiles();
        product(&device, Form::ABt, (40, 64, 64));
        assert!(timed.len() == 1 && device.tiles().len() == 2, "the usual one is kept");
    }

    #[test]
    fn tiles_that_do_not_exist_or_do_not_fit_are_passed_over() {
        let (class, shape) = ("ab f32 z1 m64 n64 k64", (40, 61, 61));
        let want = product(&gpu(), Form::AB, shape);
        for tile in ["wide", "subgroup", "matrix", "", "\u{0}"] {
            let device = gpu();
            device.use_tiles([(on_it(class), tile.to_string())].into());
            assert_eq!(product(&device, Form::AB, shape), want, "{tile}");
            assert!(!ran(&device, "wide") && !ran(&device, "subgroup"));
        }
    }

    #[test]
    fn tiles_of_another_adapter_are_not_taken() {
        let device = gpu();
        let class = "ab f32 z1 m64 n64 k64 fours rows";
        device.use_tiles(
            [
                (format!("{class} on another"), "wide".to_string()),
                (format!("{class} on {}, another driver", device.info().name), "wide".to_string()),
                (on_it(class), "large".to_string()),
            ]
            .into(),
        );
        assert_eq!(device.tiles(), [(on_it(class), "large".to_string())].into());
    }

    #[test]
    fn deep_products_are_left_to_the_tiles_that_sum_them_at_once() {
        let of = |k, precision| {
            let class = Class::of(Form::AtB, precision, Sizes { z: 1, m: 64, n: 64, k });
            class.candidates(Abilities { subgroups: true, lanes: 8, ..Default::default() })
        };
        assert_eq!(of(512, Precision::F32).len(), 5);
        assert_eq!(of(513, Precision::F32), [Tile::Small, Tile::Large, Tile::Wide, Tile::Subgroup]);
        assert_eq!(of(2049, Precision::F16), [Tile::Small, Tile::Large, Tile::Wide]);
        assert!(of(16_385, Precision::F32).is_empty());
        let most = Class::of(Form::AB, Precision::F32, Sizes { z: 300, m: 1 << 20, n: 1 << 16, k: 9999 }).sample();
        assert!(most.z * most.m * most.n * most.k <= PRODUCTS);
        let device = gpu();
        device.start_tuning(standing);
        let pass = &mut device.pass();
        let x = pass.upload(&random(3 * 8 * 8, 1), &[3, 8, 8]).unwrap();
        batched(pass, Form::ABt, &x, &x).unwrap();
        assert!(
            !ran(&device, "registers") && device.tiles().len() == 1,
            "batches of transposed operands stay as they lie"
        );
    }
}
