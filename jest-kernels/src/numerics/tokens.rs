//! Operations on tokens: attention, embeddings, pooling, patches.

use half::{bf16, f16};

use super::{Case, Given, SHAPES, Trial};
use crate::ops::attention::{self, Attention, Mask};
use crate::ops::gather_tokens::{self, KeptTokens};
use crate::ops::mean_pool::{self, Counted};
use crate::ops::token_embedding::{self, TokenIds};
use crate::ops::{patch_embed, resize_kernel};
use crate::{KernelError, Precision, Result};

/// Tokens, and width of a head: one for each number of strips that a kernel takes a head in.
const HEADS: &[[usize; 2]] = &[[257, 32], [64, 64], [33, 80], [40, 128]];
/// Images and patch size.
const PATCHES: &[[usize; 2]] = &[[2, 16], [5, 7]];
/// Examples of all but attention over patches.
const EXAMPLES: usize = 4;

pub(super) const CASES: &[Case] = &[
    Case { shapes: HEADS, run: self_attention },
    Case { shapes: HEADS, run: attention_in_bf16 },
    Case { shapes: HEADS, run: causal_attention },
    Case { shapes: HEADS, run: attention_on_units },
    Case { shapes: HEADS, run: pooling },
    Case { shapes: SHAPES, run: gathered },
    Case { shapes: SHAPES, run: means },
    Case { shapes: SHAPES, run: embedded },
    Case { shapes: PATCHES, run: patches },
    Case { shapes: PATCHES, run: kernels },
];

fn self_attention(t: &mut Trial<'_>) -> Result<()> {
    packed(t, "attention", Mask::None, None, Precision::F32)
}

/// Where the adapter has matrix units; operands are rounded first, as those of products.
fn attention_on_units(t: &mut Trial<'_>) -> Result<()> {
    if t.pass.abilities().matrices {
        packed(t, "attention f16", Mask::None, None, Precision::F16)?;
    }
    Ok(())
}

/// Operands are rounded first, so that what is shown is the rounding of weights, of scores' gradients and of outputs.
fn attention_in_bf16(t: &mut Trial<'_>) -> Result<()> {
    if t.pass.cpu().is_none() {
        return Ok(());
    }
    packed(t, "attention bf16", Mask::None, None, Precision::Bf16)
}

/// With fewer keys in the second example.
fn causal_attention(t: &mut Trial<'_>) -> Result<()> {
    packed(t, "attention causal", Mask::Causal, Some([t.rows as u32, (t.rows as u32).div_ceil(2)]), Precision::F32)
}

/// Two examples of two heads; the magnitude is that of q alone, and so of the logits.
fn packed(t: &mut Trial<'_>, name: &str, mask: Mask, lengths: Option<[u32; 2]>, precision: Precision) -> Result<()> {
    let (l, head_dim, n, heads) = (t.rows, t.cols, 2, 2);
    let shape = Attention { n, heads, head_dim, q_len: l, k_len: l, mask, shared_query: false };
    let width = shape.width();
    let (mut qkv, mut dy) = (t.unit(1, &[n * l, 3 * width])?.values, t.unit(2, &[n * l, width])?.values);
    qkv.chunks_mut(3 * width).flat_map(|row| &mut row[..width]).for_each(|q| *q *= t.magnitude);
    let round: fn(f32) -> f32 = match precision {
        Precision::F32 => |x| x,
        Precision::F16 => |x| f16::from_f32(x).to_f32(),
        Precision::Bf16 => |x| bf16::from_f32(x).to_f32(),
    };
    qkv.iter_mut().chain(&mut dy).for_each(|x| *x = round(*x));
    let (qkv, dy) = (t.given(qkv, &[n * l, 3 * width])?, t.given(dy, &[n * l, width])?);
    let counted = lengths.map(|lengths| t.pass.upload_u32(&lengths, &[n])).transpose()?;
    let (y, dqkv) = t.pass.in_precision(precision, |pass| {
        let (y, saved) = attention::forward_packed(pass, &shape, &qkv.tensor, counted.as_ref())?;
        Ok::<_, KernelError>((y, attention::backward_packed(pass, saved, &dy.tensor)?))
    })?;
    let keys = lengths.map_or([l; 2], |lengths| lengths.map(|length| length as usize));
    let [q, k, v] = [0, 1, 2].map(|part| columns(&qkv.wide(), 3 * width, part * width, width));
    let want = attention::oracle::backward(&shape, &keys, &q, &k, &v, &dy.wide());
    t.compare(format!("{name}: y"), &y, &attention::oracle::forward(&shape, &keys, &q, &k, &v))?;
    t.compare(format!("{name}: dqkv"), &dqkv, &side_by_side(&[&want.dq, &want.dk, &want.dv], width))
}

