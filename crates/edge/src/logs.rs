//! Log lines of a daemon: JSON or text, to stderr.

use tracing_subscriber::EnvFilter;

use crate::config::{ConfigError, LogFormat, LogSection};

/// Installs the log lines of this process; they go to stderr.
pub fn install(config: &LogSection) -> Result<(), ConfigError> {
    let filter = filter(config)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match config.format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    // Another subscriber in the same process is a test's; it may stay.
    drop(installed);
    Ok(())
}

/// Checks the filter without installing anything.
pub fn filter(config: &LogSection) -> Result<EnvFilter, ConfigError> {
    EnvFilter::try_new(&config.level.0).map_err(|error| {
        ConfigError::invalid("log.level", format!("{:?} is not a level or filter: {error}", config.level.0))
    })
}
