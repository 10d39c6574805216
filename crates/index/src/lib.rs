//! What a node's cache holds, what a purge hits, and whether a cached object may be served
