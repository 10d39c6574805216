//! Where the APIs are and who asks: from flags, the environment and the configuration file, in that order.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use batoff_client::{AdminClient, Client, Credentials, Endpoint};
use serde::Deserialize;

use crate::args::{Connection, Format};
use crate::exit::Failure;
use crate::{output, russian};

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
    output: Option<Format>,
}

impl From<File> for Connection {
    fn from(file: File) -> Self {
        Self {
            config: None,
            api: file.api,
            site: file.site,
            token: file.token,
            token_file: file.token_file,
            secret: file.secret,
            secret_file: file.secret_file,
            admin: file.admin,
            admin_token: file.admin_token,
            admin_token_file: file.admin_token_file,
            ca_file: file.ca_file,
            client_cert: file.client_cert,
            client_key: file.client_key,
            output: file.output,
        }
    }
}

/// Flags, environment and configuration file, in that order.
#[derive(Debug)]
pub struct Settings {
    layers: [Layer; 3],
    file_name: String,
}

/// One place that settings come from.
#[derive(Debug)]
struct Layer {
    /// As errors name it.
    name: String,
    set: Connection,
}

impl Settings {
    /// Reads environment and configuration file; the file must exist only if it was named.
    pub fn load(flags: Connection) -> Result<Self, Failure> {
        Self::load_from(flags, |name| std::env::var_os(name))
    }

