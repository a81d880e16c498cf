//! What this process takes of the machine.

/// Largest resident memory so far in MiB; 0 where the system does not tell.
pub fn peak_rss_mb() -> u64 {
    status_mb("VmHWM:")
}

/// Resident memory now in MiB; 0 where the system does not tell.
pub fn rss_mb() -> u64 {
    status_mb("VmRSS:")
}

fn status_mb(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_takes_memory() {
        assert!(super::rss_mb() > 0 && super::peak_rss_mb() >= super::rss_mb());
    }
}
