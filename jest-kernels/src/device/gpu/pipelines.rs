//! Compiled kernels by name and constants, and their dispatch.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, OnceLock};

use super::{Gpu, Part};
use crate::catalog::Variant;
use crate::profile::Work;
use crate::{Grid, KernelError, Result};

/// Bindings that are kept, of all kernels; a step of training repeats fewer.
const BINDINGS: usize = 8192;

#[derive(Debug)]
struct Compiled {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

/// A kernel and its buffers, each with offset and bytes.
type Bound = (wgpu::ComputePipeline, Vec<(wgpu::Buffer, u64, u64)>);

/// Pipelines compiled so far; the key is the kernel's name and all its constants.
#[derive(Debug)]
pub(super) struct Pipelines {
    compiled: Mutex<BTreeMap<String, Arc<Compiled>>>,
    /// As the pool hands out the same buffers in every step, so do their bindings serve again.
    bound: Mutex<HashMap<Bound, wgpu::BindGroup>>,
    cache: OnceLock<wgpu::PipelineCache>,
    checked: bool,
}

impl Pipelines {
    pub(super) fn new(checked: bool) -> Self {
        Self { compiled: Mutex::default(), bound: Mutex::default(), cache: OnceLock::new(), checked }
    }

    /// The first cache that is given is used from then on.
    pub(super) fn use_cache(&self, cache: wgpu::PipelineCache) {
        self.cache.get_or_init(|| cache);
    }

    /// The driver's form of all that was compiled.
    pub(super) fn cached(&self) -> Option<Vec<u8>> {
        self.cache.get()?.get_data()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.compiled.lock().map(|compiled| compiled.keys().cloned().collect()).unwrap_or_default()
    }

    /// Lets go of every buffer that is bound.
    pub(super) fn unbind(&self) {
        self.bound.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
    }

    /// `parts[i]` as binding `i` of a kernel.
    fn bind(&self, device: &wgpu::Device, kernel: &Compiled, parts: &[Part<'_>]) -> wgpu::BindGroup {
        let bytes = |part: &Part<'_>| (part.buffer.raw().clone(), part.offset, part.bytes);
        let key = (kernel.pipeline.clone(), parts.iter().map(bytes).collect::<Vec<_>>());
        let mut bound = self.bound.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(found) = bound.get(&key) {
            return found.clone();
        }
        let resources = (0..).zip(&key.1);
        let entries: Vec<_> = resources
            .map(|(binding, (buffer, offset, bytes))| {
                let part = wgpu::BufferBinding { buffer, offset: *offset, size: NonZeroU64::new(*bytes) };
                wgpu::BindGroupEntry { binding, resource: wgpu::BindingResource::Buffer(part) }
            })
            .collect();
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &kernel.layout, entries: &entries };
        let group = device.create_bind_group(&descriptor);
        if bound.len() >= BINDINGS {
            bound.clear();
        }
        bound.insert(key, group.clone());
        group
    }

    fn get(&self, device: &wgpu::Device, variant: &Variant) -> Result<Arc<Compiled>> {
        let key = variant.key();
        let mut compiled = self.compiled.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(found) = compiled.get(&key) {
            return Ok(found.clone());
        }
        let made = Arc::new(self.compile(device, variant, &key)?);
        compiled.insert(key, made.clone());
        Ok(made)
    }

    fn compile(&self, device: &wgpu::Device, variant: &Variant, key: &str) -> Result<Compiled> {
        let source = wgpu::ShaderSource::Wgsl(variant.source().into());
        let descriptor = wgpu::ShaderModuleDescriptor { label: Some(key), source };
        // The driver's own refusal is an internal error.
        let scopes =
            [wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::Validation].map(|kind| device.push_error_scope(kind));
        let module = if self.checked {
            device.create_shader_module(descriptor)
        } else {
            // SAFETY: the checked form of the very same source passes every test with guard words behind each
            // buffer; sizes come from shapes that the operation has checked.
            unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
        };
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(key),
            layout: None,
            module: &module,
            entry_point: Some(variant.entry()),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: self.cache.get(),
        });
        let layout = pipeline.get_bind_group_layout(0);
        // The last one is taken first.
        let errors = scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop()));
        match errors.collect::<Vec<_>>().into_iter().next() {
            Some(error) => Err(KernelError::Shader { kernel: key.to_string(), reason: error.to_string() }),
            None => Ok(Compiled { pipeline, layout }),
        }
    }
}

