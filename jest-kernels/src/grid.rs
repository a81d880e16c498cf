//! Workgroups of a dispatch, within what every adapter takes.

/// How many workgroups a dispatch has; more rows than a dimension has, 65,535, are folded into a second one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    rows: u32,
    layers: u32,
}

impl Grid {
    /// Largest number of workgroups in one dimension on every adapter.
    pub(crate) const LIMIT: u32 = 65_535;

    /// At least `n` workgroups; the kernel computes `workgroup_id.y * num_workgroups.x + workgroup_id.x` and guards it.
    pub fn rows(n: usize) -> Self {
        Self::layers(n, 1)
    }

    /// At least `n` workgroups in x and y, times `layers` in z.
    pub fn layers(n: usize, layers: usize) -> Self {
        let whole = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { rows: whole(n.max(1)), layers: whole(layers) }
    }

    /// Workgroups in x, y and z, where a dimension holds `limit`; y and z may be over it.
    pub fn groups(self, limit: u32) -> [u32; 3] {
        let x = self.rows.min(limit);
        [x, self.rows.div_ceil(x), self.layers]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_covers_its_rows_within_the_limit() {
        for n in [1, 2, 65_535, 65_536, 70_000, 6_400_000] {
            let [x, y, z] = Grid::rows(n).groups(Grid::LIMIT);
            assert!(x <= 65_535 && y <= 65_535 && z == 1);
            assert!((x as usize) * (y as usize) >= n);
        }
    }
}
