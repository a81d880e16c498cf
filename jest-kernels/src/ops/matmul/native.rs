//! From tensors to the CPU forms of the product.

use super::kernels::Store;
use super::{Form, Sizes, bf16, cpu};
use crate::bf16::Elements;
use crate::ops::gelu::Gelu;
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

#[expect(clippy::too_many_arguments, reason = "as `run` of the module above")]
pub(super) fn run(
    pass: &mut Pass,
    form: Form,
    store: Store,
    sizes: Sizes,
    [a, b]: [&Tensor; 2],
    ends: Ends<'_>,
    y: &mut Tensor,
    pre: Option<&mut Tensor>,
) -> Result<()> {
    if pass.product_operand() == DType::Bf16 {
        return run_in_bf16(pass, form, store, sizes, [a, b], ends, y, pre);
    }
    let Sizes { m, n, .. } = sizes;
    let operands = cpu::Operands { form, sizes, a: a.f32(), b: b.f32(), ends: ends.on_cpu() };
    let parts = cpu::depth_parts(form, sizes);
    let mut partial = if parts > 1 { Some(pass.empty_f32(&[parts, m, n])?) } else { None };
    let (y, pre) = (y.f32_mut(), pre.map(|pre| pre.f32_mut()));
    if let Some(cpu) = pass.cpu() {
        cpu.run(work(sizes, store), || match &mut partial {
            Some(partial) => cpu::product_by_parts(&operands, store == Store::Add, y, partial.f32_mut()),
            None => cpu::product(&operands, store, y, pre),
        });
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "as `run` of the module above")]
fn run_in_bf16(
    pass: &mut Pass,
    form: Form,
    store: Store,
    sizes: Sizes,
    [a, b]: [&Tensor; 2],
    ends: Ends<'_>,
    y: &mut Tensor,
    pre: Option<&mut Tensor>,
) -> Result<()> {
    let Sizes { m, n, k, .. } = sizes;
    let [a, b] = [a, b].map(Elements::of);
    let operands = cpu::Operands { form, sizes, a, b, ends: ends.on_cpu() };
    let parts = cpu::depth_parts(form, sizes);
    let mut partial = if parts > 1 { Some(pass.empty_f32(&[parts, m, n])?) } else { None };
    let mut packed = pass.empty_f32(&[parts, bf16::scratch_words(n, k.div_ceil(parts))])?;
    let packed = bytemuck::cast_slice_mut(packed.f32_mut());
    let Some(cpu) = pass.cpu() else { return Ok(()) };
    cpu.run(work(sizes, store), || match (store, pre, &mut partial) {
        (Store::BiasGelu(kind), Some(pre), _) => {
            bf16::product_gelu(&operands, kind, y.bf16_mut(), pre.bf16_mut(), packed);
        }
        _ if y.dtype() == DType::Bf16 => bf16::product_rounded(&operands, store, y.bf16_mut(), packed),
        (_, _, Some(partial)) => {
            bf16::product_by_parts(&operands, store == Store::Add, y.f32_mut(), partial.f32_mut(), packed);
        }
        _ => bf16::product(&operands, store, y.f32_mut(), packed),
    });
    Ok(())
}

/// `dpre = (dy · w) * gelu'(pre)` of `pre` in bf16, stored so.
pub(super) fn through_gelu(
    pass: &mut Pass,
    kind: Gelu,
    sizes: Sizes,
    [dy, w]: [&Tensor; 2],
    pre: &Tensor,
    dpre: &mut Tensor,
) -> Result<()> {
    let Sizes { n, k, .. } = sizes;
    let [a, b] = [dy, w].map(Elements::of);
    let operands = cpu::Operands { form: Form::AB, sizes, a, b, ends: Ends::default().on_cpu() };
    let mut packed = pass.empty_f32(&[bf16::scratch_words(n, k)])?;
    let packed = bytemuck::cast_slice_mut(packed.f32_mut());
    let Some(cpu) = pass.cpu() else { return Ok(()) };
    let work = work(sizes, Store::Write);
    cpu.run(work, || bf16::product_through_gelu(&operands, kind, pre.bf16(), dpre.bf16_mut(), packed));
    Ok(())
}

/// What a profile counts.
fn work(sizes: Sizes, store: Store) -> Work {
    let Sizes { z, m, n, k } = sizes;
    Work::products(store.name(), sizes.flops(), z * (m * k + k * n + m * n))
}
