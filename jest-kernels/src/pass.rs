//! Recording operations on a device.

use rayon::prelude::*;

use crate::device::cpu::Cpu;
use crate::device::gpu::Reading;
use crate::device::{Abilities, Backend};
use crate::profile::Work;
use crate::tensor::Storage;
use crate::{DType, Device, Grid, KernelError, Precision, Result, Tensor};

/// Elements that one task clears.
const ZEROS: usize = 65_536;

/// Records work on a device and submits it together; on the CPU device each operation runs at once.
///
/// All passes of one device share its one ordered stream of commands.
#[derive(Debug)]
pub struct Pass {
    device: Device,
    /// In which products are computed now.
    precision: Precision,
}

/// Values on their way to the host.
#[derive(Debug)]
pub struct Pending(Arriving);

#[derive(Debug)]
enum Arriving {
    Here(Vec<u32>),
    Coming { device: Device, reading: Reading },
}

impl Pass {
    pub(crate) fn new(device: Device) -> Self {
        let precision = device.precision();
        Self { device, precision }
    }

    /// How products are computed now: as the device was opened, or in f32 within [`Pass::in_f32`].
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// How what feeds products alone may be stored: bf16 where they round to it, on the CPU device, else f32.
    pub fn product_operand(&self) -> DType {
        if self.cpu().is_some() && self.precision == Precision::Bf16 { DType::Bf16 } else { DType::F32 }
    }

    /// Records with products in f32 whatever the device's precision: for losses, scores and metrics.
    pub fn in_f32<R>(&mut self, record: impl FnOnce(&mut Pass) -> R) -> R {
        self.in_precision(Precision::F32, record)
    }

    /// Records with products in a precision: one that the device was opened in or can do without, f32 or, on the CPU
    /// device, any.
    pub(crate) fn in_precision<R>(&mut self, precision: Precision, record: impl FnOnce(&mut Pass) -> R) -> R {
        let outside = std::mem::replace(&mut self.precision, precision);
        let result = record(self);
        self.precision = outside;
        result
    }

    /// How many of `count` equal parts of some work one dispatch may take, so that none lasts long: by their FLOPs
    /// alone.
    pub(crate) fn parts_of_a_dispatch(&self, count: usize, flops: f64) -> usize {
        let limit = match self.device.backend() {
            Backend::Cpu(_) => f64::INFINITY,
            Backend::Gpu(gpu) => gpu.flop_limit(),
        };
        ((count as f64 * (limit / flops)) as usize).clamp(1, count.max(1))
    }

    /// Bytes of a binding.
    pub(crate) fn binding_limit(&self) -> u64 {
        match self.device.backend() {
            Backend::Cpu(_) => u64::MAX,
            Backend::Gpu(gpu) => gpu.binding_limit(),
        }
    }

    /// Workgroups that a dispatch may have in one dimension.
    pub(crate) fn group_limit(&self) -> u32 {
        match self.device.backend() {
            Backend::Cpu(_) => Grid::LIMIT,
            Backend::Gpu(gpu) => gpu.group_limit(),
        }
    }

    /// What the adapter can do; nothing more on the CPU device.
    pub(crate) fn abilities(&self) -> Abilities {
        match self.device.backend() {
            Backend::Cpu(_) => Abilities::default(),
            Backend::Gpu(gpu) => gpu.abilities(),
        }
    }

    /// The device that this pass records for.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A tensor with the given f32 elements.
    ///
    /// # Errors
    /// `Shape` when the number of elements differs from the shape's; `TooLarge` over the device's limit.
    pub fn upload(&mut self, values: &[f32], shape: &[usize]) -> Result<Tensor> {
        self.upload_words(bytemuck::cast_slice(values), shape, DType::F32)
    }

    /// A tensor with the given u32 elements.
    ///
    /// # Errors
    /// As [`Pass::upload`].
    pub fn upload_u32(&mut self, values: &[u32], shape: &[usize]) -> Result<Tensor> {
        self.upload_words(values, shape, DType::U32)
    }

    fn upload_words(&mut self, words: &[u32], shape: &[usize], dtype: DType) -> Result<Tensor> {
        if shape.iter().try_fold(1usize, |len, size| len.checked_mul(*size)) != Some(words.len()) {
            let (expected, got) = (shape.to_vec(), vec![words.len()]);
            return Err(KernelError::Shape { op: "upload", what: "values", expected, got });
        }
        let mut tensor = self.empty(dtype, shape)?;
        match self.device.backend() {
            Backend::Cpu(_) => tensor.u32_mut().copy_from_slice(words),
            Backend::Gpu(gpu) => gpu.upload(tensor.gpu(), words)?,
        }
        Ok(tensor)
    }