impl Gpu {
    /// Records one kernel: `parts[i]` is binding `i`, `immediates` the kernel's parameters.
    pub(crate) fn dispatch(
        &self,
        variant: &Variant,
        parts: &[Part<'_>],
        immediates: &[u8],
        grid: Grid,
        work: Work,
    ) -> Result<()> {
        let stamped = self.profiler.is_on() && self.abilities.timestamps;
        if !self.profiler.is_on() || stamped {
            return self.record(variant, parts, immediates, grid, work, stamped);
        }
        self.wait()?;
        self.profiler.time(work, || {
            self.record(variant, parts, immediates, grid, work, false)?;
            self.wait()
        })
    }

    /// `stamped`: between timestamps.
    fn record(
        &self,
        variant: &Variant,
        parts: &[Part<'_>],
        immediates: &[u8],
        grid: Grid,
        work: Work,
        stamped: bool,
    ) -> Result<()> {
        // A lost device refuses every kernel.
        let compiled = self.pipelines.get(&self.device, variant).or_else(|error| self.check().and(Err(error)))?;
        let group = self.pipelines.bind(&self.device, &compiled, parts);
        let due = self.with_stream(|stream| {
            let dispatch = |pass: &mut wgpu::ComputePass<'_>| {
                pass.set_pipeline(&compiled.pipeline);
                pass.set_bind_group(0, &group, &[]);
                pass.set_immediates(0, immediates);
                let [x, y, z] = grid.groups(self.group_limit());
                pass.dispatch_workgroups(x, y, z);
            };
            if stamped {
                stream.timed(&self.device, work, dispatch);
            } else {
                dispatch(stream.compute(&self.device));
            }
            stream.count(work.flops)
        });
        if due { self.submit() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use crate::device::Backend;
    use crate::ops::matmul::{self, Form};
    use crate::ops::{column_sum, scale};
    use crate::testing::{lesser_gpu, random};
    use crate::{Device, DeviceLimits, Pass};

    /// Linear layers forward and backward, as in a step of training.
    fn step(pass: &mut Pass) {
        let x = pass.upload(&random(64 * 32, 1), &[64, 32]).unwrap();
        let w = pass.upload(&random(32 * 32, 2), &[32, 32]).unwrap();
        let (mut dw, mut dbias) = (pass.zeros(&[32, 32]).unwrap(), pass.zeros(&[32]).unwrap());
        let y = matmul::forward(pass, Form::ABt, &x, &w).unwrap();
        let z = matmul::forward(pass, Form::ABt, &y, &w).unwrap();
        for x in [&y, &x] {
            matmul::accumulate(pass, Form::AtB, &z, x, &mut dw).unwrap();
            column_sum::accumulate(pass, &z, &mut dbias).unwrap();
        }
        scale::in_place(pass, &mut dw, 0.5).unwrap();
    }

    fn bound(device: &Device) -> usize {
        let Backend::Gpu(gpu) = device.backend() else { return 0 };
        gpu.pipelines.bound.lock().unwrap().len()
    }

    fn allocated(device: &Device) -> u64 {
        let Backend::Gpu(gpu) = device.backend() else { return 0 };
        gpu.device.generate_allocator_report().unwrap().total_allocated_bytes
    }

    #[test]
    fn a_repeated_step_binds_nothing_anew() {
        let device = lesser_gpu(DeviceLimits::default());
        let mut counts = Vec::new();
        for _ in 0..6 {
            step(&mut device.pass());
            counts.push(bound(&device));
        }
        // The pool's order settles in the second step.
        assert!(counts[0] > 0 && counts[2..].iter().all(|count| *count == counts[1]), "{counts:?}");
    }

    #[test]
    fn bound_buffers_are_freed_when_memory_is_out() {
        const WORDS: usize = 4_000_000;
        let device = lesser_gpu(DeviceLimits { memory_bytes: Some(20_000_000), ..Default::default() });
        let pass = &mut device.pass();
        let mut x = pass.zeros(&[WORDS]).unwrap();
        scale::in_place(pass, &mut x, 2.0).unwrap();
        pass.wait().unwrap();
        drop(x);
        let before = allocated(&device);
        // Fits only in place of what is bound and free.
        let small = pass.zeros(&[WORDS / 2]).unwrap();
        pass.wait().unwrap();
        assert_eq!(bound(&device), 0);
        let after = allocated(&device);
        assert!(after + WORDS as u64 <= before, "{before} bytes, then {after}");
        drop(small);
    }
}
