//! Which log lines of a daemon are written, and how they look.

use batoff_program::logs::{self, EnvFilter, Format};

use crate::config::{ConfigError, LogFormat, LogSection};

/// Installs the log lines of this process; they go to stderr.
pub fn install(config: &LogSection) -> Result<(), ConfigError> {
    let format = match config.format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    logs::install(filter(config)?, format);
    Ok(())
}

/// Checks the filter without installing anything.
pub fn filter(config: &LogSection) -> Result<EnvFilter, ConfigError> {
    logs::filter(&config.level.0).map_err(|problem| ConfigError::invalid("log.level", problem))
}