    /// An f32 tensor of zeros.
    ///
    /// # Errors
    /// `TooLarge` over the device's limit.
    pub fn zeros(&mut self, shape: &[usize]) -> Result<Tensor> {
        let mut tensor = self.empty(DType::F32, shape)?;
        match self.device.backend() {
            Backend::Cpu(cpu) => {
                let values = tensor.f32_mut();
                let work = Work::words("zeros", values.len());
                cpu.run(work, || values.par_chunks_mut(ZEROS).for_each(|values| values.fill(0.0)));
            }
            Backend::Gpu(gpu) => gpu.clear(tensor.gpu(), DType::F32.words(tensor.len())),
        }
        Ok(tensor)
    }

    /// A tensor with unspecified contents, for an operation that writes every element.
    pub(crate) fn empty(&mut self, dtype: DType, shape: &[usize]) -> Result<Tensor> {
        let len = shape
            .iter()
            .try_fold(1usize, |len, size| len.checked_mul(*size))
            .filter(|len| *len <= isize::MAX as usize / 8);
        let Some(len) = len else {
            return Err(KernelError::TooLarge { shape: shape.to_vec(), bytes: u64::MAX, limit: isize::MAX as u64 });
        };
        if len == 0 || shape.is_empty() {
            let (expected, got) = (vec![1], shape.to_vec());
            return Err(KernelError::Shape { op: "allocate", what: "tensor without elements", expected, got });
        }
        let storage = match self.device.backend() {
            Backend::Cpu(cpu) => Storage::Cpu(cpu.allocate(dtype.words(len)).into()),
            Backend::Gpu(gpu) => Storage::Gpu(gpu.allocate(shape, dtype.words(len))?.into()),
        };
        Ok(Tensor::new(shape, dtype, storage))
    }

    /// An f32 tensor with unspecified contents.
    pub(crate) fn empty_f32(&mut self, shape: &[usize]) -> Result<Tensor> {
        self.empty(DType::F32, shape)
    }

    /// Overwrites `to` with the elements of `from`; both have the same shape and live on this pass's GPU.
    pub(crate) fn copy(&mut self, from: &Tensor, to: &Tensor) {
        if let Backend::Gpu(gpu) = self.device.backend() {
            gpu.copy(from.gpu(), to.gpu(), 0, from.dtype().words(from.len()));
        }
    }

    /// Writes all rows of `from` into `to`, starting at its row `first`.
    ///
    /// # Shapes
    /// from: [m, d]; to: [n, d] with `first + m <= n`; both f32.
    ///
    /// # Errors
    /// `Shape` when they do not fit.
    pub fn copy_rows(&mut self, from: &Tensor, to: &mut Tensor, first: usize) -> Result<()> {
        const OP: &str = "copy_rows";
        self.admit(OP, &[("from", from), ("to", to)])?;
        from.expect_f32(OP, "from", from.shape())?;
        to.expect_f32(OP, "to", to.shape())?;
        if from.cols() != to.cols() || first + from.rows() > to.rows() {
            let (expected, got) = (vec![first + from.rows(), from.cols()], vec![to.rows(), to.cols()]);
            return Err(KernelError::Shape { op: OP, what: "to", expected, got });
        }
        let start = first * from.cols();
        to.gpu_unique(self)?;
        match self.device.backend() {
            Backend::Cpu(_) => to.f32_mut()[start..start + from.len()].copy_from_slice(from.f32()),
            Backend::Gpu(gpu) => gpu.copy(from.gpu(), to.gpu(), start, from.len()),
        }
        Ok(())
    }

