//! The Batoff Purge edge daemon
