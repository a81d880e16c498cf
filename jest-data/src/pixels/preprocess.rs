//! Size, mean and deviation: everything that turns a decoded image into what a tower reads.

use super::{RgbImage, resize_bicubic};
use serde::{Deserialize, Serialize};

/// Squash to `size` x `size` (antialiased bicubic, Pillow's), then `(x / 255 - mean) / std` per channel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocess {
    /// Side of the square, in pixels.
    pub size: usize,
    /// Subtracted from each channel, after scaling to 0..1.
    pub mean: [f32; 3],
    /// Divides each channel.
    pub std: [f32; 3],
}

impl Preprocess {
    /// SigLIP's: mean 0.5, deviation 0.5, so that pixels lie in -1..1.
    pub fn siglip(size: usize) -> Preprocess {
        Preprocess { size, mean: [0.5; 3], std: [0.5; 3] }
    }

    /// A hash of every field and of the method: equal keys mean equal pixels.
    pub fn key(&self) -> String {
        let mut hash = blake3::Hasher::new();
        hash.update(b"jest preprocess 1: pillow bicubic, squash\0");
        hash.update(&(self.size as u64).to_le_bytes());
        for value in self.mean.iter().chain(&self.std) {
            hash.update(&value.to_le_bytes());
        }
        hash.finalize().to_hex()[..32].to_string()
    }

    /// `[h, w, 3]` to `[size, size, 3]` bytes.
    pub fn resize(&self, image: &RgbImage) -> Vec<u8> {
        resize_bicubic(image, self.size, self.size).data
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