    /// Refuses tensors of another device.
    pub(crate) fn admit(&self, op: &'static str, tensors: &[(&'static str, &Tensor)]) -> Result<()> {
        match tensors.iter().find(|(_, tensor)| !tensor.lives_on(&self.device)) {
            Some((what, _)) => Err(KernelError::OtherDevice { op, what }),
            None => Ok(()),
        }
    }

    /// The CPU device, or `None` when the operation is to be dispatched as a kernel.
    pub(crate) fn cpu(&self) -> Option<&Cpu> {
        match self.device.backend() {
            Backend::Cpu(cpu) => Some(cpu),
            Backend::Gpu(_) => None,
        }
    }

    /// Starts copying an f32 tensor to the host without stalling the device.
    ///
    /// # Errors
    /// `DType` unless it is f32; `OtherDevice`.
    pub fn read_later(&mut self, tensor: &Tensor) -> Result<Pending> {
        tensor.expect_f32("read", "tensor", tensor.shape())?;
        self.read_words_later(tensor)
    }

    fn read_words_later(&mut self, tensor: &Tensor) -> Result<Pending> {
        self.admit("read", &[("tensor", tensor)])?;
        let words = tensor.dtype().words(tensor.len());
        Ok(Pending(match (self.device.backend(), tensor.dtype()) {
            (Backend::Cpu(_), DType::F16) => Arriving::Here(pack(tensor.f16())),
            (Backend::Cpu(_), _) => Arriving::Here(tensor.u32().to_vec()),
            (Backend::Gpu(gpu), _) => {
                let reading = gpu.start_reading(tensor.gpu(), words as u64)?;
                Arriving::Coming { device: self.device.clone(), reading }
            }
        }))
    }

    /// The elements of an f32 tensor, once all recorded work is done.
    ///
    /// # Errors
    /// `Gpu` or `Lost` when the recorded work failed.
    pub fn read(&mut self, tensor: &Tensor) -> Result<Vec<f32>> {
        self.read_later(tensor)?.wait()
    }

    /// The elements of a u32 tensor, once all recorded work is done.
    ///
    /// # Errors
    /// As [`Pass::read`].
    pub fn read_u32(&mut self, tensor: &Tensor) -> Result<Vec<u32>> {
        tensor.expect("read", "tensor", DType::U32, tensor.shape())?;
        self.read_words_later(tensor)?.wait_words()
    }

    /// The elements of an f16 tensor, once all recorded work is done.
    ///
    /// # Errors
    /// As [`Pass::read`].
    pub fn read_f16(&mut self, tensor: &Tensor) -> Result<Vec<half::f16>> {
        tensor.expect("read", "tensor", DType::F16, tensor.shape())?;
        let words = self.read_words_later(tensor)?.wait_words()?;
        let halves = words.iter().flat_map(|word| [*word as u16, (word >> 16) as u16]).map(half::f16::from_bits);
        Ok(halves.take(tensor.len()).collect())
    }

    /// Hands the recorded work to the device without waiting.
    ///
    /// # Errors
    /// `Gpu` or `Lost` when earlier work failed.
    pub fn submit(&mut self) -> Result<()> {
        match self.device.backend() {
            Backend::Cpu(_) => Ok(()),
            Backend::Gpu(gpu) => gpu.submit(),
        }
    }

    /// Hands the recorded work to the device and waits until it is done.
    ///
    /// # Errors
    /// `Gpu` or `Lost` when the recorded work failed.
    pub fn wait(&mut self) -> Result<()> {
        match self.device.backend() {
            Backend::Cpu(_) => Ok(()),
            Backend::Gpu(gpu) => gpu.wait(),
        }
    }
}

impl Pending {
    /// The f32 elements, waiting for the device if they have not arrived.
    ///
    /// # Errors
    /// `Gpu` or `Lost` when the recorded work failed.
    pub fn wait(self) -> Result<Vec<f32>> {
        Ok(bytemuck::cast_vec(self.wait_words()?))
    }

    fn wait_words(self) -> Result<Vec<u32>> {
        match self.0 {
            Arriving::Here(words) => Ok(words),
            Arriving::Coming { device, reading } => match device.backend() {
                Backend::Gpu(gpu) => gpu.finish_reading(reading),
                Backend::Cpu(_) => Ok(Vec::new()),
            },
        }
    }
}

fn pack(values: &[half::f16]) -> Vec<u32> {
    values
        .chunks(2)
        .map(|pair| u32::from(pair[0].to_bits()) | u32::from(pair.get(1).map_or(0, |high| high.to_bits())) << 16)
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::testing::{checked_read, on_each_device};

    #[test]
    fn rows_are_copied_where_they_belong_and_clones_stay() {
        on_each_device(|pass| {
            let from = pass.upload(&[1.0, 2.0, 3.0, 4.0], &[2, 2]).unwrap();
            let mut to = pass.zeros(&[4, 2]).unwrap();
            let before = to.clone();
            pass.copy_rows(&from, &mut to, 1).unwrap();
            assert_eq!(checked_read(pass, "to", &to), [0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 0.0, 0.0]);
            assert_eq!(pass.read(&before).unwrap(), [0.0; 8]);
            assert!(pass.copy_rows(&from, &mut to, 3).is_err());
        });
    }

    #[test]
    fn what_is_uploaded_is_read_back() {
        on_each_device(|pass| {
            let ids = pass.upload_u32(&[7, u32::MAX, 0], &[3]).unwrap();
            assert_eq!(pass.read_u32(&ids).unwrap(), [7, u32::MAX, 0]);
            assert!(pass.read(&ids).is_err(), "u32 elements are not f32 values");
            assert!(pass.upload(&[1.0], &[2]).is_err());
            assert!(pass.zeros(&[0]).is_err());
        });
    }
}
