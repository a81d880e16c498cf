//! Devices: any wgpu adapter, or the native CPU.

pub(crate) mod cpu;
pub(crate) mod gpu;
pub(crate) mod pool;
mod request;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use pool::BufferCount;
pub use request::DeviceRequest;

use crate::ops::matmul::Form;
use crate::profile::{Now, Profile, Profiler};
use crate::{KernelError, Pass, Result};

/// Which kind of processor a [`Device`] runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// Native code on this machine's cores.
    Cpu,
    /// WGSL kernels on a wgpu adapter.
    Gpu,
}

/// What `jest devices` prints of one device.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// Native CPU or wgpu adapter.
    pub kind: DeviceKind,
    /// Adapter name as the driver gives it, or `native CPU`.
    pub name: String,
    /// Graphics API and driver, or the number of cores.
    pub driver: String,
    /// True for a GPU that is emulated on the CPU.
    pub software: bool,
    /// Features the kernels can make use of.
    pub features: Vec<&'static str>,
    /// Largest tensor in bytes.
    pub max_tensor_bytes: u64,
    /// Most bytes of a tensor that a kernel sees at once; larger ones are worked on by slices of rows.
    pub max_binding_bytes: u64,
    /// Workgroup memory in bytes; 0 for the CPU device.
    pub workgroup_bytes: u32,
    /// Fewest invocations of a subgroup; 0 where kernels have no subgroups.
    pub subgroup_lanes: u32,
}

/// How the products of linear layers are computed; everything else is f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// In f32.
    #[default]
    F32,
    /// Operands rounded to bf16, sums in f32: on the CPU device, several times faster where the processor has bf16
    /// instructions (`jest devices` names them).
    Bf16,
    /// Operands rounded to f16 and stored so while they are multiplied, sums in f32; beyond 65,504 they are infinite,
    /// so gradients need a scale. By matrix units where a GPU has them (`jest devices` names them).
    F16,
}

impl std::str::FromStr for Precision {
    type Err = KernelError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f32" => Ok(Precision::F32),
            "bf16" => Ok(Precision::Bf16),
            "f16" => Ok(Precision::F16),
            _ => Err(KernelError::UnknownPrecision(text.to_string())),
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        })
    }
}

/// How to open a device.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceOptions {
    /// Threads of the CPU device; 0 takes all cores.
    pub threads: usize,
    /// Fills every new buffer and the guard words behind it with NaN and keeps the driver's bounds checks: for tests.
    pub checked: bool,
    /// How products are computed.
    pub precision: Precision,
    /// Less than a GPU's adapter grants: to leave memory to others, and for tests of what happens on a lesser one.
    pub limits: DeviceLimits,
}

/// Limits below those of a GPU's adapter; `None` leaves the adapter's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceLimits {
    /// Largest tensor in bytes.
    pub tensor_bytes: Option<u64>,
    /// Bytes of a tensor that a kernel sees at once.
    pub binding_bytes: Option<u64>,
    /// Bytes of all tensors together, those kept for reuse included.
    pub memory_bytes: Option<u64>,
    /// Bytes of all tensors and of a copy of one to or from the host beside them.
    pub staged_bytes: Option<u64>,
    /// Workgroups of a dispatch in one dimension.
    pub groups: Option<u32>,
    /// FLOPs of products and attention in one dispatch.
    pub dispatch_flops: Option<u64>,
    /// No subgroups, and so no matrix units.
    pub without_subgroups: bool,
    /// Neither arithmetic in f16 nor the reading of f16.
    pub without_f16: bool,
    /// No clock of the GPU's own.
    pub without_timestamps: bool,
}

