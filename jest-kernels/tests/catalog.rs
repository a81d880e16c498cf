//! Every kernel variant is valid WGSL, checked without any device.

use jest_kernels::catalog;

fn validate(name: &str, source: &str) -> naga::Module {
    let module =
        naga::front::wgsl::parse_str(source).unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(source)));
    let capabilities = naga::valid::Capabilities::IMMEDIATES | naga::valid::Capabilities::SHADER_FLOAT16;
    naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities)
        .validate(&module)
        .unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(source)));
    module
}

#[test]
fn every_variant_is_valid_and_keeps_to_the_smallest_limits() {
    let variants = catalog::all();
    assert!(!variants.is_empty());
    for variant in variants {
        let name = variant.key();
        let module = validate(&name, &variant.source());
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
        assert!(workgroup <= 16_384, "{name}: {workgroup} bytes of workgroup memory, 16384 are guaranteed");
        let immediates = of(naga::AddressSpace::Immediate);
        assert!(immediates <= 128, "{name}: {immediates} bytes of parameters, 128 are guaranteed");
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
