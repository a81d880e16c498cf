//! Results as CLIP_benchmark writes them.

use serde_json::{Value, json};

use super::Answers;
use super::metrics::{mean_per_class_recall, retrieval, zero_shot};
use crate::events::Metrics;

/// Classes below which CLIP_benchmark has no acc5.
const TOP: usize = 5;

/// `{"dataset", "model", "pretrained", "task", "metrics", "language"}`: acc1, acc5 and mean_per_class_recall, or recall at 5 both ways;
/// then what else is known.
///
/// # Source
/// CLIP_benchmark 1.6.2 `cli.py`; where it writes `NaN`, which is no JSON, this is null.
pub fn result(dataset: &str, model: &str, answers: &Answers, more: &Metrics) -> Value {
    let (task, mut metrics) = match answers {
        Answers::ZeroShot { similarity, classes, labels } => {
            let found = zero_shot(similarity, *classes, labels);
            let acc5 = found.get("top5").filter(|_| *classes >= TOP);
            let recall = mean_per_class_recall(similarity, *classes, labels);
            let metrics = json!({ "acc1": found.get("top1"), "acc5": acc5, "mean_per_class_recall": recall });
            ("zeroshot_classification", metrics)
        }
        Answers::Retrieval { similarity, image_of } => {
            let found = retrieval(similarity, image_of);
            let metrics = json!({
                "image_retrieval_recall@5": found.get("text_to_image_R@5"),
                "text_retrieval_recall@5": found.get("image_to_text_R@5"),
            });
            ("zeroshot_retrieval", metrics)
        }
    };
    more.iter().for_each(|(name, value)| metrics[name] = json!(value));
    json!({ "dataset": dataset, "model": model, "pretrained": "", "task": task, "metrics": metrics, "language": "en" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_is_clip_benchmarks() {
        let answers =
            Answers::ZeroShot { similarity: vec![0.9, 0.1, 0.2, 0.8, 0.7, 0.3], classes: 2, labels: vec![0, 1, 1] };
        let expected = json!({
            "dataset": "wds/cats", "model": "m", "pretrained": "", "task": "zeroshot_classification", "language": "en",
            "metrics": { "acc1": 2.0 / 3.0, "acc5": null, "mean_per_class_recall": 0.75 },
        });
        assert_eq!(result("wds/cats", "m", &answers, &Metrics::default()), expected);
        let answers = Answers::Retrieval { similarity: vec![0.9, 0.1], image_of: vec![0, 0] };
        let more = Metrics::from_iter([("skipped".to_owned(), 2.0)]);
        let metrics = json!({ "image_retrieval_recall@5": 1.0, "text_retrieval_recall@5": 1.0, "skipped": 2.0 });
        assert_eq!(result("r", "m", &answers, &more)["metrics"], metrics);
    }
}
