//! A wgpu adapter: pipelines by name, buffers by size class, and one ordered command stream.

mod buffer;
mod pipelines;
mod stream;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

pub(crate) use buffer::{GpuBuffer, Reading};

use super::pool::{BufferCount, Pool};
use super::{Abilities, DeviceInfo, DeviceKind, DeviceOptions, Precision};
use crate::profile::Profiler;
use crate::{KernelError, Result};

/// Longest wait for one submission before it is taken for lost.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes of kernel parameters; what Vulkan guarantees.
const IMMEDIATE_BYTES: u32 = 128;

/// What the driver reported outside of any call: the first error, or the reason for the loss of the device.
#[derive(Debug, Default)]
struct Faults {
    error: Mutex<Option<String>>,
    lost: Mutex<Option<String>>,
}

/// One opened adapter.
#[derive(Debug)]
pub(crate) struct Gpu {
    info: DeviceInfo,
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipelines: pipelines::Pipelines,
    stream: Mutex<stream::Stream>,
    free: Arc<Pool<wgpu::Buffer>>,
    faults: Arc<Faults>,
    checked: bool,
    abilities: Abilities,
    pub(crate) precision: Precision,
    /// Whether this adapter's matrix units gave the products that they should, once that was tried.
    pub(crate) matrices_agree: OnceLock<bool>,
    pub(crate) profiler: Profiler,
}

impl Gpu {
    pub(crate) fn open(adapter: wgpu::Adapter, options: DeviceOptions) -> Result<Self> {
        let info = describe(&adapter);
        let unsupported =
            |missing: &str| KernelError::Unsupported { adapter: info.name.clone(), missing: missing.to_string() };
        if options.precision == Precision::Bf16 {
            return Err(unsupported("products in bf16, which are the CPU device's (on a GPU: --precision f16)"));
        }
        let halves = adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::SHADER_F16_IN_F32);
        if options.precision == Precision::F16 && !halves {
            return Err(unsupported("the reading of f16 (--precision f32 needs none)"));
        }
        if !adapter.features().contains(wgpu::Features::IMMEDIATES) {
            return Err(unsupported("immediates (push constants)"));
        }
        let mut limits = adapter.limits();
        if limits.max_immediate_size < IMMEDIATE_BYTES {
            return Err(unsupported("128 bytes of immediates"));
        }
        limits.max_immediate_size = IMMEDIATE_BYTES;
        let abilities = abilities(&adapter, options.precision);
        let mut wanted = wgpu::Features::IMMEDIATES | wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP;
        let mut experimental = wgpu::ExperimentalFeatures::disabled();
        if abilities.matrices {
            wanted |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
            // SAFETY: the only experimental feature asked for is cooperative matrices; their kernels load from and store
            // to workgroup memory alone, within its bounds, by whole subgroups of 32.
            experimental = unsafe { wgpu::ExperimentalFeatures::enabled() };
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("jest"),
            required_features: adapter.features() & wanted,
            required_limits: limits,
            experimental_features: experimental,
            memory_hints: wgpu::MemoryHints::Performance,
            trace: wgpu::Trace::Off,
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|source| KernelError::Open { adapter: info.name.clone(), source })?;
        let faults = Arc::<Faults>::default();
        let seen = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| remember(&seen.error, error.to_string())));
        let seen = faults.clone();
        device.set_device_lost_callback(move |reason, message| remember(&seen.lost, format!("{reason:?}: {message}")));
        let stream = Mutex::new(stream::Stream::new(info.software));
        let pipelines = pipelines::Pipelines::new(options.checked);
        Ok(Self {
            info,
            device,
            queue,
            pipelines,
            stream,
            free: Arc::default(),
            faults,
            checked: options.checked,
            abilities,
            precision: options.precision,
            matrices_agree: OnceLock::new(),
            profiler: Profiler::default(),
        })
    }

    pub(crate) fn info(&self) -> &DeviceInfo {
        &self.info
    }

    pub(crate) fn buffers(&self) -> BufferCount {
        self.free.count()
    }

    pub(crate) fn abilities(&self) -> Abilities {
        self.abilities
    }

    pub(crate) fn kernels_run(&self) -> Vec<String> {
        self.pipelines.names()
    }

    /// The first thing that went wrong since the last call, as an error.
    fn check(&self) -> Result<()> {
        if let Some(reason) = self.faults.lost.lock().ok().and_then(|lost| lost.clone()) {
            return Err(KernelError::Lost { adapter: self.info.name.clone(), reason });
        }
        match self.faults.error.lock().ok().and_then(|mut error| error.take()) {
            Some(reason) => Err(KernelError::Gpu { reason }),
            None => Ok(()),
        }
    }

    /// Submits what is recorded, without waiting for it.
    pub(crate) fn submit(&self) -> Result<()> {
        self.with_stream(|stream| stream.submit(&self.queue));
        self.check()
    }

    /// Submits what is recorded and waits until the device has done it.
    pub(crate) fn wait(&self) -> Result<()> {
        self.submit()?;
        let newest = self.with_stream(|stream| stream.ticket());
        self.wait_for(newest)
    }

    /// Waits for all submissions up to one, each with the full patience.
    fn wait_for(&self, ticket: stream::Ticket) -> Result<()> {
        while let Some((oldest, index)) = self.with_stream(|stream| stream.oldest_up_to(ticket)) {
            let one = wgpu::PollType::Wait { submission_index: Some(index), timeout: Some(PATIENCE) };
            let waited = self.device.poll(one);
            self.check()?;
            if let Err(error) = waited {
                return Err(self.lost(&error));
            }
            self.with_stream(|stream| stream.done(oldest));
        }
        Ok(())
    }

    fn lost(&self, reason: &dyn std::fmt::Display) -> KernelError {
        KernelError::Lost { adapter: self.info.name.clone(), reason: reason.to_string() }
    }

    fn with_stream<R>(&self, work: impl FnOnce(&mut stream::Stream) -> R) -> R {
        let mut stream = self.stream.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        work(&mut stream)
    }
}

