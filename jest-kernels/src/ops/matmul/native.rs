//! From tensors to the CPU forms of the product.

use super::kernels::Store;
use super::{Form, Sizes, cpu, packed};
use crate::bf16::{Elements, Level};
use crate::profile::Work;
use crate::{DType, Pass, Result, Tensor};

/// What is added to the sums: a bias to every row, and on the CPU device something of the output's shape.
#[derive(Clone, Copy, Default)]
pub(super) struct Ends<'a> {
    pub(super) bias: Option<&'a Tensor>,
    pub(super) residual: Option<&'a Tensor>,
}

impl<'a> Ends<'a> {
    pub(super) fn of(bias: &'a Tensor) -> Self {
        Self { bias: Some(bias), residual: None }
    }

    fn on_cpu(self) -> cpu::Ends<'a> {
        let [bias, residual] = [self.bias, self.residual].map(|added| added.map_or(&[][..], Tensor::f32));
        cpu::Ends { bias, residual }
    }
}

/// How operands are packed, by precision and shape alone; none where they are multiplied as they lie.
fn level(pass: &Pass, Sizes { m, n, k, .. }: Sizes) -> Option<Level> {
    if pass.product_operand() == DType::Bf16 { Some(crate::bf16::level()) } else { cpu::split(m.min(n).min(k)) }
}

#[expect(clippy::too_many_arguments, reason = "as `run` of the module above")]
pub(super) fn run(
    pass: &mut Pass,
    form: Form,
    store: Store,
    sizes: Sizes,
    [a, b]: [&Tensor; 2],
    ends: Ends<'_>,
    y: &mut Tensor,
    slope: Option<&mut Tensor>,
) -> Result<()> {
    if let Some(level) = level(pass, sizes) {
        let [a, b] = [a, b].map(Elements::of);
        let operands = packed::Operands { level, form, sizes, a, b, ends: ends.on_cpu() };
        return run_packed(pass, store, &operands, y, slope);
    }
    let Sizes { m, n, .. } = sizes;
    let operands = cpu::Operands { form, sizes, a: a.f32(), b: b.f32(), ends: ends.on_cpu() };
    let parts = cpu::depth_parts(form, sizes);
    let mut partial = if parts > 1 { Some(pass.empty_f32(&[parts, m, n])?) } else { None };
    let mut transpose = if cpu::turns(form, sizes) { Some(pass.empty_f32(&[sizes.k, n])?) } else { None };
    let (y, slope) = (y.f32_mut(), slope.map(|slope| slope.f32_mut()));
    if let Some(cpu) = pass.cpu() {
        cpu.run(work(sizes, store), || match (&mut partial, &mut transpose) {
            (Some(partial), _) => cpu::product_by_parts(&operands, store == Store::Add, y, partial.f32_mut()),
            (_, Some(transpose)) => cpu::product(&cpu::turned(&operands, transpose.f32_mut()), store, y, slope),
            _ => cpu::product(&operands, store, y, slope),
        });
    }
    Ok(())
}

fn run_packed(
    pass: &mut Pass,
    store: Store,
    operands: &packed::Operands<'_>,
    y: &mut Tensor,
    slope: Option<&mut Tensor>,
) -> Result<()> {
    let Sizes { m, n, k, .. } = operands.sizes;
    let rounded = y.dtype() == DType::Bf16;
    let parts = if rounded { 1 } else { cpu::depth_parts(operands.form, operands.sizes) };
    let mut partial = if parts > 1 { Some(pass.empty_f32(&[parts, m, n])?) } else { None };
    let words = if parts > 1 { 1 } else { packed::scratch_words(operands.level, n, k) };
    let mut scratch = pass.empty_f32(&[words])?;
    let scratch = bytemuck::cast_slice_mut(scratch.f32_mut());
    let Some(cpu) = pass.cpu() else { return Ok(()) };
    cpu.run(work(operands.sizes, store), || match (store, slope, &mut partial) {
        (Store::BiasGelu(kind), Some(slope), _) if rounded => {
            packed::product_gelu_rounded(operands, kind, y.bf16_mut(), slope.bf16_mut(), scratch);
        }
        (Store::BiasGelu(kind), Some(slope), _) => {
            packed::product_gelu(operands, kind, y.f32_mut(), slope.f32_mut(), scratch);
        }
        _ if rounded => packed::product_rounded(operands, store, y.bf16_mut(), scratch),
        (_, _, Some(partial)) => {
            packed::product_by_parts(operands, store == Store::Add, y.f32_mut(), partial.f32_mut());
        }
        _ => packed::product(operands, store, y.f32_mut(), scratch),
    });
    Ok(())
}

/// `dpre = (dy · w) * slope` of slopes in bf16, stored so.
pub(super) fn through_gelu(
    pass: &mut Pass,
    sizes: Sizes,
    [dy, w]: [&Tensor; 2],
    slope: &Tensor,
    dpre: &mut Tensor,
) -> Result<()> {
    let Sizes { n, k, .. } = sizes;
    let [a, b] = [dy, w].map(Elements::of);
    let level = crate::bf16::level();
    let operands = packed::Operands { level, form: Form::AB, sizes, a, b, ends: Ends::default().on_cpu() };
    let mut scratch = pass.empty_f32(&[packed::scratch_words(level, n, k)])?;
    let scratch = bytemuck::cast_slice_mut(scratch.f32_mut());
    let Some(cpu) = pass.cpu() else { return Ok(()) };
    let work = work(sizes, Store::Write);
    cpu.run(work, || packed::product_through_gelu(&operands, slope.bf16(), dpre.bf16_mut(), scratch));
    Ok(())
}

/// What a profile counts.
fn work(sizes: Sizes, store: Store) -> Work {
    let Sizes { z, m, n, k } = sizes;
    Work::products(store.name(), sizes.flops(), z * (m * k + k * n + m * n))
}
