//! What an operator may set: a TOML file, over it variables of the environment, over them flags. One rule for all
//! programs, and the key's own type decides how a text is read:
//!
//! ```text
//!  file               [api] listen = "127.0.0.1:8080"
//!    ▲ overridden by
//!  BATOFF_API_LISTEN=127.0.0.1:9080      an empty variable counts as unset
//!    ▲ overridden by
//!  --set api.listen=127.0.0.1:9090
//! ```
//!
//! | the key is | in a variable or a flag |
//! | --- | --- |
//! | text, a path, an address, a word of a few | as it stands: `2026` is a text, too |
//! | a number, `true` or `false` | as TOML writes it |
//! | a list | words with commas between, or a list as TOML writes it |
//! | a table | its keys: `BATOFF_CACHES_NGINX_PATH`, `caches.nginx.path`; or as TOML writes it |
//!
//! The sections and keys are those of the type that is read, so nothing has to be listed a second time. An unknown key is
//! an error that names it and those there are. A variable whose name begins with no section of this program
//! belongs to another one, and is left alone.

mod section;
mod text;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Table;

use self::section::{Overlaid, Override};
use self::text::Said;

/// A configuration file: sections of keys.
pub trait ConfigFile: DeserializeOwned {
    /// Variables that look like keys of this program and are none, because another program reads them.
    const FOREIGN: &'static [&'static str] = &[];

    /// Checks what types cannot say. Called by [`load`].
    fn validate(&self) -> Result<(), ConfigError>;
}

/// A configuration that cannot be used; the text names the key and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}; name the file with --config", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What was written is not TOML, names an unknown key, lacks one, or has a value of the wrong type.
    #[error("{at}: {problem}")]
    Written {
        /// Where it was written: the file, the variable, or the flag.
        at: String,
        /// What is wrong, with the key and the remedy.
        problem: String,
    },
    /// A value that breaks a rule.
    #[error("{key}: {message}")]
    Invalid {
        /// `section.key`, or the section.
        key: String,
        /// The rule and the remedy.
        message: String,
    },
}

impl ConfigError {
    /// A value that breaks a rule.
    pub fn invalid(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { key: key.into(), message: message.into() }
    }

    /// Whether a number is from `min` to `max`, both included.
    ///
    /// # Errors
    /// It is not.
    pub fn within(key: &str, value: u64, min: u64, max: u64) -> Result<(), Self> {
        if (min..=max).contains(&value) {
            return Ok(());
        }
        Err(Self::invalid(key, format!("{value} is outside {min} to {max}")))
    }
}

/// Reads and checks a configuration: the file, over it this process's environment, over it what flags have `set`, each as
/// `section.key=value`.
pub fn load<T: ConfigFile>(path: &Path, set: &[String]) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())));
    read(&text, path, environment, set)
}

/// The same from a text and an environment that are at hand; `path` is for messages only.
pub fn load_str<T: ConfigFile>(
    text: &str,
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    read(text, path, environment, &[])
}

fn read<T: ConfigFile>(
    text: &str,
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
    set: &[String],
) -> Result<T, ConfigError> {
    let file = path.display().to_string();
    let table: Table = text.parse().map_err(|error| syntax(&file, text, &error))?;
    let mut overrides = variables::<T>(environment);
    for setting in set {
        overrides.push(flag(setting)?);
    }
    let config = T::deserialize(Overlaid::whole(table, overrides)).map_err(|error| error.told(&file))?;
    config.validate()?;
    Ok(config)
}

/// The variables that may be keys, by name, so that it does not matter in which order they come.
fn variables<T: ConfigFile>(environment: impl IntoIterator<Item = (String, String)>) -> Vec<Override> {
    let mut variables: Vec<_> = environment
        .into_iter()
        .filter(|(name, value)| !value.is_empty() && !T::FOREIGN.contains(&name.as_str()))
        .collect();
    variables.sort();
    variables
        .into_iter()
        .filter_map(|(name, value)| {
            let key = name.strip_prefix("BATOFF_")?.to_ascii_lowercase();
            Some(Override::variable(key, Said { at: name, text: value }))
        })
        .collect()
}

fn flag(setting: &str) -> Result<Override, ConfigError> {
    let parts = setting.split_once('=').filter(|(key, _)| key.contains('.'));
    let Some((key, value)) = parts else {
        return Err(ConfigError::Written {
            at: format!("--set {setting}"),
            problem: "is no setting; write it as section.key=value".to_owned(),
        });
    };
    Ok(Override::flag(key.to_owned(), Said { at: format!("--set {key}"), text: value.to_owned() }))
}

/// What is wrong with a text that is not TOML, on one line.
fn syntax(file: &str, text: &str, error: &toml::de::Error) -> ConfigError {
    let problem = error.message().trim_end().replace('\n', "; ");
    let line =
        error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
    let at = line.map_or_else(|| file.to_owned(), |line| format!("{file}, line {line}"));
    ConfigError::Written { at, problem }
}

#[cfg(test)]
mod tests;
