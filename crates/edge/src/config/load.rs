use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// A configuration file: sections of keys, each of which the environment can override.
pub trait ConfigFile: DeserializeOwned {
    /// The sections. `BATOFF_<SECTION>_<KEY>` is read for these and for no others.
    const SECTIONS: &'static [&'static str];
    /// Keys (`section.key`) whose value is not a string; in the environment they are written as in TOML, a list also as
    /// words with commas between.
    const TYPED: &'static [&'static str];

    /// Checks what types cannot say. Called by [`load`].
    fn validate(&self) -> Result<(), ConfigError>;
}

/// A configuration that cannot be used; the text names the key and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not TOML, or has an unknown key, or lacks one, or a value is of the wrong type.
    #[error("{}: {message}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What and where.
        message: String,
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
}

/// Reads and checks a configuration file, with the overrides of this process's environment.
pub fn load<T: ConfigFile>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    load_str(
        &text,
        path,
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
    )
}

/// The same from a text and an environment that are at hand; `path` is for messages only.
pub fn load_str<T: ConfigFile>(
    text: &str,
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let parse_error = |error: toml::de::Error| ConfigError::Parse {
        path: path.to_owned(),
        message: error.to_string().trim_end().replace('\n', "; "),
    };
    let mut table: Table = text.parse().map_err(parse_error)?;
    let mut overridden: Vec<_> = environment.into_iter().collect();
    overridden.sort();
    for (name, value) in overridden {
        let Some((section, key)) = override_target::<T>(&name) else { continue };
        let Value::Table(keys) = table.entry(section).or_insert_with(|| Value::Table(Table::new())) else {
            return Err(ConfigError::invalid(section, "must be a section"));
        };
        let value = if T::TYPED.contains(&format!("{section}.{key}").as_str()) {
            typed(&value).ok_or_else(|| {
                ConfigError::invalid(
                    format!("{section}.{key}"),
                    format!("{name} does not hold a value as TOML writes it"),
                )
            })?
        } else {
            Value::String(value)
        };
        keys.insert(key, value);
    }
    let config: T = Value::Table(table).try_into().map_err(parse_error)?;
    config.validate()?;
    Ok(config)
}

fn override_target<T: ConfigFile>(name: &str) -> Option<(&'static str, String)> {
    let rest = name.strip_prefix("BATOFF_")?;
    T::SECTIONS.iter().find_map(|section| {
        let key = rest.strip_prefix(&section.to_ascii_uppercase())?.strip_prefix('_')?;
        Some((*section, key.to_ascii_lowercase()))
    })
}

fn typed(text: &str) -> Option<Value> {
    let parsed = format!("value = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    parsed.or_else(|| {
        let words = text.split(',').map(|word| Value::String(word.trim().to_owned()));
        (!text.trim().is_empty()).then(|| Value::Array(words.collect()))
    })
}