/// Queries that both examples share.
fn pooling(t: &mut Trial<'_>) -> Result<()> {
    let (l, head_dim, n, heads, mask) = (t.rows, t.cols, 2, 2, Mask::None);
    let shape = Attention { n, heads, head_dim, q_len: l, k_len: l, mask, shared_query: true };
    let width = shape.width();
    let (q, kv, dy) = (t.input(1, &[l, width])?, t.unit(2, &[n * l, 2 * width])?, t.unit(3, &[n * l, width])?);
    let (y, saved) = attention::forward_pooled(t.pass, &shape, &q.tensor, &kv.tensor, None)?;
    let got = attention::backward_pooled(t.pass, saved, &dy.tensor)?;
    let [k, v] = [0, 1].map(|part| columns(&kv.wide(), 2 * width, part * width, width));
    let want = attention::oracle::backward(&shape, &[l; 2], &q.wide(), &k, &v, &dy.wide());
    t.compare("attention pooled: y", &y, &attention::oracle::forward(&shape, &[l; 2], &q.wide(), &k, &v))?;
    t.compare("attention pooled: dq", &got.dq, &want.dq)?;
    t.compare("attention pooled: dkv", &got.dkv, &side_by_side(&[&want.dk, &want.dv], width))
}

/// Some columns of rows of length `cols`.
fn columns(x: &[f64], cols: usize, first: usize, count: usize) -> Vec<f64> {
    x.chunks(cols).flat_map(|row| &row[first..first + count]).copied().collect()
}

/// Rows of every part after each other, row by row.
fn side_by_side(parts: &[&[f64]], width: usize) -> Vec<f64> {
    let rows = parts[0].len() / width;
    (0..rows).flat_map(|row| parts.iter().flat_map(move |part| &part[row * width..][..width])).copied().collect()
}

/// Every other token is kept.
fn gathered(t: &mut Trial<'_>) -> Result<()> {
    let (l, d, n, k) = (t.rows, t.cols, EXAMPLES, t.rows.div_ceil(2));
    let indices: Vec<u32> = (0..n * k).map(|at| (at % k * 2) as u32).collect();
    let kept = KeptTokens::upload(t.pass, &indices, n, k, l)?;
    let (x, dy) = (t.input(1, &[n * l, d])?, t.input(2, &[n * k, d])?);
    let y = gather_tokens::forward(t.pass, &x.tensor, &kept)?;
    t.compare("gather_tokens: y", &y, &gather_tokens::oracle::forward(&x.wide(), &indices, k, l, d))?;
    let dx = gather_tokens::backward(t.pass, &dy.tensor, &kept)?;
    t.compare("gather_tokens: dx", &dx, &gather_tokens::oracle::backward(&dy.wide(), &indices, k, l, d))
}

fn means(t: &mut Trial<'_>) -> Result<()> {
    let (l, d) = (t.rows, t.cols);
    let lengths = [l as u32, 1, (l as u32).div_ceil(3), l as u32 - 1];
    let counted = Counted::upload(t.pass, &lengths, l)?;
    let (x, dy) = (t.input(1, &[EXAMPLES * l, d])?, t.input(2, &[EXAMPLES, d])?);
    let y = mean_pool::forward(t.pass, &x.tensor, &counted)?;
    t.compare("mean_pool: y", &y, &mean_pool::oracle::forward(&x.wide(), &lengths, l, d))?;
    let dx = mean_pool::backward(t.pass, &dy.tensor, &counted)?;
    t.compare("mean_pool: dx", &dx, &mean_pool::oracle::backward(&dy.wide(), &lengths, l, d))
}

