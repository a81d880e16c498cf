//! The one ordered stream of commands of a device.

use std::collections::VecDeque;

use super::timestamps::{Timed, Times};
use crate::profile::Work;

/// FLOPs after which a submission goes out from an adapter that is emulated on the CPU.
const SOFTWARE_FLOP_BUDGET: f64 = 2e9;
/// Dispatches after which a submission goes out in any case, so that the device starts while the host records.
pub(super) const DISPATCH_BUDGET: usize = 256;

/// Number of the submission that carries a command; the first is 0.
pub(super) type Ticket = u64;

/// Commands recorded but not yet submitted, and the submissions that nobody has waited for.
#[derive(Debug)]
pub(super) struct Stream {
    next: Ticket,
    running: VecDeque<(Ticket, wgpu::SubmissionIndex)>,
    encoder: Option<wgpu::CommandEncoder>,
    compute: Option<wgpu::ComputePass<'static>>,
    timed: Option<Timed>,
    times: Vec<Times>,
    dispatches: usize,
    flops: f64,
    budget: f64,
}

impl Stream {
    pub(super) fn new(software: bool) -> Self {
        let budget = if software { SOFTWARE_FLOP_BUDGET } else { super::FLOPS as f64 };
        Self {
            next: 0,
            running: VecDeque::new(),
            encoder: None,
            compute: None,
            timed: None,
            times: Vec::new(),
            dispatches: 0,
            flops: 0.0,
            budget,
        }
    }

    /// The encoder, outside of any compute pass.
    pub(super) fn copies(&mut self, device: &wgpu::Device) -> &mut wgpu::CommandEncoder {
        self.compute = None;
        self.encoder.get_or_insert_with(|| device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default()))
    }

    /// The open compute pass.
    pub(super) fn compute(&mut self, device: &wgpu::Device) -> &mut wgpu::ComputePass<'static> {
        let encoder = self
            .encoder
            .get_or_insert_with(|| device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default()));
        self.compute.get_or_insert_with(|| {
            encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()).forget_lifetime()
        })
    }

    /// Records one dispatch between timestamps.
    pub(super) fn timed(&mut self, device: &wgpu::Device, work: Work, record: impl FnOnce(&mut wgpu::ComputePass<'_>)) {
        self.copies(device);
        let timed = self.timed.get_or_insert_with(|| Timed::new(device));
        match &mut self.encoder {
            Some(encoder) if !timed.is_full() => record(&mut timed.begin(encoder, work)),
            // Several threads recorded between a count and its submission.
            _ => record(self.compute(device)),
        }
    }

    /// The timestamps of all submissions since the last call.
    pub(super) fn take_times(&mut self) -> Vec<Times> {
        std::mem::take(&mut self.times)
    }

    /// Counts one dispatch; true when it is time to submit.
    pub(super) fn count(&mut self, flops: f64) -> bool {
        self.dispatches += 1;
        self.flops += flops;
        self.dispatches >= DISPATCH_BUDGET || self.flops >= self.budget
    }

    pub(super) fn submit(&mut self, device: &wgpu::Device, queue: &wgpu::Queue) {
        self.compute = None;
        (self.dispatches, self.flops) = (0, 0.0);
        if let Some(mut encoder) = self.encoder.take() {
            if let Some(timed) = self.timed.as_mut().filter(|timed| timed.is_used()) {
                self.times.push(timed.finish(device, &mut encoder, self.next));
            }
            self.running.push_back((self.next, queue.submit([encoder.finish()])));
            self.next += 1;
        }
    }

    /// The submission that will carry what is recorded now.
    pub(super) fn ticket(&self) -> Ticket {
        self.next
    }

    /// True while a command of that ticket is recorded but not submitted.
    pub(super) fn holds(&self, ticket: Ticket) -> bool {
        ticket == self.next && self.encoder.is_some()
    }

    /// The oldest submission up to `ticket` that is not known to be done.
    pub(super) fn oldest_up_to(&self, ticket: Ticket) -> Option<(Ticket, wgpu::SubmissionIndex)> {
        self.running.front().filter(|(first, _)| *first <= ticket).cloned()
    }

    /// Notes that all submissions up to `ticket` are done.
    pub(super) fn done(&mut self, ticket: Ticket) {
        self.running.retain(|(running, _)| *running > ticket);
    }
}
