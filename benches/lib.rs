//! Speed and memory of Batoff Purge.
