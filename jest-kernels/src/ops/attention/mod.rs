//! Multi-head attention: `y = softmax(q · kᵀ / sqrt(head_dim)) · v` for each head, without storing the weights.
//!
//! What is not finite in a key that is masked, by the lengths or by the causal mask, reaches no output that does not see
//! it, and no gradient but those of its own rows.
//!
//! A GPU with matrix units multiplies operands rounded to f16 where the precision is f16 and heads are of whole fours. What
//! f16 cannot hold becomes infinite, and so does not pass as a gradient.
//!
//! Where products are in bf16, on the CPU device, so are those of attention, of operands in either form. Its outputs, which
//! feed products, are stored so, and its gradients. Softmax and all sums are in f32 everywhere.

mod bf16;
mod cpu;
mod kernels;
mod native;
pub mod oracle;
mod trial;

use crate::catalog::Variant;
use crate::profile::Work;
use crate::{DType, KernelError, Pass, Result, Tensor};

const OP: &str = "attention";
/// Widest head that the kernels hold in a workgroup.
const MAX_HEAD_DIM: usize = 128;
/// Keys of an example that a kernel visits on an emulated adapter: beyond, it would pass the 65,535 rounds of loops after
/// which llvmpipe silently leaves it.
const MAX_EMULATED_LENGTH: usize = 2048;

pub(crate) fn variants() -> Vec<Variant> {
    kernels::variants()
}

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// All of its example.
    None,
    /// Those not after itself.
    Causal,
}

/// Sizes of one attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// Examples.
    pub n: usize,
    /// Heads.
    pub heads: usize,
    /// Width of a head: 1 to 128.
    pub head_dim: usize,
    /// Queries of an example.
    pub q_len: usize,
    /// Keys of an example.
    pub k_len: usize,
    /// Which keys a query sees.
    pub mask: Mask,
    /// Whether all examples share one set of `q_len` queries, as the probe of attention pooling.
    pub shared_query: bool,
}

impl Attention {
    /// Columns of all heads.
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    fn check(&self) -> Result<()> {
        let wrong = |what, got, rule: String| Err(KernelError::Size { op: OP, what, got, rule });
        if !(1..=MAX_HEAD_DIM).contains(&self.head_dim) {
            return wrong("head_dim", self.head_dim, format!("between 1 and {MAX_HEAD_DIM}"));
        }
        if self.mask == Mask::Causal && self.q_len != self.k_len {
            return wrong("q_len under a causal mask", self.q_len, format!("k_len, {}", self.k_len));
        }
        Ok(())
    }
}

/// Sizes, and where the elements of q, k and v lie.
#[derive(Clone, Copy, Debug)]
struct Operands {
    shape: Attention,
    /// Query rows between examples; 0 when they share them.
    q_rows: usize,
    q_stride: usize,
    q_offset: usize,
    kv_stride: usize,
    k_offset: usize,
    v_offset: usize,
}

impl Operands {
    fn packed(shape: Attention) -> Self {
        let (width, q_rows) = (shape.width(), shape.q_len);
        let (q_stride, kv_stride) = (3 * width, 3 * width);
        Self { shape, q_rows, q_stride, q_offset: 0, kv_stride, k_offset: width, v_offset: 2 * width }
    }

    fn pooled(shape: Attention) -> Self {
        let width = shape.width();
        let q_rows = if shape.shared_query { 0 } else { shape.q_len };
        Self { shape, q_rows, q_stride: width, q_offset: 0, kv_stride: 2 * width, k_offset: 0, v_offset: width }
    }

    /// Whether q lies in the very tensor of k and v.
    fn is_packed(&self) -> bool {
        self.k_offset > 0
    }

    /// Elements of one example's keys and values, with its queries where they are packed.
    fn kv_len(&self) -> usize {
        self.shape.k_len * self.kv_stride
    }

    fn scale(&self) -> f32 {
        1.0 / (self.shape.head_dim as f32).sqrt()
    }

    fn causal(&self) -> bool {
        self.shape.mask == Mask::Causal
    }

    /// Of the first `keys` keys, those that a query sees.
    fn seen(&self, keys: usize, query: usize) -> usize {
        if self.causal() { keys.min(query + 1) } else { keys }
    }
}

