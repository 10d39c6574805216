use std::path::{Path, PathBuf};

use batoff_client::{AdminClient, Client, Credentials, Endpoint};
use serde::Deserialize;

use crate::args::{Connection, Format};
use crate::exit::Failure;
use crate::output;

/// Where the admin API listens unless something else is said.
const ADMIN_DEFAULT: &str = "http://127.0.0.1:8082";

/// The configuration file: the flags under the same names.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    api: Option<String>,
    site: Option<String>,
    token: Option<String>,
    token_file: Option<PathBuf>,
    secret: Option<String>,
    secret_file: Option<PathBuf>,
    admin: Option<String>,
    admin_token: Option<String>,
    admin_token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    client_cert: Option<PathBuf>,
    client_key: Option<PathBuf>,
}

/// Flags, environment and configuration file, in that order.
#[derive(Debug)]
pub struct Settings {
    given: Connection,
    file: File,
    file_name: String,
}

impl Settings {
    /// Reads the configuration file; it must exist only if it was named.
    pub fn load(given: Connection) -> Result<Self, Failure> {
        let (path, named) = match &given.config {
            Some(path) => (Some(path.clone()), true),
            None => (default_path(std::env::var_os("XDG_CONFIG_HOME"), std::env::var_os("HOME")), false),
        };
        let file_name =
            path.as_ref().map_or_else(|| "a configuration file".to_owned(), |p| p.display().to_string());
        let text = match path.as_deref().map(std::fs::read_to_string) {
            Some(Ok(text)) => text,
            Some(Err(error)) if named || error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::Usage(format!("{file_name}: {error}")));
            }
            _ => String::new(),
        };
        let file = toml::from_str(&text)
            .map_err(|error| Failure::Usage(format!("{file_name}: {}", error.to_string().trim_end())))?;
        Ok(Self { given, file, file_name })
    }

    /// For people or for scripts.
    pub fn format(&self) -> Format {
        self.given.output
    }

    /// The site that the command is about.
    pub fn site(&self) -> Result<&str, Failure> {
        let site = self.given.site.as_deref().or(self.file.site.as_deref());
        site.ok_or_else(|| self.missing("site", "--site", "BATOFF_SITE", "site"))
    }

    /// The purge API with the token.
    pub fn client(&self) -> Result<Client, Failure> {
        let api = self.given.api.as_deref().or(self.file.api.as_deref());
        let api = api.ok_or_else(|| self.missing("API", "--api", "BATOFF_API", "api"))?;
        let endpoint = self.trusting(Endpoint::new(api)?)?;
        let token = secret(
            [(&self.given.token, &self.given.token_file), (&self.file.token, &self.file.token_file)],
            || self.missing("token", "--token-file", "BATOFF_TOKEN", "token"),
        )?;
        let signing = secret(
            [(&self.given.secret, &self.given.secret_file), (&self.file.secret, &self.file.secret_file)],
            || self.missing("signing secret", "--secret-file", "BATOFF_SECRET", "secret"),
        )?;
        Ok(Client::new(endpoint, Credentials::new(&token, &signing))?)
    }

    /// The admin API with its token.
    pub fn admin(&self) -> Result<AdminClient, Failure> {
        let admin = self.given.admin.as_deref().or(self.file.admin.as_deref()).unwrap_or(ADMIN_DEFAULT);
        let mut endpoint = self.trusting(Endpoint::admin(admin)?)?;
        let cert = self.given.client_cert.as_ref().or(self.file.client_cert.as_ref());
        let key = self.given.client_key.as_ref().or(self.file.client_key.as_ref());
        if let (Some(cert), Some(key)) = (cert, key) {
            endpoint = endpoint.with_identity_files(cert, key)?;
        }
        let token = secret(
            [
                (&self.given.admin_token, &self.given.admin_token_file),
                (&self.file.admin_token, &self.file.admin_token_file),
            ],
            || self.missing("admin token", "--admin-token-file", "BATOFF_ADMIN_TOKEN", "admin_token"),
        )?;
        Ok(AdminClient::new(endpoint, &token)?)
    }

    fn trusting(&self, endpoint: Endpoint) -> Result<Endpoint, Failure> {
        if endpoint.is_plaintext_beyond_loopback() {
            output::note(&format!(
                "batoff: warning: {} is not encrypted: the token crosses the network in the clear",
                endpoint.as_str()
            ));
        }
        match self.given.ca_file.as_ref().or(self.file.ca_file.as_ref()) {
            Some(path) => Ok(endpoint.with_ca_file(path)?),
            None => Ok(endpoint),
        }
    }

    fn missing(&self, what: &str, flag: &str, variable: &str, key: &str) -> Failure {
        let file = &self.file_name;
        Failure::Usage(format!(
            "which {what}? Give {flag}, set {variable}, or write `{key} = \"…\"` in {file}"
        ))
    }
}

