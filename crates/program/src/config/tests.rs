use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    data: Data,
    #[serde(default)]
    caches: Caches,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    dir: PathBuf,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    count: u32,
    #[serde(default)]
    share: f64,
    #[serde(default)]
    on: bool,
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    peers: Vec<IpAddr>,
    #[serde(default)]
    origins: Vec<Origin>,
    listen: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Origin {
    host: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Caches {
    #[serde(default)]
    none: bool,
    nginx: Option<Nginx>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nginx {
    path: PathBuf,
    #[serde(default)]
    modes: std::collections::BTreeMap<String, Kind>,
}

impl ConfigFile for Example {
    const FOREIGN: &'static [&'static str] = &["BATOFF_DATA_TOKEN"];

    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::within("data.count", u64::from(self.data.count), 0, 9)
    }
}

const LEAST: &str = "[data]\ndir = \"/srv\"\n";

fn with(text: &str, environment: &[(&str, &str)], set: &[&str]) -> Result<Example, String> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let set: Vec<_> = set.iter().map(|setting| (*setting).to_owned()).collect();
    read(text, Path::new("example.toml"), environment, &set).map_err(|error| error.to_string())
}

fn variable(name: &str, value: &str) -> Result<Example, String> {
    with(LEAST, &[(name, value)], &[])
}

#[test]
fn a_text_is_read_as_what_its_key_asks_for() {
    for text in ["2026", "true", "007", "[a]", "1979-05-27", "a = b", "\"quoted\"", "a,b"] {
        assert_eq!(variable("BATOFF_DATA_DIR", text).unwrap().data.dir, Path::new(text), "{text}");
        assert_eq!(variable("BATOFF_DATA_NAME", text).unwrap().data.name.as_deref(), Some(text));
    }
    assert_eq!(variable("BATOFF_DATA_COUNT", "7").unwrap().data.count, 7);
    assert!((variable("BATOFF_DATA_SHARE", "1").unwrap().data.share - 1.0).abs() < f64::EPSILON);
    assert!((variable("BATOFF_DATA_SHARE", "0.25").unwrap().data.share - 0.25).abs() < f64::EPSILON);
    assert!(variable("BATOFF_DATA_ON", "true").unwrap().data.on);
    assert_eq!(variable("BATOFF_DATA_KIND", "json").unwrap().data.kind, Kind::Json);
    assert_eq!(variable("BATOFF_DATA_LISTEN", "[::1]:80").unwrap().data.listen.unwrap().port(), 80);
    for (name, value, says) in [
        ("BATOFF_DATA_COUNT", "seven", "a whole number"),
        ("BATOFF_DATA_COUNT", "-1", "expected u32"),
        ("BATOFF_DATA_ON", "yes", "true or false"),
        ("BATOFF_DATA_KIND", "loud", "`json`"),
        ("BATOFF_DATA_LISTEN", "here", "socket address"),
    ] {
        let error = variable(name, value).unwrap_err();
        let key = name.trim_start_matches("BATOFF_DATA_").to_lowercase();
        assert!(error.starts_with(&format!("{name}: data.{key}: ")) && error.contains(says), "{error}");
    }
}

#[test]
fn a_list_is_words_with_commas_or_as_toml_writes_it() {
    for (text, count) in
        [("::1, 10.0.0.1", 2), ("10.0.0.1", 1), ("[\"::1\", \"10.0.0.1\"]", 2), ("[]", 0), ("::1,", 1)]
    {
        assert_eq!(variable("BATOFF_DATA_PEERS", text).unwrap().data.peers.len(), count, "{text}");
    }
    assert!(variable("BATOFF_DATA_PEERS", "::1,nobody").unwrap_err().contains("data.peers"));
    assert!(variable("BATOFF_DATA_PEERS", "[::1]").unwrap_err().contains("commas"));
    let origins = variable("BATOFF_DATA_ORIGINS", "[{ host = \"a.test\" }]").unwrap().data.origins;
    assert_eq!(origins[0].host, "a.test");
    let error = variable("BATOFF_DATA_ORIGINS", "[{ hots = \"a.test\" }]").unwrap_err();
    assert!(error.starts_with("BATOFF_DATA_ORIGINS: data.origins: ") && error.contains("hots"), "{error}");
}

