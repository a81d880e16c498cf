//! The tally of dispatched kernels: lines of `adapter<TAB>kernel variant`, one for each dispatch that a test made.

use std::collections::{BTreeMap, BTreeSet};

/// One line for each adapter: how many different kernel variants ran on it. Empty if none did.
pub fn summary(noted: &str) -> Vec<String> {
    let mut kernels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (adapter, kernel) in noted.lines().filter_map(|line| line.split_once('\t')) {
        kernels.entry(adapter.trim()).or_default().insert(kernel.trim());
    }
    kernels
        .iter()
        .map(|(adapter, variants)| format!("WGSL kernels run: {} variants on {adapter}", variants.len()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_counts_once_for_each_adapter() {
        let noted = "llvmpipe\tmatmul f32\nllvmpipe\tmatmul f32\nllvmpipe\tmatmul f16\nH100\tmatmul f32\n";
        assert_eq!(
            summary(noted),
            ["WGSL kernels run: 1 variants on H100", "WGSL kernels run: 2 variants on llvmpipe"]
        );
    }

    #[test]
    fn lines_without_a_kernel_count_nothing() {
        assert!(summary("").is_empty());
        assert!(summary("\nllvmpipe\n").is_empty());
    }
}