    fn load_from(flags: Connection, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Failure> {
        let environment = environment(&variable)?;
        let (path, named) = match flags.config.as_ref().or(environment.config.as_ref()) {
            Some(path) => (Some(path.clone()), true),
            None => (default_path(variable("XDG_CONFIG_HOME"), variable("HOME")), false),
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
        let file: File = toml::from_str(&text)
            .map_err(|error| Failure::Usage(format!("{file_name}: {}", error.to_string().trim_end())))?;
        let layer = |name: &str, set| Layer { name: name.to_owned(), set };
        let layers = [
            layer("the command line", flags),
            layer("the environment", environment),
            layer(&file_name, file.into()),
        ];
        Ok(Self { layers, file_name })
    }

    /// The first place that says it.
    fn first<'a, T>(&'a self, pick: impl Fn(&'a Connection) -> Option<T>) -> Option<T> {
        self.layers.iter().find_map(|layer| pick(&layer.set))
    }

    /// For people or for scripts.
    pub fn format(&self) -> Format {
        self.first(|set| set.output).unwrap_or_default()
    }

    /// The site that the command is about.
    pub fn site(&self) -> Result<&str, Failure> {
        let site = self.first(|set| set.site.as_deref());
        site.ok_or_else(|| self.missing("site", "--site", "BATOFF_SITE", "site"))
    }

    /// The purge API with the token.
    pub fn client(&self) -> Result<Client, Failure> {
        let api = self.first(|set| set.api.as_deref());
        let api = api.ok_or_else(|| self.missing("API", "--api", "BATOFF_API", "api"))?;
        let endpoint = self.trusting(Endpoint::new(api)?)?;
        let token = self
            .secret("token", |set| (set.token.as_deref(), set.token_file.as_deref()))?
            .ok_or_else(|| self.missing("token", "--token-file", "BATOFF_TOKEN", "token"))?;
        let signing = self
            .secret("secret", |set| (set.secret.as_deref(), set.secret_file.as_deref()))?
            .ok_or_else(|| self.missing("signing secret", "--secret-file", "BATOFF_SECRET", "secret"))?;
        Ok(Client::new(endpoint, Credentials::new(&token, &signing))?)
    }

    /// The admin API with its token.
    pub fn admin(&self) -> Result<AdminClient, Failure> {
        let admin = self.first(|set| set.admin.as_deref()).unwrap_or(ADMIN_DEFAULT);
        let mut endpoint = self.trusting(Endpoint::admin(admin)?)?;
        let cert = self.first(|set| set.client_cert.as_ref());
        let key = self.first(|set| set.client_key.as_ref());
        match (cert, key) {
            (Some(cert), Some(key)) => endpoint = endpoint.with_identity_files(cert, key)?,
            (None, None) => {}
            (Some(_), None) => {
                return Err(half("a client certificate without its key: give --client-key, too"));
            }
            (None, Some(_)) => {
                return Err(half("a client key without its certificate: give --client-cert, too"));
            }
        }
        let token = self
            .secret("admin_token", |set| (set.admin_token.as_deref(), set.admin_token_file.as_deref()))?
            .ok_or_else(|| {
                self.missing("admin token", "--admin-token-file", "BATOFF_ADMIN_TOKEN", "admin_token")
            })?;
        Ok(AdminClient::new(endpoint, &token)?)
    }

    fn trusting(&self, mut endpoint: Endpoint) -> Result<Endpoint, Failure> {
        if russian::is_spoken() {
            endpoint = endpoint.with_language("ru");
        }
        if endpoint.is_plaintext_beyond_loopback() {
            output::note(&format!(
                "batoff: warning: {} is not encrypted: the token crosses the network in the clear",
                endpoint.as_str()
            ));
        }
        match self.first(|set| set.ca_file.as_ref()) {
            Some(path) => Ok(endpoint.with_ca_file(path)?),
            None => Ok(endpoint),
        }
    }

    /// The first of the places that says anything, as text or as a file. One that says both means one of them.
    fn secret(
        &self,
        key: &str,
        pick: impl for<'a> Fn(&'a Connection) -> (Option<&'a str>, Option<&'a Path>),
    ) -> Result<Option<String>, Failure> {
        for layer in &self.layers {
            match pick(&layer.set) {
                (None, None) => {}
                (Some(text), None) if text.trim().is_empty() => {
                    return Err(Failure::Usage(format!("{key} is empty in {}", layer.name)));
                }
                (Some(text), None) => return Ok(Some(text.trim().to_owned())),
                (None, Some(path)) => return read_secret(path).map(Some),
                (Some(_), Some(_)) => {
                    let text =
                        format!("{} has both {key} and {key}_file: which one? Take one away", layer.name);
                    return Err(Failure::Usage(text));
                }
            }
        }
        Ok(None)
    }

    fn missing(&self, what: &str, flag: &str, variable: &str, key: &str) -> Failure {
        let file = &self.file_name;
        Failure::Usage(format!(
            "which {what}? Give {flag}, set {variable}, or write `{key} = \"…\"` in {file}"
        ))
    }
}

/// The format for an error, also when the settings themselves cannot be loaded.
pub fn format(flags: &Connection) -> Format {
    let given = flags.output.or_else(|| environment(|name| std::env::var_os(name)).ok()?.output);
    given.unwrap_or_else(|| {
        Settings::load(flags.clone()).map(|settings| settings.format()).unwrap_or_default()
    })
}

/// The same for a command line that could not be understood.
pub fn format_of_words(words: impl Iterator<Item = String>) -> Format {
    let words: Vec<_> = words.collect();
    let json = words.iter().any(|word| matches!(word.as_str(), "-ojson" | "-o=json" | "--output=json"))
        || words.windows(2).any(|pair| matches!(pair[0].as_str(), "-o" | "--output") && pair[1] == "json");
    if json { Format::Json } else { format(&Connection::default()) }
}

fn half(problem: &str) -> Failure {
    Failure::Usage(problem.to_owned())
}

/// The variables. An empty one is not set: that is how a shell takes one back for one command.
fn environment(variable: impl Fn(&str) -> Option<OsString>) -> Result<Connection, Failure> {
    let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let text = |name: &str| match variable(name).filter(|value| !value.is_empty()).map(OsString::into_string)
    {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(Failure::Usage(format!("{name} is not UTF-8"))),
    };
    Ok(Connection {
        config: path("BATOFF_CONFIG"),
        api: text("BATOFF_API")?,
        site: text("BATOFF_SITE")?,
        token: text("BATOFF_TOKEN")?,
        token_file: path("BATOFF_TOKEN_FILE"),
        secret: text("BATOFF_SECRET")?,
        secret_file: path("BATOFF_SECRET_FILE"),
        admin: text("BATOFF_ADMIN")?,
        admin_token: text("BATOFF_ADMIN_TOKEN")?,
        admin_token_file: path("BATOFF_ADMIN_TOKEN_FILE"),
        ca_file: path("BATOFF_CA_FILE"),
        client_cert: path("BATOFF_CLIENT_CERT"),
        client_key: path("BATOFF_CLIENT_KEY"),
        output: match text("BATOFF_OUTPUT")?.as_deref() {
            None => None,
            Some("human") => Some(Format::Human),
            Some("json") => Some(Format::Json),
            Some(other) => {
                return Err(Failure::Usage(format!("BATOFF_OUTPUT is {other:?}: write human or json")));
            }
        },
    })
}

fn default_path(
    config_home: Option<std::ffi::OsString>,
    home: Option<std::ffi::OsString>,
) -> Option<PathBuf> {
    let absolute = |path: std::ffi::OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let folder = config_home.and_then(absolute).or_else(|| Some(home.and_then(absolute)?.join(".config")))?;
    Some(folder.join("batoff/config.toml"))
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

    fn load_in(
        flags: Connection,
        environment: &[(&str, &str)],
        file: &str,
    ) -> Result<(tempfile::TempDir, Settings), Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, file).unwrap();
        let variable = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        Settings::load_from(Connection { config: Some(path), ..flags }, variable)
            .map(|settings| (folder, settings))
    }

    fn load(flags: Connection, file: &str) -> Result<Settings, Failure> {
        load_in(flags, &[], file).map(|(_, settings)| settings)
    }

    #[test]
    fn flags_go_before_the_environment_and_that_before_the_file_for_each_setting() {
        let file = "site = \"from-file\"\napi = \"http://127.0.0.1:1\"\noutput = \"json\"\n";
        let (_folder, settings) =
            load_in(Connection::default(), &[("BATOFF_SITE", "from-env")], file).unwrap();
        assert_eq!((settings.site().unwrap(), settings.format()), ("from-env", Format::Json));
        assert_eq!(settings.first(|set| set.api.as_deref()), Some("http://127.0.0.1:1"));
        let flags = Connection { site: Some("from-flag".into()), ..Connection::default() };
        let environment = [("BATOFF_SITE", "from-env"), ("BATOFF_OUTPUT", "human")];
        let (_folder, settings) = load_in(flags, &environment, file).unwrap();
        assert_eq!((settings.site().unwrap(), settings.format()), ("from-flag", Format::Human));
    }

    #[test]
    fn a_file_that_a_flag_names_goes_before_a_secret_in_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "from-flag\n").unwrap();
        let environment = [("BATOFF_TOKEN", "from-env")];
        let pick: for<'a> fn(&'a Connection) -> (Option<&'a str>, Option<&'a Path>) =
            |set| (set.token.as_deref(), set.token_file.as_deref());
        let flags = Connection { token_file: Some(path), ..Connection::default() };
        let (_kept, settings) = load_in(flags, &environment, "token = \"from-file\"\n").unwrap();
        assert_eq!(settings.secret("token", pick).unwrap().as_deref(), Some("from-flag"));

        let missing = Connection { token_file: Some(folder.path().join("absent")), ..Connection::default() };
        let (_kept, settings) = load_in(missing, &environment, "").unwrap();
        let error = settings.secret("token", pick).unwrap_err().to_string();
        assert!(error.contains("absent"), "{error}");

        let (_kept, settings) =
            load_in(Connection::default(), &environment, "token = \"from-file\"\n").unwrap();
        assert_eq!(settings.secret("token", pick).unwrap().as_deref(), Some("from-env"));
        let both = [("BATOFF_TOKEN", "x"), ("BATOFF_TOKEN_FILE", "/y")];
        let (_kept, settings) = load_in(Connection::default(), &both, "").unwrap();
        let error = settings.secret("token", pick).unwrap_err().to_string();
        assert!(error.contains("the environment has both"), "{error}");
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        let empty =
            [("BATOFF_SITE", ""), ("BATOFF_TOKEN", ""), ("BATOFF_TOKEN_FILE", ""), ("BATOFF_OUTPUT", "")];
        let (_folder, settings) = load_in(Connection::default(), &empty, "site = \"from-file\"\n").unwrap();
        assert_eq!((settings.site().unwrap(), settings.format()), ("from-file", Format::Human));
        let error = load_in(Connection::default(), &[("BATOFF_OUTPUT", "xml")], "").unwrap_err().to_string();
        assert!(error.contains("BATOFF_OUTPUT") && error.contains("json"), "{error}");
    }

    #[test]
    fn a_variable_that_names_a_missing_file_is_an_error() {
        let error = Settings::load_from(Connection::default(), |name| {
            (name == "BATOFF_CONFIG").then(|| OsString::from("/nowhere/config.toml"))
        });
        assert!(error.unwrap_err().to_string().contains("/nowhere/config.toml"));
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
