//! Size, mean and deviation: everything that turns a decoded image into what a tower reads.

use super::RgbImage;
use super::resize::{Interpolation, resize, resize_part};
use serde::{Deserialize, Serialize};

/// How a picture of any shape becomes a square.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResizeMode {
    /// Each side to the square's: SigLIP.
    #[default]
    Squash,
    /// The shorter side to the square's, then the middle of the longer: CLIP.
    Shortest,
    /// The longer side to the square's, then black to both sides of the shorter.
    Longest,
}

/// A square of `size` (antialiased resize, Pillow's), then `(x / 255 - mean) / std` per channel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocess {
    /// Side of the square, in pixels.
    pub size: usize,
    /// Subtracted from each channel, after scaling to 0..1.
    pub mean: [f32; 3],
    /// Divides each channel.
    pub std: [f32; 3],
    /// How it becomes a square.
    pub resize_mode: ResizeMode,
    /// By which filter.
    pub interpolation: Interpolation,
}

impl Preprocess {
    /// SigLIP's: squashed by bicubic; mean 0.5, deviation 0.5, so that pixels lie in -1..1.
    pub fn siglip(size: usize) -> Preprocess {
        let (resize_mode, interpolation) = (ResizeMode::Squash, Interpolation::Bicubic);
        Preprocess { size, mean: [0.5; 3], std: [0.5; 3], resize_mode, interpolation }
    }

    /// A hash of every field and of the method: equal keys mean equal pixels.
    pub fn key(&self) -> String {
        let method = match (self.resize_mode, self.interpolation) {
            (ResizeMode::Squash, Interpolation::Bicubic) => "bicubic, squash",
            (ResizeMode::Squash, Interpolation::Bilinear) => "bilinear, squash",
            (ResizeMode::Shortest, Interpolation::Bicubic) => "bicubic, shortest",
            (ResizeMode::Shortest, Interpolation::Bilinear) => "bilinear, shortest",
            (ResizeMode::Longest, Interpolation::Bicubic) => "bicubic, longest",
            (ResizeMode::Longest, Interpolation::Bilinear) => "bilinear, longest",
        };
        let mut hash = blake3::Hasher::new();
        hash.update(format!("jest preprocess 1: pillow {method}\0").as_bytes());
        if cfg!(feature = "turbo") {
            hash.update(b"libjpeg-turbo\0");
        }
        hash.update(&(self.size as u64).to_le_bytes());
        for value in self.mean.iter().chain(&self.std) {
            hash.update(&value.to_le_bytes());
        }
        hash.finalize().to_hex()[..32].to_string()
    }

    /// `[h, w, 3]` to `[size, size, 3]` bytes.
    ///
    /// # Source
    /// open_clip 3.3.0 `image_transform`, of a picture that is RGB already: its sizes are rounded as torchvision's `Resize` (down) or timm's
    /// `ResizeKeepRatio` (to even), its middle as torchvision's `CenterCrop` (to even).
    pub fn resize(&self, image: &RgbImage) -> Vec<u8> {
        let (w, h, size) = (image.width, image.height, self.size);
        let (short, long) = (w.min(h), w.max(h));
        match self.resize_mode {
            ResizeMode::Squash => resize(image, size, size, self.interpolation).data,
            ResizeMode::Shortest => {
                let side =
                    |of: usize| if of == short { size } else { (size as u64 * long as u64 / short as u64) as usize };
                let middle = |side: usize| {
                    let first = ((side - size) as f64 / 2.0).round_ties_even() as usize;
                    first..first + size
                };
                let (width, height) = (side(w), side(h));
                resize_part(image, [width, height], [middle(width), middle(height)], self.interpolation).data
            }
            ResizeMode::Longest => {
                let ratio = long as f64 / size as f64;
                let side = |of: usize| ((of as f64 / ratio).round_ties_even() as usize).clamp(1, size);
                pad(&resize(image, side(w), side(h), self.interpolation), size)
            }
        }
    }

    /// Appends normalised pixels, channels first.
    ///
    /// # Shapes
    /// `rgb`: `[n, size, size, 3]` bytes. Appends `[n, 3, size, size]`.
    pub fn normalize(&self, rgb: &[u8], out: &mut Vec<f32>) {
        let table =
            |c: usize| -> [f32; 256] { std::array::from_fn(|x| (x as f32 / 255.0 - self.mean[c]) / self.std[c]) };
        let tables = [table(0), table(1), table(2)];
        out.reserve(rgb.len());
        for image in rgb.chunks_exact((self.size * self.size * 3).max(1)) {
            for (c, table) in tables.iter().enumerate() {
                out.extend(image.iter().skip(c).step_by(3).map(|x| table[usize::from(*x)]));
            }
        }
    }
}

/// A smaller picture in the middle of a black square, nearer to its beginning where that is not whole.
fn pad(image: &RgbImage, size: usize) -> Vec<u8> {
    let mut out = vec![0; size * size * 3];
    let (left, top) = ((size - image.width) / 2, (size - image.height) / 2);
    for (y, row) in image.data.chunks_exact(image.width * 3).enumerate() {
        let at = ((top + y) * size + left) * 3;
        out[at..at + row.len()].copy_from_slice(row);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strip_costs_no_more_than_its_middle() {
        for (width, height) in [(1, 2_000_000), (2_000_000, 1)] {
            let image = RgbImage { width, height, data: [9, 90, 200].repeat(width * height) };
            for resize_mode in [ResizeMode::Squash, ResizeMode::Shortest, ResizeMode::Longest] {
                let pre = Preprocess { resize_mode, ..Preprocess::siglip(32) };
                let square = pre.resize(&image);
                assert_eq!((square.len(), &square[(15 * 32 + 15) * 3..][..3]), (32 * 32 * 3, &[9, 90, 200][..]));
            }
        }
    }
}
