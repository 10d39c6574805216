//! nginx's cache directory, driven from outside: no module in nginx, only files.

mod config;

pub use self::config::{Adopt, Levels, NginxSection, WhileScanning};