/// What the backward pass needs.
#[derive(Debug)]
struct Saved {
    operands: Operands,
    q: Tensor,
    /// The very tensor of q when packed.
    kv: Tensor,
    lengths: Option<Tensor>,
    y: Tensor,
    /// Logarithm of each row's sum of exponentials: [n, heads, q_len].
    lse: Tensor,
}

/// What [`backward_packed`] needs; made by [`forward_packed`].
#[derive(Debug)]
pub struct SavedPacked(Saved);

/// What [`backward_pooled`] needs; made by [`forward_pooled`].
#[derive(Debug)]
pub struct SavedPooled(Saved);

/// Gradients of [`forward_pooled`].
#[derive(Debug)]
pub struct PooledGradients {
    /// Gradient by the queries, shaped as they; summed over the examples when they share them.
    pub dq: Tensor,
    /// Gradient by keys and values, packed as they.
    pub dkv: Tensor,
}

/// Self-attention: `y = softmax(q · kᵀ / sqrt(head_dim)) · v`, with q, k and v side by side in the rows of `qkv`.
///
/// Of example i only the first `lengths[i]` keys count (taken as 1 when 0, and as `k_len` beyond).
///
/// # Shapes
/// qkv: [n * k_len, 3 * width], width = heads * head_dim; lengths: u32 `[n]`; y: [n * k_len, width].
///
/// # Errors
/// `Size` when head_dim is over 128, when q_len and k_len differ or the queries are shared; `Shape` and `DType` when
/// an operand does not fit.
pub fn forward_packed(
    pass: &mut Pass,
    shape: &Attention,
    qkv: &Tensor,
    lengths: Option<&Tensor>,
) -> Result<(Tensor, SavedPacked)> {
    shape.check()?;
    if shape.q_len != shape.k_len || shape.shared_query {
        let rule = format!("k_len, {}, with a query of its own for each example", shape.k_len);
        return Err(KernelError::Size { op: OP, what: "q_len of packed attention", got: shape.q_len, rule });
    }
    expect_operand(pass.product_operand(), "qkv", qkv, &[shape.n * shape.k_len, 3 * shape.width()])?;
    let (y, saved) = forward(pass, Operands::packed(*shape), qkv, qkv, lengths)?;
    Ok((y, SavedPacked(saved)))
}

/// Attention of separate queries: `y = softmax(q · kᵀ / sqrt(head_dim)) · v`, with k and v side by side in `kv`.
///
/// Of example i only the first `lengths[i]` keys count (taken as 1 when 0, and as `k_len` beyond).
///
/// # Shapes
/// q: [q_len, width] when shared, else [n * q_len, width]; kv: [n * k_len, 2 * width]; lengths: u32 `[n]`;
/// y: [n * q_len, width].
///
/// # Errors
/// `Size` when head_dim is over 128, or the mask is causal and q_len and k_len differ; `Shape` and `DType` when an
/// operand does not fit.
pub fn forward_pooled(
    pass: &mut Pass,
    shape: &Attention,
    q: &Tensor,
    kv: &Tensor,
    lengths: Option<&Tensor>,
) -> Result<(Tensor, SavedPooled)> {
    shape.check()?;
    let sets = if shape.shared_query { 1 } else { shape.n };
    let stored = pass.product_operand();
    expect_operand(stored, "q", q, &[sets * shape.q_len, shape.width()])?;
    expect_operand(stored, "kv", kv, &[shape.n * shape.k_len, 2 * shape.width()])?;
    let (y, saved) = forward(pass, Operands::pooled(*shape), q, kv, lengths)?;
    Ok((y, SavedPooled(saved)))
}

