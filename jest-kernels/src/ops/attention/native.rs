//! From tensors to the CPU forms of attention.

use super::cpu::{self, Inputs, Outputs};
use super::{Saved, bf16};
use crate::bf16::{Elements, level};
use crate::device::cpu::Cpu;
use crate::{DType, Tensor};

/// Writes y and lse; with products in bf16 when y is stored so.
pub(super) fn forward(cpu: &Cpu, saved: &mut Saved) {
    let work = saved.work("attention/forward", 1.0);
    let Saved { operands, q, kv, lengths, y, lse } = saved;
    let (operands, lengths) = (*operands, lengths.as_ref().map(Tensor::u32));
    cpu.run(work, || match y.dtype() {
        DType::Bf16 => {
            let inputs = Inputs { operands, q: Elements::of(q), kv: Elements::of(kv), lengths };
            bf16::forward(level(), &inputs, y.bf16_mut(), lse.f32_mut());
        }
        _ => cpu::forward(&Inputs { operands, q: q.f32(), kv: kv.f32(), lengths }, y.f32_mut(), lse.f32_mut()),
    });
}

/// Writes the gradients, stored as y is.
pub(super) fn backward(cpu: &Cpu, saved: &Saved, dy: &Tensor, gradients: Outputs<&mut Tensor>) {
    let Saved { operands, q, kv, lengths, y, lse } = saved;
    let (operands, lengths) = (*operands, lengths.as_ref().map(Tensor::u32));
    cpu.run(saved.work("attention/backward", 2.5), || match y.dtype() {
        DType::Bf16 => {
            let inputs = Inputs { operands, q: Elements::of(q), kv: Elements::of(kv), lengths };
            let upstream = bf16::Upstream { lse: lse.f32(), dy: Elements::of(dy) };
            bf16::backward(level(), &inputs, &upstream, gradients.map(Tensor::bf16_mut));
        }
        _ => {
            let inputs = Inputs { operands, q: q.f32(), kv: kv.f32(), lengths };
            let upstream = cpu::Upstream { y: y.f32(), lse: lse.f32(), dy: dy.f32() };
            cpu::backward(&inputs, &upstream, gradients.map(Tensor::f32_mut));
        }
    });
}
