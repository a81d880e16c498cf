//! Random crops, mirror images and colours of the pictures that are trained on.

use super::{Interpolation, RgbImage, resize};
use crate::{DataError, ExampleId, Result, SuperBatch};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// A random part of a picture, stretched to its size, perhaps mirrored or grey, in other colours. The default changes nothing.
///
/// It works on pictures that are already resized, so that the plain picture, which scores and cached embeddings are of, and the
/// altered one come from one decoding.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Least and largest share of the picture's area in a crop; [1, 1] crops nothing.
    pub scale: [f64; 2],
    /// Least and largest width over height of a crop, uniform in its logarithm; a side beyond the picture's ends there.
    pub ratio: [f64; 2],
    /// Probability of a mirror image.
    pub flip: f64,
    /// How far brightness, contrast and saturation may go from 1 each, one after the other.
    pub color_jitter: [f64; 3],
    /// Probability of a grey picture.
    pub grayscale: f64,
}

impl Default for Augmentation {
    fn default() -> Augmentation {
        Augmentation { scale: [1.0; 2], ratio: [1.0; 2], flip: 0.0, color_jitter: [0.0; 3], grayscale: 0.0 }
    }
}

/// Pixels `left..left + width` of rows `top..top + height`, whether their order in a row is turned round, and their colours.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Change {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    flip: bool,
    colors: Colors,
}

/// Factors of brightness, contrast and saturation, 1 for none.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Colors {
    brightness: f32,
    contrast: f32,
    saturation: f32,
}

impl Augmentation {
    /// Whether pictures stay as they are.
    pub fn is_none(&self) -> bool {
        *self == Augmentation::default()
    }

    /// Refuses shares, ratios and probabilities that are none.
    ///
    /// # Errors
    /// `Setting`, naming the key.
    pub fn check(&self) -> Result<()> {
        let ordered = |[low, high]: [f64; 2]| low > 0.0 && low <= high && high.is_finite();
        let share = |value: f64| (0.0..=1.0).contains(&value);
        for (setting, value, fits, problem) in [
            (
                "augmentation.scale",
                format!("{:?}", self.scale),
                ordered(self.scale) && self.scale[1] <= 1.0,
                "give two shares above 0 and at most 1, the smaller first",
            ),
            (
                "augmentation.ratio",
                format!("{:?}", self.ratio),
                ordered(self.ratio),
                "give two ratios above 0, the smaller first",
            ),
            ("augmentation.flip", self.flip.to_string(), share(self.flip), "a probability is between 0 and 1"),
            (
                "augmentation.color_jitter",
                format!("{:?}", self.color_jitter),
                self.color_jitter.into_iter().all(share),
                "give three numbers between 0 and 1: for brightness, contrast and saturation",
            ),
            (
                "augmentation.grayscale",
                self.grayscale.to_string(),
                share(self.grayscale),
                "a probability is between 0 and 1",
            ),
        ] {
            if !fits {
                return Err(DataError::Setting { setting, value, problem });
            }
        }
        Ok(())
    }

    /// What happens to the picture of an example at one step: a function of its arguments alone.
    fn draw(&self, size: usize, seed: u64, step: u64, id: ExampleId) -> Change {
        let mut hash = blake3::Hasher::new();
        hash.update(&seed.to_le_bytes()).update(&step.to_le_bytes()).update(id.as_bytes()).update(b"augment");
        let mut rng = ChaCha8Rng::from_seed(*hash.finalize().as_bytes());
        // 53 bits: every value of [0, 1) that has an equal spacing in f64.
        let mut uniform = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut between = |[low, high]: [f64; 2]| low + (high - low) * uniform();
        let (area, ratio) = (between(self.scale), between(self.ratio.map(f64::ln)).exp());
        let side = |factor: f64| ((size as f64 * (area * factor).sqrt()).round() as usize).clamp(1, size);
        let (width, height) = (side(ratio), side(1.0 / ratio));
        let mut corner = |length: usize| (uniform() * (size - length + 1) as f64) as usize;
        let (left, top, flip) = (corner(width), corner(height), uniform() < self.flip);
        let mut factor = |jitter: f64| (1.0 + jitter * (2.0 * uniform() - 1.0)) as f32;
        let [brightness, contrast, saturation] = self.color_jitter.map(&mut factor);
        let saturation = if uniform() < self.grayscale { 0.0 } else { saturation };
        Change { left, top, width, height, flip, colors: Colors { brightness, contrast, saturation } }
    }
}

