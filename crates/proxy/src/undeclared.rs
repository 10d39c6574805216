//! A cache between this node and the origin that the configuration does not name.

use std::sync::atomic::{AtomicBool, Ordering};

use batoff_edge::marks_of_another_cache;
use batoff_pingora::Page;
use pingora::http::ResponseHeader;

use crate::figures;

/// Notices answers from another cache where none should be: what it has kept from before a purge would be stored here as
/// new.
#[derive(Debug, Default)]
pub(crate) struct Undeclared {
    is_told: AtomicBool,
}

impl Undeclared {
    /// An answer of the origin. Told once; the figure goes on.
    pub(crate) fn note(&self, response: &ResponseHeader, page: Option<&Page>) {
        let marks = marks_of_another_cache(&response.headers, &[]);
        if marks.is_empty() {
            return;
        }
        figures::undeclared_parent(1);
        if !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                url = page.map(|page| page.url.as_str()),
                marks = marks.join(", "),
                "the origin's answer came from another cache, which may still have what was purged; name its node or PoP in \
                 [path] parents, or put nothing that caches between this node and the origin"
            );
        }
    }
}
