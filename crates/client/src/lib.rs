//! Signing and the HTTP API of Batoff Purge, as a Rust SDK
