//! The one spelling of `--device`, and the order of adapters.

use std::str::FromStr;

use crate::{KernelError, Result};

/// Which device to open: `auto`, `cpu`, `gpu`, `gpu:N`, or part of an adapter's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceRequest {
    /// The best real GPU, else the CPU; never a software adapter.
    Auto,
    /// Native CPU.
    Cpu,
    /// The best GPU; a software adapter only if there is no other.
    Gpu,
    /// The N-th adapter as `jest devices` lists them.
    Index(usize),
    /// The first adapter whose name contains this, ignoring case.
    Name(String),
}

/// The native APIs that the kernels are written for; not GL, which lacks most of what they use.
const BACKENDS: wgpu::Backends = wgpu::Backends::VULKAN.union(wgpu::Backends::METAL).union(wgpu::Backends::DX12);
const INSTALL: &str = "install a Vulkan driver (Debian: mesa-vulkan-drivers) or use --device cpu";
const LISTED: &str = "`jest devices` lists what is here";

impl FromStr for DeviceRequest {
    type Err = KernelError;

    fn from_str(text: &str) -> Result<Self> {
        let lower = text.trim().to_lowercase();
        Ok(match lower.as_str() {
            "" => return Err(KernelError::UnknownDevice(text.to_string())),
            "auto" => DeviceRequest::Auto,
            "cpu" => DeviceRequest::Cpu,
            "gpu" | "cuda" => DeviceRequest::Gpu,
            other => match other.strip_prefix("gpu:").or_else(|| other.strip_prefix("cuda:")) {
                Some(index) => {
                    let parsed = index.parse().map_err(|_| KernelError::UnknownDevice(text.to_string()))?;
                    DeviceRequest::Index(parsed)
                }
                None => DeviceRequest::Name(lower),
            },
        })
    }
}

impl std::fmt::Display for DeviceRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DeviceRequest::Auto => f.write_str("auto"),
            DeviceRequest::Cpu => f.write_str("cpu"),
            DeviceRequest::Gpu => f.write_str("gpu"),
            DeviceRequest::Index(index) => write!(f, "gpu:{index}"),
            DeviceRequest::Name(name) => f.write_str(name),
        }
    }
}

impl DeviceRequest {
    /// The adapter that the request names.
    pub(crate) fn adapter(&self) -> Result<wgpu::Adapter> {
        let all = adapters();
        let names: Vec<_> = all.iter().map(|a| a.get_info().name).collect();
        let position = match self {
            DeviceRequest::Auto | DeviceRequest::Cpu | DeviceRequest::Gpu => (!all.is_empty()).then_some(0),
            DeviceRequest::Index(index) => (*index < all.len()).then_some(*index),
            DeviceRequest::Name(part) => {
                names.iter().position(|name| name.to_lowercase().contains(&part.to_lowercase()))
            }
        };
        match position {
            Some(position) => Ok(all[position].clone()),
            None => Err(KernelError::NoAdapter {
                requested: self.to_string(),
                found: if names.is_empty() { "none".to_string() } else { names.join(", ") },
                remedy: if names.is_empty() { INSTALL } else { LISTED },
            }),
        }
    }
}

/// All adapters that are not emulated, best kind first.
pub(crate) fn real_gpus() -> Vec<wgpu::Adapter> {
    adapters().into_iter().filter(|adapter| adapter.get_info().device_type != wgpu::DeviceType::Cpu).collect()
}

/// All adapters, best kind first, then by PCI address so that indexes agree with the vendors' tools.
pub(crate) fn adapters() -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = BACKENDS;
    let instance = wgpu::Instance::new(descriptor);
    let mut all = pollster::block_on(instance.enumerate_adapters(BACKENDS));
    all.sort_by_key(|adapter| {
        let info = adapter.get_info();
        let rank = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => 0,
            wgpu::DeviceType::IntegratedGpu => 1,
            wgpu::DeviceType::VirtualGpu => 2,
            wgpu::DeviceType::Other => 3,
            wgpu::DeviceType::Cpu => 4,
        };
        (rank, info.device_pci_bus_id)
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_round_trip() {
        for (text, request) in [
            ("auto", DeviceRequest::Auto),
            ("cpu", DeviceRequest::Cpu),
            ("gpu", DeviceRequest::Gpu),
            ("gpu:3", DeviceRequest::Index(3)),
            ("llvmpipe", DeviceRequest::Name("llvmpipe".into())),
        ] {
            assert_eq!(text.parse::<DeviceRequest>().unwrap(), request);
            assert_eq!(request.to_string(), text);
        }
        assert_eq!("cuda".parse::<DeviceRequest>().unwrap(), DeviceRequest::Gpu);
        assert!("gpu:x".parse::<DeviceRequest>().is_err());
        assert!("".parse::<DeviceRequest>().is_err());
    }

    #[test]
    fn a_missing_adapter_names_the_remedy() {
        let error = DeviceRequest::Name("no such adapter".into()).adapter().unwrap_err().to_string();
        assert!(
            error.contains("no such adapter") && (error.contains("install") || error.contains("jest devices")),
            "{error}"
        );
    }
}
