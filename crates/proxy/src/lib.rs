//! The reference caching reverse proxy with the edge daemon inside
