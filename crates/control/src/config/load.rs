use std::path::Path;

use toml::{Table, Value};

use super::{Config, ConfigError};

/// The sections of the file. A variable `BATOFF_<SECTION>_…` of any other name belongs to another program (or to a
/// container platform that names services into the environment) and is left alone.
const SECTIONS: [&str; 9] =
    ["data", "api", "admin", "grpc", "metrics", "lease", "limits", "retention", "log"];

/// Variables of the `batoff` command that look like ours. Whoever has exported them must still be able to start a control
/// plane from the same shell.
const COMMAND_VARIABLES: [&str; 2] = ["BATOFF_ADMIN_TOKEN", "BATOFF_ADMIN_TOKEN_FILE"];

impl Config {
    /// Reads a file, lays the environment over it, and checks the whole.
    pub fn load(
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, environment)
    }

    /// The same for text in memory.
    pub fn parse(
        text: &str,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut table: Table =
            text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax(error.to_string()))?;
        for (name, value) in environment {
            overlay(&mut table, &name, &value)?;
        }
        let config: Self = Value::Table(table)
            .try_into()
            .map_err(|error: toml::de::Error| ConfigError::Syntax(error.to_string().trim_end().to_owned()))?;
        config.check()?;
        Ok(config)
    }
}

fn overlay(table: &mut Table, name: &str, value: &str) -> Result<(), ConfigError> {
    if COMMAND_VARIABLES.contains(&name) {
        return Ok(());
    }
    let Some(rest) = name.strip_prefix("BATOFF_") else { return Ok(()) };
    let Some((section, key)) = rest.split_once('_') else { return Ok(()) };
    let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
    if !SECTIONS.contains(&section.as_str()) {
        return Ok(());
    }
    let entry = table.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
    let Value::Table(entry) = entry else {
        return Err(ConfigError::Syntax(format!("[{section}] must be a table")));
    };
    entry.insert(key, literal(value));
    Ok(())
}

/// A variable's text as the TOML value that it looks like (`true`, `250`, `["…"]`), and otherwise as a string.
fn literal(text: &str) -> Value {
    let parsed = format!("value = {text}").parse::<Table>().ok().and_then(|mut table| {
        let only = table.len() == 1;
        table.remove("value").filter(|value| only && !matches!(value, Value::Datetime(_)))
    });
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "[data]\ndir = \"/tmp/x\"\n[grpc]\nplaintext = true\n";

    fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::parse(text, environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn the_commands_own_variables_are_left_alone() {
        assert!(
            parse(LEAST, &[("BATOFF_ADMIN_TOKEN", "bto_admin_x"), ("BATOFF_ADMIN_TOKEN_FILE", "/x")]).is_ok()
        );
        assert!(parse(LEAST, &[("BATOFF_ADMIN_TOKENS", "x")]).is_err());
    }

    #[test]
    fn a_variable_overrides_the_file_with_its_type() {
        let config = parse(
            LEAST,
            &[
                ("BATOFF_GRPC_GATHER_MS", "7"),
                ("BATOFF_API_LISTEN", "127.0.0.1:0"),
                ("BATOFF_LOG_LEVEL", "debug"),
                ("BATOFF_DATA_DIR", "/srv/batoff"),
                ("BATOFF_LEASE_DRIFT", "0.02"),
            ],
        )
        .unwrap();
        assert_eq!(config.grpc.gather_ms, 7);
        assert_eq!(config.api.listen.port(), 0);
        assert_eq!(config.log.level, "debug");
        assert_eq!(config.data.dir, Path::new("/srv/batoff"));
        assert!((config.lease.drift - 0.02).abs() < f64::EPSILON);
    }

    #[test]
    fn an_unknown_key_is_refused_by_its_name_wherever_it_comes_from() {
        for (text, environment) in [
            (format!("{LEAST}[api]\nlisten_on = \"127.0.0.1:1\"\n"), vec![]),
            (LEAST.to_owned(), vec![("BATOFF_API_LISTEN_ON", "127.0.0.1:1")]),
        ] {
            let error = parse(&text, &environment).unwrap_err().to_string();
            assert!(error.contains("listen_on"), "{error}");
        }
        assert!(parse(&format!("{LEAST}[apy]\n"), &[]).unwrap_err().to_string().contains("apy"));
    }

    #[test]
    fn variables_of_other_programs_are_left_alone() {
        parse(
            LEAST,
            &[("BATOFF_NODE_POP", "fra1"), ("BATOFF_TOKEN", "x"), ("BATOFF_CONTROL_PORT", "tcp://1")],
        )
        .unwrap();
    }
}
