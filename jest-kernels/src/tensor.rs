//! Dense row-major arrays on a device, with value semantics.

use std::sync::Arc;

use crate::device::cpu::CpuBuffer;
use crate::device::gpu::GpuBuffer;
use crate::{Device, KernelError, Pass, Result};

/// Element type of a [`Tensor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 32-bit unsigned integer: token ids, labels, indices.
    U32,
    /// 16-bit IEEE float, two to a word.
    F16,
    /// The upper half of a 32-bit float, two to a word: what feeds products alone, on a CPU device that rounds to it.
    Bf16,
}

impl DType {
    /// 32-bit words that `len` elements take.
    pub(crate) fn words(self, len: usize) -> usize {
        match self {
            DType::F32 | DType::U32 => len,
            DType::F16 | DType::Bf16 => len.div_ceil(2),
        }
    }

    /// Bits of an element.
    pub(crate) fn bits(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 32,
            DType::F16 | DType::Bf16 => 16,
        }
    }
}

/// A dense row-major array on one device.
///
/// A clone shares the elements; an operation that writes into a shared tensor copies it first, so a tensor behaves
/// like a plain value everywhere.
#[derive(Clone, Debug)]
pub struct Tensor {
    shape: Vec<usize>,
    dtype: DType,
    storage: Storage,
}

#[derive(Clone, Debug)]
pub(crate) enum Storage {
    Cpu(Arc<CpuBuffer>),
    Gpu(Arc<GpuBuffer>),
}

impl Tensor {
    pub(crate) fn new(shape: &[usize], dtype: DType, storage: Storage) -> Self {
        Self { shape: shape.to_vec(), dtype, storage }
    }

    /// Sizes, slowest axis first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    #[expect(clippy::len_without_is_empty, reason = "a tensor has at least one element")]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Length of the last axis.
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Product of all axes but the last.
    pub fn rows(&self) -> usize {
        self.len() / self.cols()
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// `Shape` when the number of elements differs.
    pub fn reshape(&self, shape: &[usize]) -> Result<Tensor> {
        let len = shape.iter().try_fold(1usize, |len, size| len.checked_mul(*size));
        if shape.is_empty() || len != Some(self.len()) {
            return Err(KernelError::Shape {
                op: "reshape",
                what: "tensor",
                expected: shape.to_vec(),
                got: self.shape.clone(),
            });
        }
        Ok(Tensor { shape: shape.to_vec(), dtype: self.dtype, storage: self.storage.clone() })
    }

    /// Refuses another shape, element type or device.
    pub(crate) fn expect(&self, op: &'static str, what: &'static str, dtype: DType, shape: &[usize]) -> Result<()> {
        if self.dtype != dtype {
            return Err(KernelError::DType { op, what, expected: dtype, got: self.dtype });
        }
        if self.shape != shape {
            return Err(KernelError::Shape { op, what, expected: shape.to_vec(), got: self.shape.clone() });
        }
        Ok(())
    }

    /// Refuses anything but an f32 tensor of `shape`.
    pub(crate) fn expect_f32(&self, op: &'static str, what: &'static str, shape: &[usize]) -> Result<()> {
        self.expect(op, what, DType::F32, shape)
    }

    /// Elements of an f32 tensor on the CPU device.
    pub(crate) fn f32(&self) -> &[f32] {
        &bytemuck::cast_slice(self.cpu().words())[..self.len()]
    }

    /// Elements of a u32 tensor on the CPU device.
    pub(crate) fn u32(&self) -> &[u32] {
        &self.cpu().words()[..self.len()]
    }

    /// Elements of an f16 tensor on the CPU device.
    pub(crate) fn f16(&self) -> &[half::f16] {
        &bytemuck::cast_slice(self.cpu().words())[..self.len()]
    }

    /// Bits of a bf16 tensor on the CPU device.
    pub(crate) fn bf16(&self) -> &[u16] {
        &bytemuck::cast_slice(self.cpu().words())[..self.len()]
    }

    /// Writable elements of an f32 tensor on the CPU device; copies first when shared.
    pub(crate) fn f32_mut(&mut self) -> &mut [f32] {
        let len = self.len();
        &mut bytemuck::cast_slice_mut(self.cpu_mut().words_mut())[..len]
    }

    /// Writable elements of a u32 tensor on the CPU device; copies first when shared.
    pub(crate) fn u32_mut(&mut self) -> &mut [u32] {
        let len = self.len();
        &mut self.cpu_mut().words_mut()[..len]
    }

    /// Writable elements of an f16 tensor on the CPU device; copies first when shared.
    pub(crate) fn f16_mut(&mut self) -> &mut [half::f16] {
        let len = self.len();
        &mut bytemuck::cast_slice_mut(self.cpu_mut().words_mut())[..len]
    }

    /// Writable bits of a bf16 tensor on the CPU device; copies first when shared.
    pub(crate) fn bf16_mut(&mut self) -> &mut [u16] {
        let len = self.len();
        &mut bytemuck::cast_slice_mut(self.cpu_mut().words_mut())[..len]
    }

    fn cpu(&self) -> &CpuBuffer {
        match &self.storage {
            Storage::Cpu(buffer) => buffer,
            Storage::Gpu(_) => unreachable!("Pass::admit lets only CPU tensors into a CPU pass"),
        }
    }

    fn cpu_mut(&mut self) -> &mut CpuBuffer {
        match &mut self.storage {
            Storage::Cpu(buffer) => {
                if Arc::get_mut(buffer).is_none() {
                    *buffer = Arc::new(buffer.duplicate());
                }
                Arc::get_mut(buffer).expect("the buffer was made unique above")
            }
            Storage::Gpu(_) => unreachable!("Pass::admit lets only CPU tensors into a CPU pass"),
        }
    }

    pub(crate) fn gpu(&self) -> &GpuBuffer {
        match &self.storage {
            Storage::Gpu(buffer) => buffer,
            Storage::Cpu(_) => unreachable!("Pass::admit lets only GPU tensors into a GPU pass"),
        }
    }

    /// Makes a GPU tensor the only owner of its buffer, by a recorded copy when it is shared.
    pub(crate) fn gpu_unique(&mut self, pass: &mut Pass) -> Result<()> {
        let shared = match &mut self.storage {
            Storage::Gpu(buffer) => Arc::get_mut(buffer).is_none(),
            Storage::Cpu(_) => false,
        };
        if shared {
            let copy = pass.empty(self.dtype, &self.shape)?;
            pass.copy(self, &copy);
            *self = copy;
        }
        Ok(())
    }

    pub(crate) fn lives_on(&self, device: &Device) -> bool {
        match (&self.storage, device.backend()) {
            (Storage::Cpu(_), crate::device::Backend::Cpu(_)) => true,
            (Storage::Gpu(buffer), crate::device::Backend::Gpu(gpu)) => buffer.belongs_to(gpu),
            _ => false,
        }
    }

    /// Words behind the last element that no operation may touch; only a checked device has them filled.
    pub(crate) fn cpu_guard(&self) -> &[u32] {
        &self.cpu().words()[self.dtype.words(self.len())..]
    }
}
