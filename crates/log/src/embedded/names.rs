//! What the numbered files of a store are called.

/// The file of a segment.
pub(super) fn segment(number: u64) -> String {
    format!("log-{number:016}.seg")
}

/// Which segment a file of that name is.
pub(super) fn number_of_segment(name: &str) -> Option<u64> {
    name.strip_prefix("log-")?.strip_suffix(".seg")?.parse().ok()
}

/// The file of a run of keys.
pub(super) fn key_run(number: u64) -> String {
    format!("keys-{number:016}")
}

/// Which run of keys a file of that name is.
pub(super) fn number_of_key_run(name: &str) -> Option<u64> {
    name.strip_prefix("keys-")?.parse().ok()
}
