//! The purge log: what was accepted, in which order; the trait, its conformance suite, and the embedded store
