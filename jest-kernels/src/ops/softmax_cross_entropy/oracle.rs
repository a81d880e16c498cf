//! Softmax cross-entropy, one row after the other, in f64.

/// `ln sum exp(row)`.
fn log_sum_exp(row: &[f64]) -> f64 {
    let top = row.iter().fold(f64::MIN, |top, x| top.max(*x));
    top + row.iter().map(|x| (x - top).exp()).sum::<f64>().ln()
}

/// `-(1/n) sum_i log softmax(row i) at label i`.
pub fn forward(classes: usize, logits: &[f64], labels: &[u32]) -> f64 {
    let rows = logits.chunks(classes).zip(labels);
    rows.map(|(row, label)| log_sum_exp(row) - row[*label as usize]).sum::<f64>() / labels.len() as f64
}

/// `dlogits = (softmax(row) - [j = label]) / n`.
pub fn backward(classes: usize, logits: &[f64], labels: &[u32]) -> Vec<f64> {
    let mut out = Vec::new();
    for (row, label) in logits.chunks(classes).zip(labels) {
        let lse = log_sum_exp(row);
        for (j, x) in row.iter().enumerate() {
            let own = if j == *label as usize { 1.0 } else { 0.0 };
            out.push(((x - lse).exp() - own) / labels.len() as f64);
        }
    }
    out
}
