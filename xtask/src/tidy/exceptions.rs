//! What rules let pass, and why.

use super::Finding;

/// Lets the findings of one rule in one file pass.
pub struct Exception {
    pub rule: &'static str,
    /// A file's path, or a folder's with a `/` at its end.
    pub path: &'static str,
    /// Part of the message, so that an exception covers one thing; `""` for all.
    pub message: &'static str,
    pub reason: &'static str,
}

/// Every exception of the workspace. An entry needs a reason that a reviewer can check.
pub const EXCEPTIONS: [Exception; 1] = [Exception {
    rule: "rooms",
    path: "jest-kernels/src/ops/resize_kernel/",
    message: "",
    reason: "a resize of patch kernels is one matrix product with a matrix made on the host: it has no kernel of its own",
}];

/// Where the table stands, for findings about it.
const TABLE: &str = "xtask/src/tidy/exceptions.rs";

/// Findings that no exception covers, and one for each exception that covers nothing or gives no reason.
pub fn apply(findings: Vec<Finding>, exceptions: &[Exception]) -> Vec<Finding> {
    let covers = |exception: &Exception, finding: &Finding| {
        let place =
            finding.path == exception.path || exception.path.ends_with('/') && finding.path.starts_with(exception.path);
        place && finding.rule == exception.rule && finding.message.contains(exception.message)
    };
    let idle = exceptions.iter().filter(|exception| !findings.iter().any(|finding| covers(exception, finding)));
    let mut left: Vec<Finding> = idle.map(|exception| complaint(exception, "covers nothing; remove it")).collect();
    left.extend(
        exceptions
            .iter()
            .filter(|exception| exception.reason.is_empty())
            .map(|exception| complaint(exception, "has no reason")),
    );
    left.extend(findings.into_iter().filter(|finding| !exceptions.iter().any(|exception| covers(exception, finding))));
    left
}

fn complaint(exception: &Exception, what: &str) -> Finding {
    let message = format!("the exception for {} in {} {what}", exception.rule, exception.path);
    Finding { path: TABLE.to_string(), line: 0, rule: "exceptions", message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(path: &str) -> Finding {
        Finding { path: path.to_string(), line: 3, rule: "limits", message: "function `f` is long".to_string() }
    }

    fn left(paths: &[&str], exceptions: &[Exception]) -> Vec<String> {
        apply(paths.iter().map(|path| finding(path)).collect(), exceptions)
            .into_iter()
            .map(|finding| finding.path)
            .collect()
    }

    #[test]
    fn an_exception_covers_its_rule_in_its_place() {
        let exception = |rule, path, message| [Exception { rule, path, message, reason: "planted" }];
        assert_eq!(left(&["a/b.rs", "a/c.rs"], &exception("limits", "a/b.rs", "`f`")), ["a/c.rs"]);
        assert_eq!(left(&["a/b.rs", "a/c.rs"], &exception("limits", "a/", "")), [""; 0]);
        assert_eq!(left(&["a/b.rs"], &exception("limits", "a/b.rs", "`g`")), [TABLE, "a/b.rs"]);
        assert_eq!(left(&["a/b.rs"], &exception("oracles", "a/b.rs", "")), [TABLE, "a/b.rs"]);
    }

    #[test]
    fn an_exception_needs_a_reason() {
        assert_eq!(left(&["a.rs"], &[Exception { rule: "limits", path: "a.rs", message: "", reason: "" }]), [TABLE]);
    }
}
