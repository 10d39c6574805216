//! The Batoff Purge control plane
