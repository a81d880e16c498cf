//! Times of dispatches by the GPU's own clock, read when they are asked for: nothing is waited for in between.

use std::time::Duration;

use super::buffer::Reading;
use super::{Gpu, remember, stream};
use crate::Result;
use crate::profile::Work;

/// Dispatches that one set of queries holds: a submission has no more.
const CAPACITY: usize = stream::DISPATCH_BUDGET;
/// Bytes of a timestamp.
const STAMP: u64 = 8;

/// Dispatches of the submission that is recorded, each between two timestamps.
///
/// One set of queries serves all submissions, as each resolves it before the next begins: adapters have few of them.
#[derive(Debug)]
pub(super) struct Timed {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    works: Vec<Work>,
}

/// The timestamps of a submission, on their way to the host.
#[derive(Debug)]
pub(super) struct Times {
    works: Vec<Work>,
    reading: Reading,
}

impl Timed {
    pub(super) fn new(device: &wgpu::Device) -> Self {
        let count = 2 * CAPACITY as u32;
        Self {
            queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("times"),
                ty: wgpu::QueryType::Timestamp,
                count,
            }),
            resolved: buffer(device, count, wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
            works: Vec::new(),
        }
    }

    /// A compute pass of its own for one dispatch.
    pub(super) fn begin<'a>(&mut self, encoder: &'a mut wgpu::CommandEncoder, work: Work) -> wgpu::ComputePass<'a> {
        let first = 2 * self.works.len() as u32;
        self.works.push(work);
        encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: None,
            timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                query_set: &self.queries,
                beginning_of_pass_write_index: Some(first),
                end_of_pass_write_index: Some(first + 1),
            }),
        })
    }

    /// Whether there is no room for another dispatch.
    pub(super) fn is_full(&self) -> bool {
        self.works.len() >= CAPACITY
    }

    /// Whether the submission has a timed dispatch.
    pub(super) fn is_used(&self) -> bool {
        !self.works.is_empty()
    }

    /// Records the way of the timestamps to the host, behind the dispatches of the submission `ticket`.
    pub(super) fn finish(
        &mut self,
        device: &wgpu::Device,
        encoder: &mut wgpu::CommandEncoder,
        ticket: stream::Ticket,
    ) -> Times {
        let works = std::mem::take(&mut self.works);
        let count = 2 * works.len() as u32;
        let staging = buffer(device, count, wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ);
        encoder.resolve_query_set(&self.queries, 0..count, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &staging, 0, STAMP * u64::from(count));
        Times { works, reading: Reading::new(staging, ticket) }
    }
}

/// Room for so many timestamps.
fn buffer(device: &wgpu::Device, count: u32, usage: wgpu::BufferUsages) -> wgpu::Buffer {
    let size = STAMP * u64::from(count);
    device.create_buffer(&wgpu::BufferDescriptor { label: Some("times"), size, usage, mapped_at_creation: false })
}

impl Gpu {
    /// Books the times of all timed dispatches; what goes wrong is told by the next call that can fail.
    pub(crate) fn book_times(&self) {
        if let Err(error) = self.read_times() {
            remember(&self.faults.error, error.to_string());
        }
    }

    fn read_times(&self) -> Result<()> {
        self.submit()?;
        let (times, mut origin) = (self.with_stream(stream::Stream::take_times), None);
        // Nanoseconds of a tick.
        let period = f64::from(self.queue.get_timestamp_period());
        let span = |ticks: u64| Duration::from_nanos((ticks as f64 * period) as u64);
        for Times { works, reading } in times {
            let words = self.finish_reading(reading)?;
            let stamps: Vec<u64> = words.chunks_exact(2).map(|w| u64::from(w[0]) | u64::from(w[1]) << 32).collect();
            for (work, stamp) in works.into_iter().zip(stamps.chunks_exact(2)) {
                let since = stamp[0].saturating_sub(*origin.get_or_insert(stamp[0]));
                self.profiler.book(work, span(since), span(stamp[1].saturating_sub(stamp[0])));
            }
        }
        Ok(())
    }
}