#[test]
fn flags_override_the_environment_and_that_the_file() {
    let name = |environment: &[(&str, &str)], set: &[&str]| {
        let file = format!("{LEAST}name = \"file\"\n");
        with(&file, environment, set).unwrap().data.name.unwrap()
    };
    let variable = [("BATOFF_DATA_NAME", "variable")];
    assert_eq!(name(&[], &[]), "file");
    assert_eq!(name(&variable, &[]), "variable");
    assert_eq!(name(&variable, &["data.name=flag"]), "flag");
    assert_eq!(name(&variable, &["data.name=flag", "data.name=last=1"]), "last=1");
    assert_eq!(name(&[("BATOFF_DATA_NAME", "")], &[]), "file", "an empty variable counts as unset");
    assert_eq!(name(&[], &["data.name="]), "", "an empty flag does not");
    assert!(with(LEAST, &[], &["name=x"]).unwrap_err().contains("section.key=value"));
}

#[test]
fn keys_of_tables_in_tables_have_names_of_their_own() {
    let nginx = with(
        LEAST,
        &[("BATOFF_CACHES_NGINX_PATH", "/var/cache")],
        &["caches.nginx.modes.a=json", "caches.none=true"],
    );
    let caches = nginx.unwrap().caches;
    let nginx = caches.nginx.unwrap();
    assert!(caches.none && nginx.path == Path::new("/var/cache") && nginx.modes["a"] == Kind::Json);
    let error = variable("BATOFF_CACHES_NGINX_PATHS", "x").unwrap_err();
    assert!(error.contains("`paths` in [caches.nginx]; its keys are `path`"), "{error}");
    assert!(variable("BATOFF_CACHES_NONE_AT_ALL", "x").unwrap_err().contains("`none_at_all` in [caches]"));
}

#[test]
fn an_unknown_key_is_named_with_those_there_are_wherever_it_comes_from() {
    for (text, environment, set, at) in [
        (format!("{LEAST}lisen = 1"), vec![], vec![], "example.toml: "),
        (LEAST.to_owned(), vec![("BATOFF_DATA_LISEN", "x")], vec![], "BATOFF_DATA_LISEN: "),
        (LEAST.to_owned(), vec![], vec!["data.lisen=x"], "--set data.lisen: "),
    ] {
        let error = with(&text, &environment, &set).unwrap_err();
        assert!(error.starts_with(&format!("{at}unknown field `lisen` in [data]; its keys are ")), "{error}");
        assert!(error.contains("`listen`"), "{error}");
    }
    let error = with(&format!("{LEAST}[cashes]\n"), &[], &[]).unwrap_err();
    assert_eq!(error, "example.toml: unknown field `cashes`; the sections are `data`, `caches`");
    assert!(with(LEAST, &[], &["cashes.none=true"]).unwrap_err().contains("cashes"));
}

#[test]
fn what_belongs_to_other_programs_is_left_alone() {
    for name in
        ["BATOFF_TOKEN", "BATOFF_DATA", "BATOFF_API_LISTEN", "BATOFF_DATABASE_URL", "BATOFF_DATA_TOKEN"]
    {
        assert!(variable(name, "x").is_ok(), "{name}");
    }
}

#[test]
fn a_message_says_where_and_which_key_on_one_line() {
    for (text, says) in [
        (
            "[data]\ndir = \"/srv\"\ncount = \"7\"",
            "example.toml: data.count: invalid type: string \"7\", expected u32",
        ),
        ("[data]", "example.toml: [data]: missing field `dir`, which has no default"),
        ("", "example.toml: missing field `data`, which has no default"),
        ("data = 1", "example.toml: data: must be a section: write [data] and its keys below"),
        ("[data]\ndir = /srv", "example.toml, line 2: "),
        ("[data]\ndir = \"/srv\"\ncount = 10", "data.count: 10 is outside 0 to 9"),
    ] {
        let error = with(text, &[], &[]).unwrap_err();
        assert!(error.starts_with(says) && !error.contains('\n'), "{error}");
    }
}