/// What an adapter can do beyond what every kernel needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// Emulated on the CPU.
    pub(crate) software: bool,
    /// Timestamps before and after a compute pass.
    pub(crate) timestamps: bool,
    /// Subgroups whose size divides 64.
    pub(crate) subgroups: bool,
    /// Fewest invocations of a subgroup; 0 without.
    pub(crate) lanes: u32,
    /// Workgroup memory.
    pub(crate) workgroup_bytes: u32,
    /// Matrix units of 16 x 16 x 16 for subgroups of 32, f16 in and f32 sums.
    pub(crate) matrices: bool,
}

#[derive(Debug)]
pub(crate) enum Backend {
    Cpu(cpu::Cpu),
    Gpu(Box<gpu::Gpu>),
}

/// A processor that runs operations; clones share it.
///
/// ```
/// use jest_kernels::{Device, DeviceOptions, DeviceRequest};
/// let device = Device::open(&DeviceRequest::Cpu, DeviceOptions::default())?;
/// assert_eq!(device.info().name, "native CPU");
/// # Ok::<(), jest_kernels::KernelError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Device(Arc<Backend>);

impl Device {
    /// Opens what `request` names: the best real GPU or else the CPU for `auto`.
    ///
    /// # Errors
    /// `NoAdapter` when a GPU is asked for and none answers; `Unsupported` when the adapter lacks what every kernel
    /// needs, or bf16 is asked for; `Open` when the driver refuses; `Threads` when the CPU's thread pool cannot start.
    pub fn open(request: &DeviceRequest, options: DeviceOptions) -> Result<Device> {
        let cpu = |options| Ok(Backend::Cpu(cpu::Cpu::open(options)?));
        let backend = match request {
            DeviceRequest::Cpu => cpu(options),
            DeviceRequest::Auto => {
                // An adapter that cannot run the kernels is passed over: `auto` always finds a device.
                let opened = request::real_gpus().into_iter().find_map(|adapter| gpu::Gpu::open(adapter, options).ok());
                opened.map_or_else(|| cpu(options), |gpu| Ok(Backend::Gpu(Box::new(gpu))))
            }
            other => Ok(Backend::Gpu(Box::new(gpu::Gpu::open(other.adapter()?, options)?))),
        }?;
        Ok(Device(Arc::new(backend)))
    }

    /// Every device of this machine, in the order that `gpu:N` counts, the CPU last.
    pub fn list() -> Vec<DeviceInfo> {
        let mut all: Vec<_> = request::adapters().iter().map(gpu::describe).collect();
        all.push(cpu::describe());
        all
    }

    /// Name, driver, features and limits.
    pub fn info(&self) -> DeviceInfo {
        match self.backend() {
            Backend::Cpu(_) => cpu::describe(),
            Backend::Gpu(gpu) => gpu.info().clone(),
        }
    }

    /// Threads that the CPU device computes with; 1 on a GPU.
    pub fn threads(&self) -> usize {
        match self.backend() {
            Backend::Cpu(cpu) => cpu.threads(),
            Backend::Gpu(_) => 1,
        }
    }

    /// How this device computes products.
    pub fn precision(&self) -> Precision {
        match self.backend() {
            Backend::Cpu(cpu) => cpu.precision,
            Backend::Gpu(gpu) => gpu.precision,
        }
    }

    /// Runs `call` on one of the CPU device's threads, where operations begin without being handed to another; on a GPU, here.
    ///
    /// Worth it around anything of many operations: a hand-over takes about as long as a small operation.
    pub fn enter<R: Send>(&self, call: impl FnOnce() -> R + Send) -> R {
        match self.backend() {
            Backend::Cpu(cpu) => cpu.enter(call),
            Backend::Gpu(_) => call(),
        }
    }

    /// Starts recording operations.
    pub fn pass(&self) -> Pass {
        Pass::new(self.clone())
    }

    /// Names of the kernels that ran on this GPU so far, each with its constants; empty on the CPU device.
    pub fn kernels_run(&self) -> Vec<String> {
        match self.backend() {
            Backend::Cpu(_) => Vec::new(),
            Backend::Gpu(gpu) => gpu.kernels_run(),
        }
    }