fn default_path(
    config_home: Option<std::ffi::OsString>,
    home: Option<std::ffi::OsString>,
) -> Option<PathBuf> {
    let absolute = |path: std::ffi::OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let folder = config_home.and_then(absolute).or_else(|| Some(home.and_then(absolute)?.join(".config")))?;
    Some(folder.join("batoff/config.toml"))
}

/// The first of the places that says anything; the text itself goes before a file.
fn secret(
    places: [(&Option<String>, &Option<PathBuf>); 2],
    missing: impl FnOnce() -> Failure,
) -> Result<String, Failure> {
    for (text, path) in places {
        if let Some(text) = text {
            return Ok(text.trim().to_owned());
        }
        if let Some(path) = path {
            return read_secret(path);
        }
    }
    Err(missing())
}

fn read_secret(path: &Path) -> Result<String, Failure> {
    let text =
        std::fs::read_to_string(path).map_err(|e| Failure::Usage(format!("{}: {e}", path.display())))?;
    match text.trim() {
        "" => Err(Failure::Usage(format!("{} is empty", path.display()))),
        text => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(given: Connection, file: &str) -> Result<Settings, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, file).unwrap();
        Settings::load(Connection { config: Some(path), ..given })
    }

    #[test]
    fn what_is_given_goes_before_the_file() {
        let file = "site = \"from-file\"\n";
        assert_eq!(load(Connection::default(), file).unwrap().site().unwrap(), "from-file");
        let given = Connection { site: Some("given".into()), ..Connection::default() };
        assert_eq!(load(given, file).unwrap().site().unwrap(), "given");
    }

    #[test]
    fn what_is_missing_is_named_with_all_its_places() {
        let error = load(Connection::default(), "").unwrap().client().unwrap_err().to_string();
        for place in ["--api", "BATOFF_API", "`api = ", "config.toml"] {
            assert!(error.contains(place), "{error}");
        }
    }

    #[test]
    fn a_misspelt_key_is_an_error() {
        let error = load(Connection::default(), "tokn = \"x\"\n").unwrap_err();
        assert!(matches!(&error, Failure::Usage(text) if text.contains("tokn")), "{error}");
    }

    #[test]
    fn a_file_of_secrets_loses_its_last_newline() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        std::fs::write(&path, "bto_admin_x\n").unwrap();
        assert_eq!(read_secret(&path).unwrap(), "bto_admin_x");
    }

    #[test]
    fn the_default_file_is_in_the_users_configuration_folder() {
        let path =
            |xdg: Option<&str>, home: Option<&str>| default_path(xdg.map(Into::into), home.map(Into::into));
        assert_eq!(path(None, Some("/home/a")), Some("/home/a/.config/batoff/config.toml".into()));
        assert_eq!(path(Some("/cfg"), Some("/home/a")), Some("/cfg/batoff/config.toml".into()));
        assert_eq!(path(Some(""), Some("/home/a")), Some("/home/a/.config/batoff/config.toml".into()));
        assert_eq!(path(None, None), None);
    }
}