fn remember(slot: &Mutex<Option<String>>, text: String) {
    if let Ok(mut slot) = slot.lock() {
        slot.get_or_insert(text);
    }
}

/// What an adapter can do for products in a precision; matrix units, an experimental feature, are for f16 alone.
fn abilities(adapter: &wgpu::Adapter, precision: Precision) -> Abilities {
    let (info, features) = (adapter.get_info(), adapter.features());
    let units = features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16)
        && adapter.cooperative_matrix_properties().iter().any(|unit| {
            let sides = [unit.m_size, unit.n_size, unit.k_size];
            let types = (unit.ab_type, unit.cr_type);
            sides == [16; 3] && types == (wgpu::CooperativeScalarType::F16, wgpu::CooperativeScalarType::F32)
        });
    let subgroups = features.contains(wgpu::Features::SUBGROUP);
    Abilities {
        software: info.device_type == wgpu::DeviceType::Cpu,
        subgroups: subgroups && info.subgroup_max_size <= 64,
        lanes: if subgroups { info.subgroup_min_size } else { 0 },
        matrices: precision == Precision::F16
            && subgroups
            && units
            && (info.subgroup_min_size, info.subgroup_max_size) == (32, 32),
    }
}

/// An adapter as `jest devices` lists it.
pub(crate) fn describe(adapter: &wgpu::Adapter) -> DeviceInfo {
    let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
    let named = [
        (wgpu::Features::SHADER_F16, "f16"),
        (wgpu::Features::SUBGROUP, "subgroups"),
        (wgpu::Features::TIMESTAMP_QUERY, "timestamps"),
        (wgpu::Features::IMMEDIATES, "immediates"),
    ];
    DeviceInfo {
        kind: DeviceKind::Gpu,
        name: info.name,
        driver: format!("{} {} {}", info.backend, info.driver, info.driver_info),
        software: info.device_type == wgpu::DeviceType::Cpu,
        features: named
            .iter()
            .filter(|(feature, _)| features.contains(*feature))
            .map(|(_, name)| *name)
            .chain(abilities(adapter, Precision::F16).matrices.then_some("cooperative-matrix"))
            .collect(),
        max_tensor_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
        workgroup_bytes: limits.max_compute_workgroup_storage_size,
        subgroup_lanes: abilities(adapter, Precision::F16).lanes,
    }
}
