//! Every kernel that can run: name, entry point, source files and the constants put in front of them.

use crate::ops;

/// One entry point of a WGSL file.
///
/// The source is a header of `const NAME: u32 = VALUE;` lines followed by whole files; no file is ever edited.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// Operation and entry, as in `layer_norm/forward`.
    pub name: &'static str,
    /// Name of the entry point.
    pub entry: &'static str,
    /// Source files in order; those that begin with `enable` stand in front of the header.
    pub parts: &'static [&'static str],
    /// Header constants with their default values.
    pub constants: &'static [(&'static str, u32)],
    /// Name and WGSL type of each parameter, 4 bytes each, in order.
    pub parameters: &'static [(&'static str, &'static str)],
}

/// What a dispatch sends beside its tensors: the twin of the shader's struct of the same fields.
pub(crate) trait Sent: bytemuck::Pod {
    /// Name and type of each field, in order.
    const FIELDS: &'static [(&'static str, &'static str)];
}

/// Declares a struct of 4-byte fields that is [`Sent`].
macro_rules! parameters {
    ($(#[$meta:meta])* struct $name:ident { $($field:ident: $type:ident,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        #[repr(C)]
        struct $name { $($field: $type),+ }

        impl $crate::catalog::Sent for $name {
            const FIELDS: &'static [(&'static str, &'static str)] =
                &[$((stringify!($field), stringify!($type))),+];
        }
    };
}
pub(crate) use parameters;

/// A kernel with all its constants chosen.
#[derive(Clone, Debug)]
pub struct Variant {
    kernel: &'static Kernel,
    constants: Vec<(&'static str, u32)>,
    subgroups: bool,
}

/// Parts that have a form for adapters with subgroups.
const BY_SUBGROUPS: [(&str, &str); 2] = [
    (include_str!("wgsl/reduce.wgsl"), include_str!("wgsl/reduce_subgroups.wgsl")),
    (include_str!("wgsl/reduce_max.wgsl"), include_str!("wgsl/reduce_max_subgroups.wgsl")),
];

impl Kernel {
    /// The kernel with its default constants.
    pub fn default_variant(&'static self) -> Variant {
        Variant { kernel: self, constants: self.constants.to_vec(), subgroups: false }
    }

    /// The kernel with some constants replaced.
    ///
    /// # Panics
    /// When the kernel has no constant of a name: that is a slip in the code that names it, and every variant of the
    /// catalogue is made in a test.
    pub fn with(&'static self, chosen: &[(&'static str, u32)]) -> Variant {
        let mut variant = self.default_variant();
        for (wanted, new) in chosen {
            let place = variant.constants.iter().position(|(name, _)| name == wanted);
            assert!(place.is_some(), "kernel {} has no constant {wanted}", self.name);
            place.into_iter().for_each(|place| variant.constants[place].1 = *new);
        }
        variant
    }
}

impl Variant {
    /// Name, constants and form: the key of the compiled pipeline.
    pub fn key(&self) -> String {
        let constants: Vec<_> = self.constants.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let form = if self.subgroups { "+subgroups" } else { "" };
        format!("{}[{}]{form}", self.kernel.name, constants.join(","))
    }

    /// The same kernel with its parts for adapters with subgroups, if it has any.
    pub fn by_subgroups(&self) -> Option<Variant> {
        let has = |part: &&str| BY_SUBGROUPS.iter().any(|(plain, _)| plain == part);
        self.kernel.parts.iter().any(has).then(|| Variant { subgroups: true, ..self.clone() })
    }

    /// Source files in order, in the form that was chosen.
    fn parts(&self) -> impl Iterator<Item = &'static str> {
        let form = |part: &&'static str| {
            let other = BY_SUBGROUPS.iter().find(|(plain, _)| self.subgroups && plain == part);
            other.map_or(*part, |(_, by_subgroups)| by_subgroups)
        };
        self.kernel.parts.iter().map(form)
    }

    /// Operation and entry, as in `layer_norm/forward`.
    pub fn name(&self) -> &'static str {
        self.kernel.name
    }

    /// Name and WGSL type of each parameter, in order.
    pub fn parameters(&self) -> &'static [(&'static str, &'static str)] {
        self.kernel.parameters
    }

    /// Name of the entry point.
    pub fn entry(&self) -> &'static str {
        self.kernel.entry
    }

    /// Value of a constant; 0 when the kernel has none of that name.
    pub fn constant(&self, name: &str) -> u32 {
        self.constants.iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| *value)
    }

    /// The complete WGSL text.
    pub fn source(&self) -> String {
        let (directives, parts): (Vec<_>, Vec<_>) = self.parts().partition(|part| part.starts_with("enable "));
        let header: String =
            self.constants.iter().map(|(name, value)| format!("const {name}: u32 = {value}u;\n")).collect();
        directives.concat() + &header + &parts.concat()
    }

    /// What an adapter must offer beyond what every kernel needs.
    pub fn needs(&self) -> Needs {
        let says = |word: &str| self.parts().any(|part| part.contains(word));
        Needs {
            f16: says("enable f16;"),
            halves: says("unpack2x16float("),
            subgroups: says("@builtin(subgroup_") || says("subgroupAdd("),
            matrices: says("enable wgpu_cooperative_matrix;"),
        }
    }
}

/// Optional features of adapters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Arithmetic in f16.
    pub f16: bool,
    /// Reading two f16 from a word.
    pub halves: bool,
    /// Operations between the invocations of a subgroup.
    pub subgroups: bool,
    /// Matrix units: f16 in, f32 sums, 16 x 16 x 16.
    pub matrices: bool,
}

/// Every variant that any operation dispatches.
pub fn all() -> Vec<Variant> {
    let plain = [
        ops::adamw::variants(),
        ops::add::variants(),
        ops::attention::variants(),
        ops::cast::variants(),
        ops::column_scale::variants(),
        ops::column_sum::variants(),
        ops::contrastive_distillation::variants(),
        ops::contrastive_softmax::variants(),
        ops::gather_tokens::variants(),
        ops::gelu::variants(),
        ops::global_norm::variants(),
        ops::l2_normalize::variants(),
        ops::layer_norm::variants(),
        ops::matmul::variants(),
        ops::mean_pool::variants(),
        ops::patch_embed::variants(),
        ops::scale::variants(),
        ops::selection_scores::variants(),
        ops::sigmoid_loss::variants(),
        ops::softmax_cross_entropy::variants(),
        ops::tanh::variants(),
        ops::token_embedding::variants(),
    ]
    .concat();
    let by_subgroups: Vec<_> = plain.iter().filter_map(Variant::by_subgroups).collect();
    [plain, by_subgroups].concat()
}