/// Gradient by qkv of [`forward_packed`]; 0 at the keys and values that do not count.
///
/// # Shapes
/// dy: [n * k_len, width]; the gradient as qkv.
///
/// # Errors
/// `Shape` when dy does not fit the forward pass.
pub fn backward_packed(pass: &mut Pass, saved: SavedPacked, dy: &Tensor) -> Result<Tensor> {
    let SavedPacked(saved) = saved;
    check_upstream(pass, &saved, dy)?;
    let mut dqkv = pass.empty(saved.y.dtype(), saved.q.shape())?;
    if let Some(cpu) = pass.cpu() {
        native::backward(cpu, &saved, dy, cpu::Outputs::Packed(&mut dqkv));
    } else {
        kernels::backward(pass, &saved, dy, &dqkv, &dqkv)?;
    }
    Ok(dqkv)
}

/// Gradients by q and kv of [`forward_pooled`]; 0 at the keys and values that do not count.
///
/// # Shapes
/// dy: [n * q_len, width].
///
/// # Errors
/// `Shape` when dy does not fit the forward pass.
pub fn backward_pooled(pass: &mut Pass, saved: SavedPooled, dy: &Tensor) -> Result<PooledGradients> {
    let SavedPooled(saved) = saved;
    check_upstream(pass, &saved, dy)?;
    let shape = saved.operands.shape;
    let [mut dq, mut dkv] = [pass.empty(saved.y.dtype(), dy.shape())?, pass.empty(saved.y.dtype(), saved.kv.shape())?];
    if let Some(cpu) = pass.cpu() {
        native::backward(cpu, &saved, dy, cpu::Outputs::Pooled { dq: &mut dq, dkv: &mut dkv });
    } else {
        kernels::backward(pass, &saved, dy, &dq, &dkv)?;
    }
    if shape.shared_query {
        let each = dq.reshape(&[shape.n, shape.q_len * shape.width()])?;
        let mut total = pass.zeros(&[shape.q_len * shape.width()])?;
        super::column_sum::accumulate(pass, &each, &mut total)?;
        dq = total.reshape(saved.q.shape())?;
    }
    Ok(PooledGradients { dq, dkv })
}

impl Saved {
    /// `passes` times the two products of the forward pass.
    fn work(&self, name: &'static str, passes: f64) -> Work {
        let shape = self.operands.shape;
        let flops = 4.0 * passes * (shape.n * shape.width()) as f64 * (shape.q_len * shape.k_len) as f64;
        Work::products(name, flops, self.q.len() + self.y.len())
    }
}

fn check_upstream(pass: &Pass, saved: &Saved, dy: &Tensor) -> Result<()> {
    pass.admit(OP, &[("q", &saved.q), ("dy", dy)])?;
    expect_operand(saved.y.dtype(), "dy", dy, saved.y.shape())
}

/// Refuses what a product with operands stored so, or in f32, could not read.
fn expect_operand(stored: DType, what: &'static str, x: &Tensor, shape: &[usize]) -> Result<()> {
    x.expect(OP, what, if x.dtype() == stored { stored } else { DType::F32 }, shape)
}

fn forward(
    pass: &mut Pass,
    operands: Operands,
    q: &Tensor,
    kv: &Tensor,
    lengths: Option<&Tensor>,
) -> Result<(Tensor, Saved)> {
    let shape = operands.shape;
    pass.admit(OP, &[("q", q), ("kv", kv)])?;
    if let Some(lengths) = lengths {
        pass.admit(OP, &[("lengths", lengths)])?;
        lengths.expect(OP, "lengths", DType::U32, &[shape.n])?;
    }
    let longest = shape.q_len.max(shape.k_len);
    if longest > MAX_EMULATED_LENGTH && pass.device().info().software {
        let rule = format!("at most {MAX_EMULATED_LENGTH} on an emulated adapter; use --device cpu");
        return Err(KernelError::Size { op: OP, what: "length", got: longest, rule });
    }
    let y = pass.empty(pass.product_operand(), &[shape.n * shape.q_len, shape.width()])?;
    let lse = pass.empty_f32(&[shape.n, shape.heads, shape.q_len])?;
    let mut saved = Saved { operands, q: q.clone(), kv: kv.clone(), lengths: lengths.cloned(), y, lse };
    if let Some(cpu) = pass.cpu() {
        native::forward(cpu, &mut saved);
    } else {
        kernels::forward(pass, &mut saved)?;
    }
    Ok((saved.y.clone(), saved))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_bf16;
#[cfg(test)]
mod tests_f16;
