//! Caches that are told by HTTP what to remove: requests over one kept connection, and the adapter for a cache that
//! understands one request a URL.

mod adapter;
mod check;
mod config;
mod pipeline;
mod visitor;

pub use self::adapter::Http;
pub use self::check::check;
pub use self::config::{Header, HttpSection, Others};
pub use self::pipeline::{Address, Pipeline, Reply};
pub use self::visitor::VisitArgs;
pub(super) use self::visitor::Visitor;
