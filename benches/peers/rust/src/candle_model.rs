//! SigLIP's two towers in candle, on the CPU.
//!
//! Its fused softmax and normalisation have no backward, so scoring has them and training has the plain forms.

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::{AdamW, Embedding, Init, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, ops};

use crate::sizes::Sizes;
use crate::{Measured, median};

const NORMAL: Init = Init::Randn { mean: 0.0, stdev: 0.02 };

struct Norm {
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    fn new(width: usize, vars: VarBuilder) -> Result<Self> {
        let made = |name, value| vars.get_with_hints(width, name, Init::Const(value));
        Ok(Self { weight: made("weight", 1.0)?, bias: made("bias", 0.0)? })
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let forward = if train { ops::layer_norm_slow } else { ops::layer_norm };
        forward(&x.contiguous()?, &self.weight, &self.bias, 1e-6)
    }
}

struct Mlp {
    up: Linear,
    down: Linear,
}

impl Mlp {
    fn new(sizes: &Sizes, vars: VarBuilder) -> Result<Self> {
        let up = candle_nn::linear(sizes.width, sizes.mlp, vars.pp("up"))?;
        Ok(Self { up, down: candle_nn::linear(sizes.mlp, sizes.width, vars.pp("down"))? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.down.forward(&self.up.forward(x)?.gelu()?)
    }
}

struct Attention {
    parts: [Linear; 4],
    heads: usize,
}

impl Attention {
    fn new(sizes: &Sizes, vars: VarBuilder) -> Result<Self> {
        let part = |name| candle_nn::linear(sizes.width, sizes.width, vars.pp(name));
        Ok(Self { parts: [part("query")?, part("key")?, part("value")?, part("out")?], heads: sizes.heads })
    }

    /// `[n, k, d]` asks `[n, l, d]`.
    fn forward(&self, asks: &Tensor, told: &Tensor, train: bool) -> Result<Tensor> {
        let [query, key, value, out] = &self.parts;
        let (n, _, width) = asks.dims3()?;
        let head = width / self.heads;
        let heads = |x: Tensor| x.reshape((n, (), self.heads, head))?.transpose(1, 2)?.contiguous();
        let [query, key, value] =
            [heads(query.forward(asks)?)?, heads(key.forward(told)?)?, heads(value.forward(told)?)?];
        let scores = (query.matmul(&key.t()?)? * (head as f64).powf(-0.5))?;
        let weights = if train { ops::softmax(&scores, D::Minus1)? } else { ops::softmax_last_dim(&scores)? };
        out.forward(&weights.matmul(&value)?.transpose(1, 2)?.reshape((n, (), width))?)
    }
}

struct Block {
    norms: [Norm; 2],
    attention: Attention,
    mlp: Mlp,
}

impl Block {
    fn all(sizes: &Sizes, vars: VarBuilder) -> Result<Vec<Self>> {
        let one = |at: usize| {
            let vars = vars.pp(at);
            Ok(Self {
                norms: [Norm::new(sizes.width, vars.pp("norm1"))?, Norm::new(sizes.width, vars.pp("norm2"))?],
                attention: Attention::new(sizes, vars.pp("attention"))?,
                mlp: Mlp::new(sizes, vars.pp("mlp"))?,
            })
        };
        (0..sizes.depth).map(one).collect()
    }

    fn forward(&self, x: Tensor, train: bool) -> Result<Tensor> {
        let inner = self.norms[0].forward(&x, train)?;
        let x = (x + self.attention.forward(&inner, &inner, train)?)?;
        &x + self.mlp.forward(&self.norms[1].forward(&x, train)?)?
    }
}

struct Model {
    patches: Linear,
    places: Tensor,
    image_blocks: Vec<Block>,
    image_norm: Norm,
    probe: Tensor,
    pooling: Attention,
    pooled_norm: Norm,
    pooled_mlp: Mlp,
    tokens: Embedding,
    positions: Tensor,
    text_blocks: Vec<Block>,
    text_norm: Norm,
    text_head: Linear,
    log_scale: Tensor,
    bias: Tensor,
}

impl Model {
    fn new(sizes: &Sizes, vars: VarBuilder) -> Result<Self> {
        let width = sizes.width;
        let tokens = vars.get_with_hints((sizes.vocabulary, width), "tokens", NORMAL)?;
        Ok(Self {
            patches: candle_nn::linear(3 * sizes.patch * sizes.patch, width, vars.pp("patches"))?,
            places: vars.get_with_hints((sizes.patches(), width), "places", NORMAL)?,
            image_blocks: Block::all(sizes, vars.pp("image"))?,
            image_norm: Norm::new(width, vars.pp("image_norm"))?,
            probe: vars.get_with_hints((1, 1, width), "probe", NORMAL)?,
            pooling: Attention::new(sizes, vars.pp("pooling"))?,
            pooled_norm: Norm::new(width, vars.pp("pooled_norm"))?,
            pooled_mlp: Mlp::new(sizes, vars.pp("pooled_mlp"))?,
            tokens: Embedding::new(tokens, width),
            positions: vars.get_with_hints((sizes.text, width), "positions", NORMAL)?,
            text_blocks: Block::all(sizes, vars.pp("text"))?,
            text_norm: Norm::new(width, vars.pp("text_norm"))?,
            text_head: candle_nn::linear(width, width, vars.pp("text_head"))?,
            log_scale: vars.get_with_hints(1, "log_scale", Init::Const(10f64.ln()))?,
            bias: vars.get_with_hints(1, "bias", Init::Const(-10.0))?,
        })
    }

    /// `[n, 3, s, s]` -> `[n, d]`
    fn images(&self, pixels: &Tensor, patch: usize, train: bool) -> Result<Tensor> {
        let (n, channels, side, _) = pixels.dims4()?;
        let grid = side / patch;
        let patches = pixels.reshape(&[n, channels, grid, patch, grid, patch][..])?.permute(&[0, 2, 4, 1, 3, 5][..])?;
        let patches = patches.reshape((n, grid * grid, channels * patch * patch))?;
        let x = self.patches.forward(&patches)?.broadcast_add(&self.places)?;
        let x = self.image_blocks.iter().try_fold(x, |x, block| block.forward(x, train))?;
        let x = self.image_norm.forward(&x, train)?;
        let y = self.pooling.forward(&self.probe.repeat((n, 1, 1))?, &x, train)?;
        let y = (&y + self.pooled_mlp.forward(&self.pooled_norm.forward(&y, train)?)?)?;
        unit(&y.squeeze(1)?)
    }

    /// `[n, l]` -> `[n, d]`
    fn texts(&self, ids: &Tensor, train: bool) -> Result<Tensor> {
        let x = self.tokens.forward(ids)?.broadcast_add(&self.positions)?;
        let x = self.text_blocks.iter().try_fold(x, |x, block| block.forward(x, train))?;
        let last = x.narrow(1, x.dim(1)? - 1, 1)?.squeeze(1)?;
        unit(&self.text_head.forward(&self.text_norm.forward(&last, train)?)?)
    }

    /// `sum softplus(∓logits) / n`
    fn loss(&self, images: &Tensor, texts: &Tensor) -> Result<Tensor> {
        let n = images.dim(0)?;
        let logits = images.matmul(&texts.t()?)?.broadcast_mul(&self.log_scale.exp()?)?.broadcast_add(&self.bias)?;
        let signs = (1.0 - (Tensor::eye(n, DType::F32, &Device::Cpu)? * 2.0)?)?;
        let x = (logits * signs)?;
        (x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?.sum_all()? / n as f64
    }
}

fn unit(x: &Tensor) -> Result<Tensor> {
    x.broadcast_div(&x.sqr()?.sum_keepdim(1)?.sqrt()?)
}

/// Backward, the norm of all gradients clipped to 1, and AdamW.
fn update(optimizer: &mut AdamW, vars: &[Var], loss: &Tensor) -> Result<()> {
    let mut gradients = loss.backward()?;
    let mut square = 0.0;
    for var in vars {
        let gradient = gradients.get(var).ok_or_else(|| candle_core::Error::msg("a parameter has no gradient"))?;
        square += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    let factor = (1.0 / (square.sqrt() + 1e-6)).min(1.0);
    for var in vars {
        if let Some(gradient) = gradients.remove(var) {
            gradients.insert(var, (gradient * factor)?);
        }
    }
    optimizer.step(&gradients)
}

/// Scores and trains on `n` examples.
pub fn measure(sizes: &Sizes, n: usize, repeats: usize) -> Result<Measured> {
    let (pixels, ids) = sizes.examples(n);
    let images = Tensor::from_vec(pixels, (n, 3, sizes.image, sizes.image), &Device::Cpu)?;
    let texts = Tensor::from_vec(ids, (n, sizes.text), &Device::Cpu)?;
    let map = VarMap::new();
    let model = Model::new(sizes, VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu))?;
    let vars = map.all_vars();
    let parameters = vars.iter().map(|var| var.elem_count()).sum();
    let mut failed = Ok(());
    let score = median(repeats, || {
        let made = model.images(&images, sizes.patch, false).and_then(|_| model.texts(&texts, false));
        failed = made.map(drop);
    });
    failed?;
    let rates = ParamsAdamW { lr: 1e-3, beta2: 0.95, weight_decay: 1e-4, ..ParamsAdamW::default() };
    let (mut optimizer, mut losses) = (AdamW::new(vars.clone(), rates)?, Vec::new());
    let mut train = || {
        let loss = model.loss(&model.images(&images, sizes.patch, true)?, &model.texts(&texts, true)?)?;
        update(&mut optimizer, &vars, &loss)?;
        loss.to_scalar::<f32>()
    };
    let step = median(repeats, || losses.push(train()));
    Ok(Measured { parameters, losses: losses.into_iter().collect::<Result<_>>()?, score, step })
}
