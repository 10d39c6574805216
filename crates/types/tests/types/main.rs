//! The nouns, from outside: grammars as tables of cases, and what must hold for any value.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod names;
mod ports;
mod positions;
mod selectors;
mod site_table;
mod tags;
mod url_prefix;
mod url_properties;
mod urls;
