//! The native CPU device: a thread pool, and buffers by size class.

use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use super::pool::{BufferCount, LINE_WORDS, Pool, size_class};
use super::{DeviceInfo, DeviceKind, DeviceOptions, Precision};
use crate::profile::{Profiler, Work};
use crate::{KernelError, Result};

/// What a checked device writes into every word that nothing has written yet: a NaN with a mark.
pub(crate) const POISON: u32 = 0x7fc0_dead;

/// A cache line, so that buffers are aligned for the widest vectors.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u32; LINE_WORDS]);

/// Words on the CPU device; returns to its pool when dropped.
#[derive(Debug)]
pub(crate) struct CpuBuffer {
    lines: Vec<Line>,
    pool: Arc<Pool<Vec<Line>>>,
}

impl CpuBuffer {
    /// All words of the size class, those behind the tensor's last element included.
    pub(crate) fn words(&self) -> &[u32] {
        bytemuck::cast_slice(&self.lines)
    }

    /// Writable words.
    pub(crate) fn words_mut(&mut self) -> &mut [u32] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }

    /// Another buffer with the same words.
    pub(crate) fn duplicate(&self) -> Self {
        let mut lines = take(&self.pool, self.lines.len());
        lines.copy_from_slice(&self.lines);
        Self { lines, pool: self.pool.clone() }
    }
}

impl Drop for CpuBuffer {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        self.pool.give(lines.len(), lines);
    }
}

/// So many lines with unspecified contents.
fn take(pool: &Pool<Vec<Line>>, lines: usize) -> Vec<Line> {
    pool.take(lines, lines * size_of::<Line>()).unwrap_or_else(|| {
        let mut made = Vec::with_capacity(lines);
        in_large_pages(&made);
        made.resize(lines, Line::zeroed());
        made
    })
}

/// Asks for pages of 2 MiB where there is room for some: kernels walk a matrix by rows, each in a page of its own, and a
/// processor knows few addresses of small ones.
fn in_large_pages(buffer: &Vec<Line>) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        const ROOM: usize = 4 << 20;
        let bytes = buffer.capacity() * size_of::<Line>();
        if bytes >= ROOM {
            let start = buffer.as_ptr().cast::<u8>();
            let skip = start.align_offset(PAGE);
            // Where pages are larger than this, the call may be refused.
            // SAFETY: whole pages inside of the buffer; the call changes no contents, and a refusal changes nothing.
            unsafe {
                libc::madvise(start.add(skip).cast_mut().cast(), (bytes - skip) / PAGE * PAGE, libc::MADV_HUGEPAGE)
            };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = buffer;
}

/// Threads and buffers of the CPU device.
#[derive(Debug)]
pub(crate) struct Cpu {
    threads: rayon::ThreadPool,
    pool: Arc<Pool<Vec<Line>>>,
    checked: bool,
    pub(crate) precision: Precision,
    pub(crate) profiler: Profiler,
}

impl Cpu {
    pub(crate) fn open(options: DeviceOptions) -> Result<Self> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .thread_name(|index| format!("jest-cpu-{index}"))
            .build()
            .map_err(|source| KernelError::Threads { threads: options.threads, source })?;
        let DeviceOptions { checked, precision, .. } = options;
        Ok(Self { threads, pool: Arc::default(), checked, precision, profiler: Profiler::default() })
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads.current_num_threads()
    }

    /// What was allocated so far.
    pub(crate) fn buffers(&self) -> BufferCount {
        self.pool.count()
    }

    /// A buffer of at least `words` words with unspecified contents.
    pub(crate) fn allocate(&self, words: usize) -> CpuBuffer {
        let guard = if self.checked { LINE_WORDS } else { 0 };
        let lines = size_class(words + guard) / LINE_WORDS;
        let mut lines = take(&self.pool, lines);
        if self.checked {
            lines.fill(Line([POISON; LINE_WORDS]));
        }
        CpuBuffer { lines, pool: self.pool.clone() }
    }

    /// Runs `call` where rayon's parallel iterators use this device's threads.
    pub(crate) fn run<R: Send>(&self, work: Work, call: impl FnOnce() -> R + Send) -> R {
        self.profiler.time(work, || self.enter(call))
    }

    /// Runs `call` on one of this device's threads; at once where this is one.
    pub(crate) fn enter<R: Send>(&self, call: impl FnOnce() -> R + Send) -> R {
        self.threads.install(call)
    }
}

/// The CPU device as `jest devices` lists it.
pub(crate) fn describe() -> DeviceInfo {
    let features = crate::simd::features();
    DeviceInfo {
        kind: DeviceKind::Cpu,
        name: "native CPU".to_string(),
        driver: format!("{} cores", std::thread::available_parallelism().map_or(1, usize::from)),
        software: false,
        features,
        max_tensor_bytes: isize::MAX as u64,
        max_binding_bytes: isize::MAX as u64,
        workgroup_bytes: 0,
        subgroup_lanes: 0,
    }
}
