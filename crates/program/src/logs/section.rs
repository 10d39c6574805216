use serde::Deserialize;

use super::{EnvFilter, Format};
use crate::config::ConfigError;

/// `[log]`: our own log lines, to standard error.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSection {
    /// How lines look.
    pub format: Format,
    /// Which lines: a `tracing` filter such as `info` or `info,batoff_edge=debug`.
    pub level: String,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { format: Format::Text, level: "info".to_owned() }
    }
}

impl LogSection {
    /// The filter that `level` names.
    ///
    /// # Errors
    /// It names none.
    pub fn filter(&self) -> Result<EnvFilter, ConfigError> {
        super::filter(&self.level).map_err(|problem| ConfigError::invalid("log.level", problem))
    }

    /// Installs the log lines of this process.
    ///
    /// # Errors
    /// `level` names no filter.
    pub fn install(&self) -> Result<(), ConfigError> {
        super::install(self.filter()?, self.format);
        Ok(())
    }
}
