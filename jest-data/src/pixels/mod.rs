//! From the bytes of an image file to normalised pixels, as Pillow and the SigLIP image processor do it.

mod augment;
mod decode;
mod image_processor;
mod jpeg;
mod preprocess;
mod resize;
#[cfg(feature = "turbo")]
mod turbo;

pub use augment::Augmentation;
pub use decode::{RgbImage, decode_rgb};
pub use preprocess::{Preprocess, ResizeMode};
pub use resize::{Interpolation, resize};
