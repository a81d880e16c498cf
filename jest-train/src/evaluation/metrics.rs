//! Accuracy and recall from similarities, on the host.

use crate::events::Metrics;

/// Share of images whose own class is among the `k` most similar, for k = 1 and 5.
///
/// # Shapes
/// similarity: `[n, classes]`, row-major; labels: `[n]`.
pub fn zero_shot(similarity: &[f32], classes: usize, labels: &[u32]) -> Metrics {
    let ranks =
        similarity.chunks(classes).zip(labels).map(|(row, label)| rank(row, *label as usize)).collect::<Vec<_>>();
    [1, 5].into_iter().map(|k| (format!("top{k}"), share_below(&ranks, k))).collect()
}

/// Recall at 1, 5 and 10 from image to text and from text to image; pair i is row i and column i.
///
/// # Shapes
/// similarity: `[n, n]`, image by text.
pub fn retrieval(similarity: &[f32], n: usize) -> Metrics {
    let image_to_text: Vec<usize> = (0..n).map(|i| rank(&similarity[i * n..(i + 1) * n], i)).collect();
    let column = |j: usize| (0..n).map(|i| similarity[i * n + j]).collect::<Vec<f32>>();
    let text_to_image: Vec<usize> = (0..n).map(|j| rank(&column(j), j)).collect();
    let mut metrics = Metrics::default();
    for (direction, ranks) in [("image_to_text", image_to_text), ("text_to_image", text_to_image)] {
        for k in [1, 5, 10] {
            metrics.set(format!("{direction}_R@{k}"), share_below(&ranks, k));
        }
    }
    metrics
}

/// How many entries come before `target` in a stable sort, most similar first; NaN counts as most similar.
fn rank(row: &[f32], target: usize) -> usize {
    let own = row[target];
    let before = |(j, value): (usize, &f32)| j != target && !(*value < own || (*value == own && j > target));
    row.iter().enumerate().filter(|entry| before(*entry)).count()
}

fn share_below(ranks: &[usize], k: usize) -> f64 {
    ranks.iter().filter(|rank| **rank < k).count() as f64 / ranks.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_shot_counts_the_own_class() {
        let similarity = [0.9, 0.1, 0.0, 0.2, 0.1, 0.7, 0.3, 0.3, 0.1];
        let metrics = zero_shot(&similarity, 3, &[0, 1, 1]);
        // Row 1 ranks its class last of three; in row 2 the tie goes to the lower index.
        assert_eq!((metrics.get("top1"), metrics.get("top5")), (Some(&(1.0 / 3.0)), Some(&1.0)));
    }

    #[test]
    fn retrieval_ranks_rows_and_columns() {
        let similarity = [0.9, 0.8, 0.7, 0.6];
        let metrics = retrieval(&similarity, 2);
        assert_eq!(metrics.get("image_to_text_R@1"), Some(&0.5));
        assert_eq!(metrics.get("text_to_image_R@1"), Some(&0.5));
        assert_eq!(metrics.get("text_to_image_R@5"), Some(&1.0));
    }

    #[test]
    fn nan_never_counts_as_found() {
        let metrics = retrieval(&[f32::NAN; 4], 2);
        assert_eq!(metrics.get("image_to_text_R@1"), Some(&0.0));
    }
}
