//! The one ordered stream of commands of a device.

/// Work after which a submission goes out, so that none keeps a device busy for about a second.
const FLOP_BUDGET: f64 = 5e11;
/// The same for an adapter that is emulated on the CPU.
const SOFTWARE_FLOP_BUDGET: f64 = 2e9;
/// Dispatches after which a submission goes out in any case, so that the device starts while the host records.
const DISPATCH_BUDGET: usize = 256;

/// Commands recorded but not yet submitted.
#[derive(Debug)]
pub(super) struct Stream {
    encoder: Option<wgpu::CommandEncoder>,
    compute: Option<wgpu::ComputePass<'static>>,
    dispatches: usize,
    flops: f64,
    budget: f64,
}

impl Stream {
    pub(super) fn new(software: bool) -> Self {
        let budget = if software { SOFTWARE_FLOP_BUDGET } else { FLOP_BUDGET };
        Self { encoder: None, compute: None, dispatches: 0, flops: 0.0, budget }
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

    /// Counts one dispatch; true when it is time to submit.
    pub(super) fn count(&mut self, flops: f64) -> bool {
        self.dispatches += 1;
        self.flops += flops;
        self.dispatches >= DISPATCH_BUDGET || self.flops >= self.budget
    }

    pub(super) fn submit(&mut self, queue: &wgpu::Queue) {
        self.compute = None;
        (self.dispatches, self.flops) = (0, 0.0);
        if let Some(encoder) = self.encoder.take() {
            queue.submit([encoder.finish()]);
        }
    }
}
