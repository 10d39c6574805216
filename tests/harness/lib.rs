//! The harness: starts the real programs and ends them.
