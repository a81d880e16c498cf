//! Compiled kernels by name and constants, and their dispatch.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use super::{Gpu, GpuBuffer};
use crate::catalog::Variant;
use crate::profile::Work;
use crate::{Grid, KernelError, Result};

#[derive(Debug)]
struct Compiled {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

/// Pipelines compiled so far; the key is the kernel's name and all its constants.
#[derive(Debug)]
pub(super) struct Pipelines {
    compiled: Mutex<BTreeMap<String, Arc<Compiled>>>,
    cache: OnceLock<wgpu::PipelineCache>,
    checked: bool,
}

impl Pipelines {
    pub(super) fn new(checked: bool) -> Self {
        Self { compiled: Mutex::default(), cache: OnceLock::new(), checked }
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
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
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
        match pollster::block_on(scope.pop()) {
            Some(error) => Err(KernelError::Shader { kernel: key.to_string(), reason: error.to_string() }),
            None => Ok(Compiled { pipeline, layout }),
        }
    }
}

impl Gpu {
    /// Records one kernel: `buffers[i]` is binding `i`, `immediates` the kernel's parameters.
    pub(crate) fn dispatch(
        &self,
        variant: &Variant,
        buffers: &[&GpuBuffer],
        immediates: &[u8],
        grid: Grid,
        work: Work,
    ) -> Result<()> {
        let stamped = self.profiler.is_on() && self.abilities.timestamps;
        if !self.profiler.is_on() || stamped {
            return self.record(variant, buffers, immediates, grid, work, stamped);
        }
        self.wait()?;
        self.profiler.time(work, || {
            self.record(variant, buffers, immediates, grid, work, false)?;
            self.wait()
        })
    }

    /// `stamped`: between timestamps.
    fn record(
        &self,
        variant: &Variant,
        buffers: &[&GpuBuffer],
        immediates: &[u8],
        grid: Grid,
        work: Work,
        stamped: bool,
    ) -> Result<()> {
        let compiled = self.pipelines.get(&self.device, variant)?;
        let entries: Vec<_> = (0..)
            .zip(buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.raw().as_entire_binding() })
            .collect();
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &compiled.layout,
            entries: &entries,
        });
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
