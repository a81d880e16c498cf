//! Every kernel variant is valid WGSL, checked without any device.

use jest_kernels::catalog::{self, Needs};
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// The module and what validation found out about it; refused when it uses more than `needs` grants.
fn validate(name: &str, source: &str, needs: Needs) -> Result<(naga::Module, naga::valid::ModuleInfo), String> {
    let module =
        naga::front::wgsl::parse_str(source).unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(source)));
    let mut capabilities = Capabilities::IMMEDIATES;
    capabilities.set(Capabilities::SHADER_FLOAT16, needs.f16);
    capabilities.set(Capabilities::SHADER_FLOAT16_IN_FLOAT32, needs.halves);
    capabilities.set(Capabilities::SUBGROUP, needs.subgroups);
    capabilities.set(Capabilities::COOPERATIVE_MATRIX, needs.matrices);
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all())
        .validate(&module)
        .map_err(|error| format!("{name}: {}", error.emit_to_string(source)))?;
    Ok((module, info))
}

/// Offset, name and type of the fields that the shader takes as immediates.
fn immediate_fields(module: &naga::Module) -> Vec<(u32, String, String)> {
    let immediate =
        module.global_variables.iter().find(|(_, variable)| variable.space == naga::AddressSpace::Immediate);
    let Some((_, variable)) = immediate else { return Vec::new() };
    let naga::TypeInner::Struct { members, .. } = &module.types[variable.ty].inner else {
        panic!("immediates that are no struct")
    };
    let of = |member: &naga::StructMember| {
        let naga::TypeInner::Scalar(scalar) = module.types[member.ty].inner else {
            panic!("{:?} is no scalar", member.name)
        };
        let kind = match scalar.kind {
            naga::ScalarKind::Uint => "u",
            naga::ScalarKind::Sint => "i",
            naga::ScalarKind::Float => "f",
            other => panic!("{other:?}"),
        };
        (member.offset, member.name.clone().unwrap_or_default(), format!("{kind}{}", 8 * scalar.width))
    };
    members.iter().map(of).collect()
}

/// The same of the host's struct: all fields have 4 bytes.
fn fields(parameters: &[(&str, &str)]) -> Vec<(u32, String, String)> {
    (0..)
        .step_by(4)
        .zip(parameters)
        .map(|(offset, (name, kind))| (offset, name.to_string(), kind.to_string()))
        .collect()
}

#[test]
fn every_variant_is_valid_and_keeps_to_the_smallest_limits() {
    let variants = catalog::all();
    assert!(!variants.is_empty());
    for variant in variants {
        let name = variant.key();
        let (module, info) =
            validate(&name, &variant.source(), variant.needs()).unwrap_or_else(|error| panic!("{error}"));
        write_spirv(&name, &module, &info);
        let entry = module.entry_points.iter().find(|entry| entry.name == variant.entry());
        let entry = entry.unwrap_or_else(|| panic!("{name}: no entry point {}", variant.entry()));
        let invocations: u32 = entry.workgroup_size.iter().product();
        assert!(invocations <= 256, "{name}: {invocations} invocations, 256 are guaranteed");
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).unwrap();
        let of = |space| {
            let sizes = module.global_variables.iter().filter(|(_, variable)| variable.space == space);
            sizes.map(|(_, variable)| layouter[variable.ty].size).sum::<u32>()
        };
        let workgroup = of(naga::AddressSpace::WorkGroup);
        // Doubled tiles of matrix units are for adapters that grant more.
        let granted = if variant.constant("BUFFERS") == 2 { 49_152 } else { 16_384 };
        assert!(workgroup <= granted, "{name}: {workgroup} bytes of workgroup memory, {granted} are granted");
        assert_eq!(immediate_fields(&module), fields(variant.parameters()), "{name}: parameters of shader and host");
        let immediates = of(naga::AddressSpace::Immediate);
        assert!(immediates <= 128, "{name}: {immediates} bytes of parameters, 128 are guaranteed");
    }
}

/// Vulkan's drivers are given this; naga must be able to write it.
fn write_spirv(name: &str, module: &naga::Module, info: &naga::valid::ModuleInfo) {
    let options = naga::back::spv::Options { lang_version: (1, 6), ..Default::default() };
    let words = naga::back::spv::write_vec(module, info, &options, None);
    assert!(!words.unwrap_or_else(|error| panic!("{name}: {error}")).is_empty());
}

#[test]
fn variants_say_what_they_need_and_no_more() {
    let nothing = Needs::default();
    let needing: Vec<_> = catalog::all().into_iter().filter(|variant| variant.needs() != nothing).collect();
    assert!(needing.iter().any(|variant| variant.needs().matrices) && needing.iter().any(|v| v.needs().subgroups));
    for variant in needing {
        let all = variant.needs();
        let without = [Needs { f16: false, ..all }, Needs { halves: false, ..all }, Needs { subgroups: false, ..all }];
        for less in without.into_iter().chain([Needs { matrices: false, ..all }]) {
            let enough = less == all;
            assert_eq!(
                validate(&variant.key(), &variant.source(), less).is_ok(),
                enough,
                "{}: {less:?}",
                variant.key()
            );
        }
    }
}

#[test]
fn keys_are_unique() {
    let mut keys: Vec<_> = catalog::all().iter().map(|variant| variant.key()).collect();
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count);
}

#[test]
fn a_constant_that_a_kernel_does_not_have_is_refused() {
    static KERNEL: catalog::Kernel =
        catalog::Kernel { name: "test", entry: "main", parts: &[], constants: &[("WIDTH", 1)], parameters: &[] };
    let refused = std::panic::catch_unwind(|| KERNEL.with(&[("DEPTH", 2)])).unwrap_err();
    assert_eq!(refused.downcast_ref::<String>().unwrap(), "kernel test has no constant DEPTH");
}
