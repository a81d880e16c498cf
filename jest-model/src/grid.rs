//! Position embeddings on another grid.

/// The matrix `[first + to², first + from²]` that leaves the first tokens alone and resizes a square grid linearly, as FlexiViT does with its positions: samples at the
/// centres of the new cells; when the grid shrinks the triangle widens with it (antialias).
///
/// # Source
/// `jax.image.resize(.., "linear")`.
pub(crate) fn resize_matrix(from: usize, to: usize, first: usize) -> Vec<f32> {
    let (weights, columns) = (line(from, to), first + from * from);
    let mut matrix = Vec::with_capacity((first + to * to) * columns);
    for token in 0..first {
        matrix.extend((0..columns).map(|column| f32::from(u8::from(column == token))));
    }
    for row in weights.chunks(from) {
        for column in weights.chunks(from) {
            matrix.extend((0..first).map(|_| 0.0));
            matrix.extend(row.iter().flat_map(|y| column.iter().map(move |x| (y * x) as f32)));
        }
    }
    matrix
}

/// `[to, from]`: weights of one axis, each row with sum 1.
fn line(from: usize, to: usize) -> Vec<f64> {
    let step = from as f64 / to as f64;
    let reach = step.max(1.0);
    let mut all = Vec::with_capacity(to * from);
    for new in 0..to {
        let centre = (new as f64 + 0.5) * step - 0.5;
        let row: Vec<f64> = (0..from).map(|old| (1.0 - (old as f64 - centre).abs() / reach).max(0.0)).collect();
        let sum: f64 = row.iter().sum();
        all.extend(row.iter().map(|weight| weight / sum));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_interpolated_and_averaged() {
        assert_eq!(line(2, 2), [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(line(2, 4), [1.0, 0.0, 0.75, 0.25, 0.25, 0.75, 0.0, 1.0]);
        // Half the size: triangle of width 2 around 0.5, whose weights are 0.75, 0.75, 0.25 before they are normalised.
        let halved = line(4, 2);
        for (got, want) in halved[..4].iter().zip([3.0 / 7.0, 3.0 / 7.0, 1.0 / 7.0, 0.0]) {
            assert!((got - want).abs() < 1e-12, "{halved:?}");
        }
    }

    #[test]
    fn a_grid_is_resized_along_both_axes() {
        let matrix = resize_matrix(2, 3, 0);
        let grid = [0.0, 1.0, 10.0, 11.0];
        let resized: Vec<f32> =
            matrix.chunks(4).map(|row| row.iter().zip(grid).map(|(weight, value)| weight * value).sum()).collect();
        assert_eq!(resized, [0.0, 0.5, 1.0, 5.0, 5.5, 6.0, 10.0, 10.5, 11.0]);
        let with_class = resize_matrix(2, 3, 1);
        assert_eq!((with_class.len(), &with_class[..5]), (10 * 5, &[1.0, 0.0, 0.0, 0.0, 0.0][..]));
        assert!(
            with_class.chunks(5).skip(1).zip(matrix.chunks(4)).all(|(row, grid)| row[0] == 0.0 && row[1..] == *grid)
        );
    }
}
