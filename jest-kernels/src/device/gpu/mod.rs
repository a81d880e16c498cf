//! A wgpu adapter: pipelines by name, buffers by size class, and one ordered command stream.

mod adapter;
mod buffer;
mod pipelines;
mod stream;
mod timestamps;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

pub(crate) use adapter::describe;
pub(crate) use buffer::{GpuBuffer, Part, Reading};

use super::pool::{BufferCount, Pool};
use super::{Abilities, DeviceInfo, DeviceLimits, DeviceOptions, Precision};
use crate::ops::matmul::tuning::Tuning;
use crate::profile::Profiler;
use crate::{Grid, KernelError, Result};

/// Longest wait for one submission before it is taken for lost.
const PATIENCE: Duration = Duration::from_secs(120);
/// FLOPs after which work goes out, and of one dispatch: none keeps a device busy for about a second, and so no system
/// takes the device back, as some do from one that does not answer for two.
const FLOPS: u64 = 500_000_000_000;

/// What the driver reported outside of any call: the first error, or the reason for the loss of the device.
#[derive(Debug, Default)]
struct Faults {
    error: Mutex<Option<String>>,
    lost: Mutex<Option<String>>,
}

impl Faults {
    /// `Lost` once the device is.
    fn loss(&self, adapter: &str) -> Result<()> {
        let reason = self.lost.lock().ok().and_then(|lost| lost.clone());
        reason.map_or(Ok(()), |reason| Err(KernelError::Lost { adapter: adapter.to_string(), reason }))
    }
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
    limits: DeviceLimits,
    cache_key: Option<String>,
    faults: Arc<Faults>,
    checked: bool,
    abilities: Abilities,
    pub(crate) precision: Precision,
    tuning: Mutex<Tuning>,
    /// Whether this adapter's matrix units gave the products that they should, once that was tried.
    pub(crate) matrices_agree: OnceLock<bool>,
    /// The same of their doubled tiles.
    pub(crate) doubled_tiles_agree: OnceLock<bool>,
    /// The same of attention.
    pub(crate) attention_agrees: OnceLock<bool>,
    pub(crate) profiler: Profiler,
}

