//! Accuracy and recall from similarities, on the host.

use crate::events::Metrics;

/// Share of images whose own class is among the `k` most similar, for k = 1 and 5.
///
/// # Shapes
/// similarity: `[n, classes]`, row-major; labels: `[n]`.
pub fn zero_shot(similarity: &[f32], classes: usize, labels: &[u32]) -> Metrics {
    let ranks = ranks(similarity, classes, labels);
    [1, 5].into_iter().map(|k| (format!("top{k}"), share_below(&ranks, k))).collect()
}

fn ranks(similarity: &[f32], classes: usize, labels: &[u32]) -> Vec<usize> {
    similarity.chunks(classes).zip(labels).map(|(row, label)| rank(row, *label as usize)).collect()
}

/// Mean over the classes that occur of the share of their images whose own class is the most similar.
///
/// # Shapes
/// As [`zero_shot`].
pub fn mean_per_class_recall(similarity: &[f32], classes: usize, labels: &[u32]) -> f64 {
    let mut of_class = std::collections::BTreeMap::<u32, (usize, usize)>::new();
    for (rank, label) in ranks(similarity, classes, labels).iter().zip(labels) {
        let (found, all) = of_class.entry(*label).or_default();
        *found += usize::from(*rank == 0);
        *all += 1;
    }
    of_class.values().map(|(found, all)| *found as f64 / *all as f64).sum::<f64>() / of_class.len().max(1) as f64
}

/// Recall at 1, 5 and 10 from image to text and from text to image: the share for which any match is among the k most similar.
///
/// # Shapes
/// similarity: `[images, texts]`, row-major; image_of: `[texts]`, the image that each text belongs to.
pub fn retrieval(similarity: &[f32], image_of: &[usize]) -> Metrics {
    let texts = image_of.len();
    let images = similarity.len() / texts.max(1);
    let mut own = vec![Vec::new(); images];
    image_of.iter().enumerate().for_each(|(text, image)| own[*image].push(text));
    let best = |(image, own): (usize, &Vec<usize>)| {
        let row = &similarity[image * texts..(image + 1) * texts];
        own.iter().map(|text| rank(row, *text)).min()
    };
    let image_to_text: Vec<usize> = own.iter().enumerate().filter_map(best).collect();
    let column = |text: usize| (0..images).map(|image| similarity[image * texts + text]).collect::<Vec<f32>>();
    let text_to_image: Vec<usize> = (0..texts).map(|text| rank(&column(text), image_of[text])).collect();
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
        // All of class 0, none of class 1, and class 2 does not occur.
        assert_eq!(mean_per_class_recall(&similarity, 3, &[0, 1, 1]), 0.5);
    }

    #[test]
    fn retrieval_ranks_rows_and_columns() {
        let metrics = retrieval(&[0.9, 0.8, 0.7, 0.6], &[0, 1]);
        assert_eq!(metrics.get("image_to_text_R@1"), Some(&0.5));
        assert_eq!(metrics.get("text_to_image_R@1"), Some(&0.5));
        assert_eq!(metrics.get("text_to_image_R@5"), Some(&1.0));
    }

    #[test]
    fn any_caption_of_an_image_will_do() {
        // Image 0 has texts 0 and 2, image 1 has text 1: rows are images.
        let metrics = retrieval(&[0.1, 0.5, 0.9, 0.6, 0.2, 0.3], &[0, 1, 0]);
        assert_eq!(metrics.get("image_to_text_R@1"), Some(&0.5));
        assert!((metrics.get("text_to_image_R@1").unwrap() - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn nan_never_counts_as_found() {
        let metrics = retrieval(&[f32::NAN; 4], &[0, 1]);
        assert_eq!(metrics.get("image_to_text_R@1"), Some(&0.0));
    }
}