/// Half of all tokens have one id, as padding has.
fn embedded(t: &mut Trial<'_>) -> Result<()> {
    let (l, d, n, vocab) = (t.rows, t.cols, 2 * EXAMPLES, 50);
    let ids: Vec<u32> = (0..n * l).map(|at| if at % 2 == 0 { 0 } else { (at * 7 % vocab) as u32 }).collect();
    let on_device = TokenIds::upload(t.pass, &ids, n, l, vocab)?;
    let (table, posemb, dy) = (t.input(1, &[vocab, d])?, t.input(2, &[l, d])?, t.input(3, &[n * l, d])?);
    let y = token_embedding::forward(t.pass, &on_device, &table.tensor, &posemb.tensor)?;
    t.compare("token_embedding: y", &y, &token_embedding::oracle::forward(&ids, l, &table.wide(), &posemb.wide(), d))?;
    let (mut dtable, mut dposemb) = (t.pass.zeros(&[vocab, d])?, t.pass.zeros(&[l, d])?);
    token_embedding::backward(t.pass, &on_device, &dy.tensor, &mut dtable, &mut dposemb)?;
    let (mut want_table, mut want_posemb) = (vec![0.0; vocab * d], vec![0.0; l * d]);
    token_embedding::oracle::backward(&ids, l, &dy.wide(), &mut want_table, &mut want_posemb, d);
    t.compare("token_embedding: dtable", &dtable, &want_table)?;
    t.compare("token_embedding: dposemb", &dposemb, &want_posemb)
}

/// Images of four by four patches, embedded in 48 dimensions.
fn patches(t: &mut Trial<'_>) -> Result<()> {
    let (n, patch, channels, width) = (t.rows, t.cols, 3, 48);
    let (side, rows) = (4 * patch, n * 16);
    let images = t.input(1, &[n, channels, side, side])?;
    let (weight, bias) = (t.unit(2, &[width, channels, patch, patch])?, t.unit(3, &[width])?);
    let dy = t.unit(4, &[rows, width])?;
    let (mut dweight, mut dbias) = (t.pass.zeros(weight.tensor.shape())?, t.pass.zeros(&[width])?);
    let (y, saved) = patch_embed::forward(t.pass, &images.tensor, patch, &weight.tensor, &bias.tensor)?;
    patch_embed::backward(t.pass, saved, &dy.tensor, &mut dweight, &mut dbias)?;
    let sizes = patch_embed::oracle::Sizes { n, channels, side, patch, width };
    let (want_weight, want_bias) = patch_embed::oracle::backward(sizes, &images.wide(), &dy.wide());
    let want = patch_embed::oracle::forward(sizes, &images.wide(), &weight.wide(), &bias.wide());
    t.compare("patch_embed: y", &y, &want)?;
    t.compare("patch_embed: dweight", &dweight, &want_weight)?;
    t.compare("patch_embed: dbias", &dbias, &want_bias)
}

/// Kernels of so many units and that size become one larger by 3.
fn kernels(t: &mut Trial<'_>) -> Result<()> {
    let (out, channels, old, new) = (t.rows, 3, t.cols, t.cols + 3);
    let matrix = resize_kernel::matrix(resize_kernel::Resize::Bilinear, old, new);
    let matrix: Given = t.given(matrix, &[new * new, old * old])?;
    let (w, dw_new) = (t.input(1, &[out, channels, old, old])?, t.input(2, &[out, channels, new, new])?);
    let w_new = resize_kernel::forward(t.pass, &w.tensor, &matrix.tensor, new)?;
    let mut dw = t.pass.zeros(w.tensor.shape())?;
    resize_kernel::backward(t.pass, &dw_new.tensor, &matrix.tensor, &mut dw)?;
    let wide = matrix.wide();
    t.compare("resize_kernel: w", &w_new, &resize_kernel::oracle::forward(&w.wide(), &wide, old * old))?;
    t.compare("resize_kernel: dw", &dw, &resize_kernel::oracle::backward(&dw_new.wide(), &wide, old * old))
}
