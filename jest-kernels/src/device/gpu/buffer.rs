//! Buffers on a wgpu device: allocation, upload, and reading back.

use std::sync::Arc;

use super::stream::Ticket;
use super::{Gpu, PATIENCE};
use crate::device::cpu::POISON;
use crate::device::pool::{LINE_WORDS, Pool, size_class};
use crate::{KernelError, Result};

/// Words on a wgpu device; returns to its pool when dropped.
///
/// Reuse before the recorded readers have run is safe: all work of a device goes through one ordered stream.
#[derive(Debug)]
pub(crate) struct GpuBuffer {
    raw: wgpu::Buffer,
    pool: Arc<Pool<wgpu::Buffer>>,
}

impl GpuBuffer {
    pub(crate) fn raw(&self) -> &wgpu::Buffer {
        &self.raw
    }

    pub(crate) fn belongs_to(&self, gpu: &Gpu) -> bool {
        Arc::ptr_eq(&self.pool, &gpu.free)
    }
}

/// What a kernel sees of a buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    pub(crate) buffer: &'a GpuBuffer,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl Drop for GpuBuffer {
    fn drop(&mut self) {
        self.pool.give(self.raw.size() as usize / 4, self.raw.clone());
    }
}

/// A copy on its way to the host.
#[derive(Debug)]
pub(crate) struct Reading {
    staging: wgpu::Buffer,
    ticket: Ticket,
}

impl Reading {
    /// What a submission copies into `staging`.
    pub(super) fn new(staging: wgpu::Buffer, ticket: Ticket) -> Self {
        Self { staging, ticket }
    }
}

impl Gpu {
    /// A buffer of at least `words` words with unspecified contents; a checked device fills all of it with NaN.
    pub(crate) fn allocate(&self, shape: &[usize], words: usize) -> Result<GpuBuffer> {
        let guard = if self.checked { LINE_WORDS } else { 0 };
        let (needed, limit) = ((words + guard) as u64 * 4, self.info.max_tensor_bytes);
        if needed > limit {
            return Err(KernelError::TooLarge { shape: shape.to_vec(), bytes: needed, limit });
        }
        // A size class may lie above a limit although the tensor does not.
        let limit = if needed > self.binding_limit() { limit } else { self.binding_limit() };
        let class = size_class(words + guard).min(limit as usize / 64 * LINE_WORDS).max(words + guard);
        let bytes = class as u64 * 4;
        let raw = self.free.reuse(class).map_or_else(|| self.make_with_room(bytes), Ok)?;
        let buffer = GpuBuffer { raw, pool: self.free.clone() };
        if self.checked {
            self.upload(&buffer, &vec![POISON; class])?;
        }
        Ok(buffer)
    }

    /// A new buffer for tensors; where there is no room, the free ones make it.
    fn make_with_room(&self, bytes: u64) -> Result<wgpu::Buffer> {
        match self.make(bytes) {
            Err(KernelError::OutOfMemory { .. }) => {
                self.make_room()?;
                self.make(bytes)
            }
            made => made,
        }
    }

    /// Gives the driver back what no tensor uses.
    fn make_room(&self) -> Result<()> {
        self.pipelines.unbind();
        drop(self.free.drain(wgpu::Buffer::size));
        // What recorded work still uses is given back when that is done.
        self.wait()
    }

    /// A new buffer for one copy to or from the host; where there is no room, the free ones for tensors make it.
    fn stage(&self, descriptor: &wgpu::BufferDescriptor<'_>) -> Result<wgpu::Buffer> {
        let make = || {
            let (bytes, in_use) = (descriptor.size, self.free.count().bytes);
            if self.limits.staged_bytes.is_some_and(|limit| in_use + bytes > limit) {
                return Err(KernelError::OutOfMemory { bytes, in_use });
            }
            self.create(descriptor)
        };
        match make() {
            Err(KernelError::OutOfMemory { .. }) => {
                self.make_room()?;
                make()
            }
            made => made,
        }
    }