    /// Buffers that tensors were given so far.
    pub fn buffers(&self) -> BufferCount {
        match self.backend() {
            Backend::Cpu(cpu) => cpu.buffers(),
            Backend::Gpu(gpu) => gpu.buffers(),
        }
    }

    /// Name that [`Device::compiled_pipelines`] is kept under, an adapter each; `None` where the driver keeps no such thing.
    pub fn pipeline_cache_key(&self) -> Option<&str> {
        match self.backend() {
            Backend::Cpu(_) => None,
            Backend::Gpu(gpu) => gpu.pipeline_cache_key(),
        }
    }

    /// Lets kernels be made from what an earlier process compiled, `None` in the first, before any of them runs. What
    /// another version of the driver wrote is passed over.
    ///
    /// # Safety
    /// The bytes are what [`Device::compiled_pipelines`] gave under the same key: drivers need not check them.
    pub unsafe fn load_pipelines(&self, compiled: Option<&[u8]>) {
        if let Backend::Gpu(gpu) = self.backend() {
            // SAFETY: as the caller promises.
            unsafe { gpu.load_pipelines(compiled) };
        }
    }

    /// All kernels compiled so far and those loaded, for the next process; `None` without [`Device::load_pipelines`].
    pub fn compiled_pipelines(&self) -> Option<Vec<u8>> {
        match self.backend() {
            Backend::Cpu(_) => None,
            Backend::Gpu(gpu) => gpu.compiled_pipelines(),
        }
    }

    /// Class and tile of each choice that [`Device::use_tiles`] takes for an [m, n] product over k; none on the CPU device.
    pub fn tile_choices(&self, form: Form, [m, n, k]: [usize; 3]) -> Vec<(String, &'static str)> {
        match self.backend() {
            Backend::Cpu(_) => Vec::new(),
            Backend::Gpu(gpu) => crate::ops::matmul::tuning::choices(gpu, form, [m, n, k]),
        }
    }

    /// From now on, times the tiles of a matrix product when a class of shapes is met first, and takes the fastest of
    /// those that gave the same bits. No class is begun after three seconds of it. Nothing on the CPU device.
    pub fn start_tuning(&self, now: Now) {
        if let Backend::Gpu(gpu) = self.backend() {
            gpu.tuning().now = Some(now);
        }
    }

    /// Takes these tiles, as [`Device::tiles`] gave them, for their classes of shapes; what another adapter or driver chose, and what
    /// this device does not know or cannot do, is passed over.
    pub fn use_tiles(&self, tiles: BTreeMap<String, String>) {
        if let Backend::Gpu(gpu) = self.backend() {
            let own = crate::ops::matmul::tuning::of_adapter(gpu.info());
            gpu.tuning().tiles.extend(tiles.into_iter().filter(|(class, _)| class.ends_with(&own)));
        }
    }

    /// The tile of each class of shapes that was timed, or given to [`Device::use_tiles`].
    pub fn tiles(&self) -> BTreeMap<String, String> {
        match self.backend() {
            Backend::Cpu(_) => BTreeMap::new(),
            Backend::Gpu(gpu) => gpu.tuning().tiles.clone(),
        }
    }

    /// Takes the time of every kernel from now on: by the GPU's own clock where it has one, else each is waited for.
    pub fn start_profile(&self, now: Now) {
        self.profiler().start(now);
    }

    /// What ran since [`Device::start_profile`]; empty when no profile was started.
    pub fn stop_profile(&self) -> Profile {
        if let Backend::Gpu(gpu) = self.backend() {
            gpu.book_times();
        }
        self.profiler().stop()
    }

    fn profiler(&self) -> &Profiler {
        match self.backend() {
            Backend::Cpu(cpu) => &cpu.profiler,
            Backend::Gpu(gpu) => &gpu.profiler,
        }
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.0
    }
}
