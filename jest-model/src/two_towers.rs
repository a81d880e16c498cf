//! Both towers and the two parameters of the logits.

use jest_kernels::ops::sigmoid_loss::LogitParameters;
use jest_kernels::{Pass, Tensor};

use crate::config::{Family, ModelConfig};
use crate::init::Init;
use crate::locked::Locked;
use crate::param::{Builder, Param, Parameters};
use crate::text::{TextSaved, TextTower};
use crate::vision::{VisionSaved, VisionTower};
use crate::{Result, View};

/// A complete model: images and texts to embeddings of unit length, `logits = exp(logit_scale) * z_image · z_textᵀ +
/// logit_bias`.
#[derive(Clone, Debug)]
pub struct TwoTowers {
    /// Logarithm of the scale t of the logits, under the name that weight files give it: `[1]`.
    pub logit_scale: Param,
    /// `[1]`; a constant 0, in no file and never trained, where [`ModelConfig::has_logit_bias`] is false.
    pub logit_bias: Param,
    /// The text tower.
    pub text: TextTower,
    /// The image tower.
    pub vision: VisionTower,
    config: ModelConfig,
    pub(crate) locked: Locked,
}

impl Parameters for TwoTowers {
    fn visit<'a>(&'a self, see: &mut dyn FnMut(&'a Param)) {
        self.logit_scale.visit(see);
        if self.config.has_logit_bias() {
            self.logit_bias.visit(see);
        }
        self.text.visit(see);
        self.vision.visit(see);
    }

    fn visit_mut<'a>(&'a mut self, see: &mut dyn FnMut(&'a mut Param)) {
        self.logit_scale.visit_mut(see);
        if self.config.has_logit_bias() {
            self.logit_bias.visit_mut(see);
        }
        self.text.visit_mut(see);
        self.vision.visit_mut(see);
    }
}

impl TwoTowers {
    /// A model to be trained from the start; the same seed gives the same values on every device.
    ///
    /// # Errors
    /// What [`ModelConfig::validate`] reports; `Kernel` when the device is too small.
    pub fn new(pass: &mut Pass, config: &ModelConfig, seed: u64) -> Result<Self> {
        Self::build(&mut Builder { pass, seed: Some(seed) }, config)
    }

    /// A model of zeros, for weights to be read into.
    pub(crate) fn zeros(pass: &mut Pass, config: &ModelConfig) -> Result<Self> {
        Self::build(&mut Builder { pass, seed: None }, config)
    }

    fn build(b: &mut Builder, config: &ModelConfig) -> Result<Self> {
        config.validate()?;
        let (scale, bias) = (config.init_logit_scale.ln(), config.init_logit_bias);
        // Others' files have a number without axes.
        let shape: &[usize] = if config.family == Family::Siglip { &[1] } else { &[] };
        Ok(Self {
            logit_scale: b.single("logit_scale", shape, Init::Constant(scale), false)?,
            logit_bias: b.single("logit_bias", &[1], Init::Constant(bias), false)?,
            text: TextTower::new(b, config)?,
            vision: VisionTower::new(b, config)?,
            config: config.clone(),
            locked: Locked::default(),
        })
    }

    /// What turns a cosine of this model's embeddings into a logit.
    pub fn logit_parameters(&self) -> LogitParameters<'_> {
        LogitParameters { log_scale: self.logit_scale.value(), bias: self.logit_bias.value() }
    }

    /// What the model was made from.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Keeps the inputs of blocks alone for backward passes, which compute the rest again: the same gradients, for
    /// the work of the blocks once more and a fraction of the memory.
    pub fn set_recompute(&mut self, recompute: bool) {
        self.vision.encoder.recompute = recompute;
        self.text.encoder.recompute = recompute;
    }

    /// Embeddings of images, and what [`TwoTowers::backward_images`] needs.
    ///
    /// # Shapes
    /// images: `[n, 3, s, s]`; embeddings: `[n, d]`, rows of unit length.
    ///
    /// # Errors
    /// `Input` for images of another size; what [`View::validate`] reports; `Kernel`.
    pub fn encode_images(&self, pass: &mut Pass, images: &Tensor, view: &View) -> Result<(Tensor, VisionSaved)> {
        self.vision.forward(pass, images, view)
    }

    /// Embeddings of texts, and what [`TwoTowers::backward_texts`] needs.
    ///
    /// `lengths` counts the tokens of each text that are not padding, the end token included.
    ///
    /// # Shapes
    /// ids: `[n, tokens]`; lengths: `[n]`; embeddings: `[n, d]`, rows of unit length.
    ///
    /// # Errors
    /// `Input` or `Length` for ids and lengths that do not fit; what [`View::validate`] reports; `Kernel`, also for an
    /// id outside of the vocabulary.
    pub fn encode_texts(
        &self,
        pass: &mut Pass,
        ids: &[u32],
        lengths: &[u32],
        view: &View,
    ) -> Result<(Tensor, TextSaved)> {
        self.text.forward(pass, ids, lengths, view)
    }

    /// Embeddings of images for scoring: as [`TwoTowers::encode_images`], but nothing is kept for a backward pass.
    ///
    /// # Errors
    /// As [`TwoTowers::encode_images`].
    pub fn embed_images(&self, pass: &mut Pass, images: &Tensor, view: &View) -> Result<Tensor> {
        self.vision.apply(pass, images, view)
    }

    /// Embeddings of texts for scoring: as [`TwoTowers::encode_texts`], but nothing is kept for a backward pass.
    ///
    /// # Errors
    /// As [`TwoTowers::encode_texts`].
    pub fn embed_texts(&self, pass: &mut Pass, ids: &[u32], lengths: &[u32], view: &View) -> Result<Tensor> {
        self.text.apply(pass, ids, lengths, view)
    }

    /// Adds to the gradients of the image tower; dz: `[n, d]`.
    ///
    /// # Errors
    /// `Kernel` when dz does not fit the forward pass.
    pub fn backward_images(&mut self, pass: &mut Pass, saved: VisionSaved, dz: &Tensor) -> Result<()> {
        self.vision.backward(pass, saved, dz)
    }

    /// Adds to the gradients of the text tower; dz: `[n, d]`.
    ///
    /// # Errors
    /// `Kernel` when dz does not fit the forward pass.
    pub fn backward_texts(&mut self, pass: &mut Pass, saved: TextSaved, dz: &Tensor) -> Result<()> {
        self.text.backward(pass, saved, dz)
    }
}
