//! Caches that are told by HTTP what to remove.

mod pipeline;

pub use self::pipeline::{Address, Pipeline, Reply};
