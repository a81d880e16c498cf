//! The nearest known word to a mistyped one.

/// The word of `known` with the smallest edit distance to `word`; the first of equals, and `""` if `known` is empty.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> &'a str {
    known.iter().min_by_key(|candidate| distance(word, candidate)).copied().unwrap_or("")
}

/// Levenshtein distance in characters, kept as one row of the table.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [
            ("", "", 0),
            ("abc", "", 3),
            ("", "ab", 2),
            ("tidy", "tidy", 0),
            ("trian", "train", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), edits, "{a} to {b}");
        }
    }

    #[test]
    fn nearest_is_the_word_meant() {
        let known = ["train", "test", "tidy"];
        for (typed, meant) in [("trian", "train"), ("tests", "test"), ("tdy", "tidy")] {
            assert_eq!(nearest(typed, &known), meant);
        }
    }
}
