//! Devices, tensors, and every operation that training an image-text model needs.
//!
//! Each operation is written three times: a WGSL kernel for any GPU that wgpu reaches, a native form for the CPU
//! device, and a naive f64 oracle that the tests hold both against. Code above this crate is written once, for
//! [`Device`].
//!
//! ```
//! use jest_kernels::{Device, DeviceOptions, DeviceRequest, ops::matmul};
//!
//! let device = Device::open(&DeviceRequest::Cpu, DeviceOptions::default())?;
//! let mut pass = device.pass();
//! let x = pass.upload(&[1.0, 2.0, 3.0, 4.0], &[2, 2])?;
//! let w = pass.upload(&[1.0, 0.0, 1.0, 1.0], &[2, 2])?;
//! let y = matmul::forward(&mut pass, matmul::Form::ABt, &x, &w)?;
//! assert_eq!(pass.read(&y)?, [1.0, 3.0, 3.0, 7.0]);
//! # Ok::<(), jest_kernels::KernelError>(())
//! ```

mod bf16;
pub mod catalog;
mod device;
mod error;
mod grid;
pub mod numerics;
pub mod ops;
mod pass;
mod profile;
mod rows;
mod simd;
mod stripes;
mod tensor;
pub mod testing;

pub use device::{BufferCount, Device, DeviceInfo, DeviceKind, DeviceLimits, DeviceOptions, DeviceRequest, Precision};
pub use error::{KernelError, Result};
pub use grid::Grid;
pub use pass::{Pass, Pending};
pub use profile::{KernelTime, Now, Profile, Span};
pub use tensor::{DType, Tensor};
