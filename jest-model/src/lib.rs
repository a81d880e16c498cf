//! Vision and text transformers of SigLIP and CLIP, and DINOv2 and BERT as backbones, on `jest-kernels`: forward facing
//! backward, weight files, FLOP counts.
//!
//! A [`TwoTowers`] is made from a [`ModelConfig`], which a [`Preset`] gives by name. It turns images and texts into
//! embeddings of unit length, and gradients by those embeddings into gradients by its parameters. A [`View`] asks for a
//! cheaper approximation with the same parameters. Files have the names and shapes of Hugging Face's `SiglipModel`,
//! `CLIPModel` and `VisionTextDualEncoderModel`.
//!
//! ```
//! use jest_kernels::{Device, DeviceOptions, DeviceRequest, ops::sigmoid_loss};
//! use jest_model::{Parameters, Preset, TwoTowers, View};
//!
//! let device = Device::open(&DeviceRequest::Cpu, DeviceOptions::default())?;
//! let pass = &mut device.pass();
//! let config = Preset::Mu.config();
//! let mut model = TwoTowers::new(pass, &config, 0)?;
//! assert_eq!(model.parameters().iter().map(|param| param.value().len()).sum::<usize>(), 301_442);
//!
//! let pixels: Vec<f32> = (0..2 * 3 * 32 * 32).map(|i| (i as f32 * 0.1).sin()).collect();
//! let images = pass.upload(&pixels, &[2, 3, 32, 32])?;
//! let ids: Vec<u32> = (0..2 * 16).map(|i| i * 7 % 512).collect();
//! let (image, image_saved) = model.encode_images(pass, &images, &View::default())?;
//! let (text, text_saved) = model.encode_texts(pass, &ids, &[16, 16], &View::default())?;
//!
//! let TwoTowers { logit_scale, logit_bias, .. } = &mut model;
//! let ((log_scale, dscale), (bias, dbias)) = (logit_scale.value_and_grad(), logit_bias.value_and_grad());
//! let logits = sigmoid_loss::LogitParameters { log_scale, bias };
//! let (loss, dimage, dtext) = sigmoid_loss::forward_backward(pass, &image, &text, logits, dscale, dbias)?;
//! model.backward_images(pass, image_saved, &dimage)?;
//! model.backward_texts(pass, text_saved, &dtext)?;
//!
//! let loss = pass.read(&loss)?[0];
//! assert!((loss - 8.52).abs() < 1e-2, "{loss}");
//! # Ok::<(), jest_model::ModelError>(())
//! ```

mod config;
mod differences;
mod error;
pub mod flops;
mod grid;
mod hf_config;
mod init;
mod interchange;
pub mod layers;
mod layout;
mod locked;
mod npz;
mod onnx;
mod open_clip_config;
mod packing;
mod param;
mod parameter_count;
mod preset;
pub mod protobuf;
mod resize;
mod source;
mod stored;
pub mod tensor_file;
mod text;
mod timm;
mod towers;
mod two_towers;
mod view;
mod vision;
mod weights;

pub use config::{Activation, Family, ModelConfig, TextConfig, TextPadding, TextPool, VisionConfig};
pub use differences::{Difference, Differences};
pub use error::{ModelError, Result};
pub use interchange::{Fate, Format, Import, OPEN_CLIP_CONFIG_FILE, OPEN_CLIP_WEIGHTS_FILE, Report};
pub use layout::{Layout, Stacked};
pub use locked::Locked;
pub use onnx::{ONNX_FOLDER, ONNX_TEXT_FILE, ONNX_VISION_FILE};
pub use param::{Param, Parameters};
pub use preset::Preset;
pub use resize::{Interpolation, NewSizes, Resizing, TextPositions};
pub use source::{Elements, Entry, TensorSource, open_weights};
pub use tensor_file::TensorFile;
pub use text::{TextSaved, TextTower};
pub use towers::{Tower, TowerImport};
pub use two_towers::TwoTowers;
pub use view::View;
pub use vision::{ImageHead, VisionSaved, VisionTower};
pub use weights::{CONFIG_FILE, INDEX_FILE, NamedTensor, WEIGHTS_FILE};