impl Change {
    /// Rewrites `[size, size, 3]` bytes.
    fn apply(self, rgb: &mut [u8], size: usize) {
        let Change { left, top, width, height, flip, colors } = self;
        if (width, height) != (size, size) {
            let rows = rgb.chunks_exact(size * 3).skip(top).take(height);
            let data = rows.flat_map(|row| &row[left * 3..(left + width) * 3]).copied().collect();
            rgb.copy_from_slice(&resize(&RgbImage { width, height, data }, size, size, Interpolation::Bicubic).data);
        }
        if flip {
            for row in rgb.chunks_exact_mut(size * 3) {
                let (pixels, _) = row.as_chunks_mut::<3>();
                pixels.reverse();
            }
        }
        colors.apply(rgb.as_chunks_mut().0);
    }
}

/// ITU-R 601-2 luma, as Pillow's mode L has it.
fn luma([r, g, b]: [f32; 3]) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

impl Colors {
    /// Moves every pixel away from black, from the picture's mean luma, and from its own luma, in this order; bytes at the end.
    fn apply(self, pixels: &mut [[u8; 3]]) {
        let Colors { brightness, contrast, saturation } = self;
        if [brightness, contrast, saturation] == [1.0; 3] {
            return;
        }
        let bright = |pixel: [u8; 3]| pixel.map(|x| (f32::from(x) * brightness).min(255.0));
        let sum: f64 = pixels.iter().map(|pixel| f64::from(luma(bright(*pixel)))).sum();
        let mean = (sum / pixels.len().max(1) as f64) as f32;
        for pixel in pixels {
            let color = bright(*pixel).map(|x| (mean + contrast * (x - mean)).clamp(0.0, 255.0));
            let grey = luma(color);
            // A float to a byte saturates.
            *pixel = color.map(|x| (grey + saturation * (x - grey)).round() as u8);
        }
    }
}

