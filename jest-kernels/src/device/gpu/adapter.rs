//! What is asked of an adapter, and what the kernels may then rely on.

use super::super::{Abilities, DeviceInfo, DeviceKind, DeviceLimits, DeviceOptions, Precision};
use crate::{KernelError, Result};

/// Bytes of kernel parameters; what Vulkan guarantees.
const IMMEDIATE_BYTES: u32 = 128;

/// How to ask for the device, and what it will be able to do.
///
/// # Errors
/// `Unsupported` when the adapter lacks what every kernel needs, or what the precision does.
pub(super) fn request(
    adapter: &wgpu::Adapter,
    options: &DeviceOptions,
) -> Result<(wgpu::DeviceDescriptor<'static>, Abilities)> {
    let unsupported =
        |missing: &str| KernelError::Unsupported { adapter: adapter.get_info().name, missing: missing.to_string() };
    if options.precision == Precision::Bf16 {
        return Err(unsupported("products in bf16, which are the CPU device's (on a GPU: --precision f16)"));
    }
    let reads_f16 = adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::SHADER_F16_IN_F32);
    if options.precision == Precision::F16 && (!reads_f16 || options.limits.without_f16) {
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
    let binding = &mut limits.max_storage_buffer_binding_size;
    *binding = options.limits.binding_bytes.map_or(*binding, |bytes| bytes.min(*binding));
    let abilities = abilities(adapter, options.precision, options.limits);
    let mut wanted = wgpu::Features::IMMEDIATES
        | wgpu::Features::SHADER_F16
        | wgpu::Features::SUBGROUP
        | wgpu::Features::PIPELINE_CACHE
        | wgpu::Features::TIMESTAMP_QUERY;
    let mut experimental = wgpu::ExperimentalFeatures::disabled();
    if abilities.matrices {
        wanted |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        // SAFETY: the only experimental feature asked for is cooperative matrices; their kernels load from and store
        // to workgroup memory alone, within its bounds, by whole subgroups of 32.
        experimental = unsafe { wgpu::ExperimentalFeatures::enabled() };
    }
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("jest"),
        required_features: offered(adapter, options.limits) & wanted,
        required_limits: limits,
        experimental_features: experimental,
        memory_hints: wgpu::MemoryHints::Performance,
        trace: wgpu::Trace::Off,
    };
    Ok((descriptor, abilities))
}

/// The adapter's features without those that are withheld.
fn offered(adapter: &wgpu::Adapter, limits: DeviceLimits) -> wgpu::Features {
    let mut features = adapter.features();
    if limits.without_subgroups {
        features.remove(wgpu::Features::SUBGROUP | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
    }
    if limits.without_timestamps {
        features.remove(wgpu::Features::TIMESTAMP_QUERY);
    }
    if limits.without_f16 {
        features.remove(wgpu::Features::SHADER_F16);
    }
    features
}

/// What an adapter can do for products in a precision; matrix units, an experimental feature, are for f16 alone.
fn abilities(adapter: &wgpu::Adapter, precision: Precision, limits: DeviceLimits) -> Abilities {
    let (info, features) = (adapter.get_info(), offered(adapter, limits));
    let units = features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16)
        && adapter.cooperative_matrix_properties().iter().any(|unit| {
            let sides = [unit.m_size, unit.n_size, unit.k_size];
            let types = (unit.ab_type, unit.cr_type);
            sides == [16; 3] && types == (wgpu::CooperativeScalarType::F16, wgpu::CooperativeScalarType::F32)
        });
    let subgroups = features.contains(wgpu::Features::SUBGROUP);
    Abilities {
        software: info.device_type == wgpu::DeviceType::Cpu,
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        subgroups: subgroups && info.subgroup_max_size <= 64,
        lanes: if subgroups { info.subgroup_min_size } else { 0 },
        workgroup_bytes: adapter.limits().max_compute_workgroup_storage_size,
        matrices: precision == Precision::F16
            && subgroups
            && units
            && (info.subgroup_min_size, info.subgroup_max_size) == (32, 32),
    }
}

/// An adapter as `jest devices` lists it.
pub(crate) fn describe(adapter: &wgpu::Adapter) -> DeviceInfo {
    let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
    let abilities = abilities(adapter, Precision::F16, DeviceLimits::default());
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
            .chain(abilities.matrices.then_some("cooperative-matrix"))
            .collect(),
        max_tensor_bytes: limits.max_buffer_size,
        max_binding_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
        workgroup_bytes: limits.max_compute_workgroup_storage_size,
        subgroup_lanes: abilities.lanes,
    }
}