impl Gpu {
    pub(crate) fn open(adapter: wgpu::Adapter, options: DeviceOptions) -> Result<Self> {
        let limits = options.limits;
        let mut info = describe(&adapter);
        info.max_tensor_bytes = info.max_tensor_bytes.min(limits.tensor_bytes.unwrap_or(u64::MAX));
        info.max_binding_bytes = info.max_binding_bytes.min(limits.binding_bytes.unwrap_or(u64::MAX));
        let (descriptor, abilities) = adapter::request(&adapter, &options)?;
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|source| KernelError::Open { adapter: info.name.clone(), source })?;
        let cached = device.features().contains(wgpu::Features::PIPELINE_CACHE);
        let faults = Arc::<Faults>::default();
        let seen = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| remember(&seen.error, error.to_string())));
        let seen = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            remember(&seen.lost, format!("{reason:?} {message}").trim().to_string());
        });
        let stream = Mutex::new(stream::Stream::new(info.software));
        let pipelines = pipelines::Pipelines::new(options.checked);
        Ok(Self {
            info,
            device,
            queue,
            pipelines,
            stream,
            free: Arc::default(),
            limits,
            cache_key: wgpu::util::pipeline_cache_key(&adapter.get_info()).filter(|_| cached),
            faults,
            checked: options.checked,
            abilities,
            precision: options.precision,
            tuning: Mutex::default(),
            matrices_agree: OnceLock::new(),
            doubled_tiles_agree: OnceLock::new(),
            attention_agrees: OnceLock::new(),
            profiler: Profiler::default(),
        })
    }

    pub(crate) fn info(&self) -> &DeviceInfo {
        &self.info
    }

    pub(crate) fn buffers(&self) -> BufferCount {
        self.free.count()
    }

    /// Bytes of a binding, in whole words; the kernels count them in 32 bits.
    pub(crate) fn binding_limit(&self) -> u64 {
        self.info.max_binding_bytes.min(u64::from(u32::MAX)) / 4 * 4
    }

    /// Bytes that bindings begin at multiples of: a power of two.
    pub(crate) fn offset_alignment(&self) -> usize {
        self.device.limits().min_storage_buffer_offset_alignment as usize
    }

    /// Workgroups of a dispatch in one dimension.
    pub(crate) fn group_limit(&self) -> u32 {
        self.limits.groups.unwrap_or(Grid::LIMIT).min(Grid::LIMIT)
    }

    /// FLOPs of one dispatch.
    pub(crate) fn flop_limit(&self) -> f64 {
        self.limits.dispatch_flops.unwrap_or(FLOPS).min(FLOPS) as f64
    }

    pub(crate) fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// What the driver's form of compiled kernels is kept under; `None` where it has none.
    pub(crate) fn pipeline_cache_key(&self) -> Option<&str> {
        self.cache_key.as_deref()
    }

    /// Lets later pipelines be made from what an earlier process compiled.
    ///
    /// # Safety
    /// `compiled` is what [`Gpu::compiled_pipelines`] gave under the same key.
    pub(crate) unsafe fn load_pipelines(&self, compiled: Option<&[u8]>) {
        if self.cache_key.is_some() {
            let descriptor = wgpu::PipelineCacheDescriptor { label: Some("jest"), data: compiled, fallback: true };
            // SAFETY: as the caller promises; wgpu holds adapter and driver version in the data against this one's.
            self.pipelines.use_cache(unsafe { self.device.create_pipeline_cache(&descriptor) });
        }
    }

    pub(crate) fn compiled_pipelines(&self) -> Option<Vec<u8>> {
        self.pipelines.cached()
    }

    /// Tiles of products that were chosen by timing.
    pub(crate) fn tuning(&self) -> MutexGuard<'_, Tuning> {
        self.tuning.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn kernels_run(&self) -> Vec<String> {
        self.pipelines.names()
    }

    /// The first thing that went wrong since the last call, as an error.
    fn check(&self) -> Result<()> {
        let error = self.faults.error.lock().ok().and_then(|mut error| error.take());
        error.map_or_else(|| self.faults.loss(&self.info.name), |reason| Err(self.failed(&reason)))
    }

    /// What a failure of the driver's is: the loss of the device where it is lost, which only polling tells.
    fn failed(&self, reason: &dyn std::fmt::Display) -> KernelError {
        let polled = unlost(|| self.device.poll(wgpu::PollType::Poll));
        if let Err(lost) = self.faults.loss(&self.info.name) {
            return lost;
        }
        polled.map_or_else(|error| self.lost(&error), |()| KernelError::Gpu { reason: reason.to_string() })
    }

    /// Lets the driver report what is done, and what went wrong.
    fn poll(&self, poll: wgpu::PollType) -> Result<()> {
        let polled = unlost(|| self.device.poll(poll));
        // A wait that fails at once has not told of a loss yet.
        polled.map_err(|error| match self.failed(&error) {
            KernelError::Gpu { .. } => self.lost(&error),
            lost => lost,
        })?;
        self.check()
    }

    /// Submits what is recorded, without waiting for it.
    pub(crate) fn submit(&self) -> Result<()> {
        self.with_stream(|stream| stream.submit(&self.device, &self.queue));
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
            self.poll(wgpu::PollType::Wait { submission_index: Some(index), timeout: Some(PATIENCE) })?;
            self.with_stream(|stream| stream.done(oldest));
        }
        Ok(())
    }

    /// Gives the device up, as a driver does: for tests.
    pub(crate) fn lose(&self) {
        self.device.destroy();
    }

    /// Takes the device for lost from now on.
    fn lost(&self, reason: &dyn std::fmt::Display) -> KernelError {
        remember(&self.faults.lost, reason.to_string());
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

/// Polls; wgpu panics where the driver loses the device meanwhile, and that too is an error here.
fn unlost(poll: impl FnOnce() -> Result<wgpu::PollStatus, wgpu::PollError>) -> Result<(), String> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(poll)) {
        Ok(polled) => polled.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err("the driver failed while it was waited for".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_while_waiting_is_an_error() {
        assert!(unlost(|| Ok(wgpu::PollStatus::QueueEmpty)).is_ok());
        assert!(unlost(|| Err(wgpu::PollError::Timeout)).is_err());
        assert!(unlost(|| panic!("the driver lost the device")).unwrap_err().contains("driver"));
    }
}
