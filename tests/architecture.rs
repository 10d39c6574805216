//! The arrows between the crates.