    fn make(&self, bytes: u64) -> Result<wgpu::Buffer> {
        let in_use = self.free.count().bytes;
        if self.limits.memory_bytes.is_some_and(|limit| in_use + bytes > limit) {
            return Err(KernelError::OutOfMemory { bytes, in_use });
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let raw =
            self.create(&wgpu::BufferDescriptor { label: None, size: bytes, usage, mapped_at_creation: false })?;
        self.free.made(bytes);
        Ok(raw)
    }

    /// A buffer of the driver's.
    fn create(&self, descriptor: &wgpu::BufferDescriptor<'_>) -> Result<wgpu::Buffer> {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let raw = self.device.create_buffer(descriptor);
        match pollster::block_on(scope.pop()) {
            Some(_) => Err(KernelError::OutOfMemory { bytes: descriptor.size, in_use: self.free.count().bytes }),
            None => Ok(raw),
        }
    }

    /// Records a copy of `words` into the start of `target`.
    pub(crate) fn upload(&self, target: &GpuBuffer, words: &[u32]) -> Result<()> {
        let bytes: &[u8] = bytemuck::cast_slice(words);
        let staging = self.stage(&wgpu::BufferDescriptor {
            label: Some("upload"),
            size: bytes.len() as u64,
            usage: wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: true,
        })?;
        staging.get_mapped_range_mut(..).map_err(|error| self.failed(&error))?.copy_from_slice(bytes);
        staging.unmap();
        self.with_stream(|stream| {
            let encoder = stream.copies(&self.device);
            encoder.copy_buffer_to_buffer(&staging, 0, &target.raw, 0, bytes.len() as u64);
        });
        Ok(())
    }

    /// Records zeros over the whole of `target`.
    pub(crate) fn clear(&self, target: &GpuBuffer, words: usize) {
        self.with_stream(|stream| stream.copies(&self.device).clear_buffer(&target.raw, 0, Some(words as u64 * 4)));
    }

    /// Records a copy of `words` words into `to`, from its word `first` on.
    pub(crate) fn copy(&self, from: &GpuBuffer, to: &GpuBuffer, first: usize, words: usize) {
        let (offset, bytes) = (first as u64 * 4, words as u64 * 4);
        self.with_stream(|stream| {
            stream.copies(&self.device).copy_buffer_to_buffer(&from.raw, 0, &to.raw, offset, bytes);
        });
    }

    /// Records a copy towards the host; [`Gpu::finish_reading`] waits for it.
    pub(crate) fn start_reading(&self, source: &GpuBuffer, words: u64) -> Result<Reading> {
        let staging = self.stage(&wgpu::BufferDescriptor {
            label: Some("read back"),
            size: words * 4,
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        })?;
        let ticket = self.with_stream(|stream| {
            stream.copies(&self.device).copy_buffer_to_buffer(&source.raw, 0, &staging, 0, words * 4);
            stream.ticket()
        });
        Ok(Reading::new(staging, ticket))
    }

    /// The words of a reading, once the device has delivered them.
    pub(crate) fn finish_reading(&self, reading: Reading) -> Result<Vec<u32>> {
        if self.with_stream(|stream| stream.holds(reading.ticket)) {
            self.submit()?;
        }
        self.wait_for(reading.ticket)?;
        // The copy is done; only the mapping itself is left, which later submissions do not hold up. Another thread's
        // poll may be the one that carries it out.
        let (sender, mapped) = std::sync::mpsc::channel();
        reading.staging.slice(..).map_async(wgpu::MapMode::Read, move |result| drop(sender.send(result)));
        self.poll(wgpu::PollType::Poll)?;
        let mapped = mapped.recv_timeout(PATIENCE).map_err(|error| self.lost(&error))?;
        mapped.map_err(|error| self.failed(&error))?;
        let view = reading.staging.get_mapped_range(..).map_err(|error| self.failed(&error))?;
        let words = bytemuck::pod_collect_to_vec(&view);
        drop(view);
        reading.staging.unmap();
        Ok(words)
    }

    /// All words of a buffer, those behind the tensor's last element included.
    pub(crate) fn read_all(&self, source: &GpuBuffer) -> Result<Vec<u32>> {
        let reading = self.start_reading(source, source.raw.size() / 4)?;
        self.finish_reading(reading)
    }
}