impl SuperBatch {
    /// Alters every picture at random, as (seed, step, example) decide; the same on any number of threads.
    pub fn augment(&mut self, augmentation: &Augmentation, seed: u64, step: u64, threads: usize) {
        if augmentation.is_none() || self.is_empty() {
            return;
        }
        let (size, ids) = (self.preprocess.size, &self.ids);
        let share = ids.len().div_ceil(threads.max(1));
        std::thread::scope(|scope| {
            for (pictures, ids) in self.rgb.chunks_mut(share * size * size * 3).zip(ids.chunks(share)) {
                scope.spawn(move || {
                    for (picture, id) in pictures.chunks_exact_mut(size * size * 3).zip(ids) {
                        augmentation.draw(size, seed, step, *id).apply(picture, size);
                    }
                });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Preprocess;

    const SIZE: usize = 24;
    const PLAIN: Colors = Colors { brightness: 1.0, contrast: 1.0, saturation: 1.0 };

    /// Pictures whose red is the column and whose green is the row, ten levels a pixel.
    fn batch(n: usize) -> SuperBatch {
        let mut batch = SuperBatch::empty(Preprocess::siglip(SIZE), 4);
        for i in 0..n {
            batch.ids.push(ExampleId::new("a", "b", &i.to_string(), 0));
            let pixel = |at: usize| [10 * (at % SIZE) as u8, 10 * (at / SIZE) as u8, 77];
            batch.rgb.extend((0..SIZE * SIZE).flat_map(pixel));
        }
        batch
    }

    fn altered(augmentation: Augmentation, step: u64, threads: usize) -> SuperBatch {
        let mut batch = batch(40);
        batch.augment(&augmentation, 7, step, threads);
        batch
    }

    #[test]
    fn the_default_changes_nothing_and_a_certain_flip_mirrors() {
        assert_eq!(altered(Augmentation::default(), 0, 2), batch(40));
        let flipped = altered(Augmentation { flip: 1.0, ..Augmentation::default() }, 0, 3);
        assert_eq!(flipped.image_rgb(9)[..3], [230, 0, 77]);
        assert_eq!(flipped.image_rgb(9)[3 * (SIZE - 1)..3 * SIZE], [0, 0, 77]);
    }

    #[test]
    fn half_of_the_pictures_are_mirrored_at_one_half() {
        let batch = altered(Augmentation { flip: 0.5, ..Augmentation::default() }, 0, 1);
        let mirrored = (0..40).filter(|i| batch.image_rgb(*i)[0] > 100).count();
        assert!((10..=30).contains(&mirrored), "{mirrored}");
    }

    #[test]
    fn crops_have_the_area_and_the_shape_asked_for_and_lie_everywhere() {
        let augmentation = Augmentation { scale: [0.25, 0.5], ratio: [0.5, 2.0], ..Augmentation::default() };
        let ids = (0..500).map(|i| ExampleId::new("a", "b", &i.to_string(), 0));
        let changes: Vec<Change> = ids.map(|id| augmentation.draw(100, 0, 0, id)).collect();
        for change in &changes {
            let (w, h) = (change.width as f64, change.height as f64);
            assert!((0.24..=0.51).contains(&(w * h / 1e4)) && (0.48..=2.05).contains(&(w / h)), "{change:?}");
            assert!(change.left + change.width <= 100 && change.top + change.height <= 100, "{change:?}");
        }
        let largest = |of: fn(&Change) -> usize| changes.iter().map(of).max();
        assert!(largest(|c| c.left) > Some(40) && largest(|c| c.top) > Some(40));
        assert!(changes.iter().any(|c| c.left == 0) && changes.iter().any(|c| c.top == 0));
        assert!(changes.iter().any(|c| c.width < c.height) && changes.iter().any(|c| c.width > c.height));
    }

    #[test]
    fn a_crop_shows_a_part_at_full_size() {
        let change = Change { left: 6, top: 12, width: 12, height: 12, flip: false, colors: PLAIN };
        let mut rgb = batch(1).rgb;
        change.apply(&mut rgb, SIZE);
        let middle = 3 * (SIZE * SIZE / 2 + SIZE / 2);
        // The middle of the crop is column 12 and row 18, give or take half a pixel of interpolation.
        assert!(rgb[middle].abs_diff(120) <= 6 && rgb[middle + 1].abs_diff(180) <= 6, "{:?}", &rgb[middle..middle + 3]);
        assert!(rgb[0].abs_diff(60) <= 6 && rgb[1].abs_diff(120) <= 6, "{:?}", &rgb[..3]);
        assert_eq!(rgb[2], 77);
    }

    #[test]
    fn colors_are_scaled_from_black_from_the_mean_and_from_grey() {
        let changed = |colors: Colors| {
            let mut pixels = [[100, 100, 100], [200, 50, 0]];
            colors.apply(&mut pixels);
            pixels
        };
        assert_eq!(changed(PLAIN), [[100, 100, 100], [200, 50, 0]]);
        assert_eq!(changed(Colors { brightness: 1.5, ..PLAIN }), [[150, 150, 150], [255, 75, 0]]);
        // Lumas 100 and 89.15: mean 94.575.
        assert_eq!(changed(Colors { contrast: 0.5, ..PLAIN }), [[97, 97, 97], [147, 72, 47]]);
        assert_eq!(changed(Colors { saturation: 0.0, ..PLAIN }), [[100, 100, 100], [89, 89, 89]]);
    }

    #[test]
    fn grey_pictures_come_as_often_as_asked_for() {
        let batch = altered(Augmentation { grayscale: 0.25, ..Augmentation::default() }, 0, 1);
        let grey = (0..40).filter(|i| batch.image_rgb(*i).chunks(3).all(|p| p[0] == p[1] && p[1] == p[2])).count();
        assert!((3..=19).contains(&grey), "{grey}");
    }

    #[test]
    fn changes_depend_on_the_step_and_not_on_the_threads() {
        let augmentation =
            Augmentation { scale: [0.4, 1.0], ratio: [0.75, 1.25], flip: 0.5, color_jitter: [0.4; 3], grayscale: 0.2 };
        assert_eq!(altered(augmentation, 5, 1), altered(augmentation, 5, 7));
        assert_ne!(altered(augmentation, 5, 1).rgb, altered(augmentation, 6, 1).rgb);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let none = Augmentation::default();
        for (bad, key) in [
            (Augmentation { scale: [0.0, 1.0], ..none }, "augmentation.scale"),
            (Augmentation { scale: [0.5, 1.1], ..none }, "augmentation.scale"),
            (Augmentation { ratio: [2.0, 1.0], ..none }, "augmentation.ratio"),
            (Augmentation { ratio: [1.0, f64::NAN], ..none }, "augmentation.ratio"),
            (Augmentation { flip: 1.5, ..none }, "augmentation.flip"),
            (Augmentation { color_jitter: [0.0, -0.1, 0.0], ..none }, "augmentation.color_jitter"),
            (Augmentation { grayscale: f64::NAN, ..none }, "augmentation.grayscale"),
        ] {
            assert!(bad.check().unwrap_err().to_string().contains(key), "{bad:?}");
        }
        assert!(none.check().is_ok());
    }
}
