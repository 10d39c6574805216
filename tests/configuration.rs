//! Where a key's value comes from, in all three programs: the file, over it the environment, over it flags; and what a
//! text means is the key's own type's to say.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;

use batoff_tests::{Launch, Program, scratch};

const USAGE: i32 = 64;

/// The programs, each with a configuration that is enough for it.
const PROGRAMS: [(&str, &str); 3] = [
    ("batoff-control", "[data]\ndir = \"data\"\n[grpc]\nplaintext = true\n"),
    (
        "batoff-edge",
        "[node]\npop = \"fra1\"\nnode = \"edge-1\"\n[control]\nendpoints = [\"http://127.0.0.1:1\"]\nplaintext = true\n[state]\ndir = \"state\"\n[caches]\nnone = true\n",
    ),
    (
        "batoff-proxy",
        "[node]\npop = \"fra1\"\nnode = \"edge-1\"\n[control]\nendpoints = [\"http://127.0.0.1:1\"]\nplaintext = true\n[state]\ndir = \"state\"\n[proxy]\norigin = \"http://127.0.0.1:1\"\n",
    ),
];

/// A folder with a file for each program, and two that the control plane can keep its data in.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let dir = scratch();
        for (program, text) in PROGRAMS {
            fs::write(dir.path().join(program), text).unwrap();
        }
        for data in ["data", "2026"] {
            let output = Program::run("batoff-control", &["init", "--data-dir", data], dir.path());
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// What `--check` says with these variables and flags, and its exit code.
    fn check(&self, program: &str, variables: &[(&str, &str)], flags: &[&str]) -> (i32, String) {
        let args: Vec<_> = ["--config", program, "--check"].iter().chain(flags).copied().collect();
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let output = Launch::new(program, &args, self.path()).with(&variables).run();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
    }

    /// The same, when nothing is wrong.
    fn fine(&self, program: &str, variables: &[(&str, &str)], flags: &[&str]) -> String {
        let (code, said) = self.check(program, variables, flags);
        assert_eq!(code, 0, "{program} {variables:?} {flags:?}: {said}");
        said
    }

    /// The same, when something is: one line that begins with the program's name and has these words.
    fn wrong(&self, program: &str, variables: &[(&str, &str)], flags: &[&str], words: &[&str]) {
        let (code, said) = self.check(program, variables, flags);
        assert_eq!(code, USAGE, "{program} {variables:?} {flags:?}: {said}");
        assert!(said.starts_with(&format!("{program}: ")) && said.trim().lines().count() == 1, "{said}");
        for word in words {
            assert!(said.contains(word), "{program} {variables:?} {flags:?} does not say {word:?}: {said}");
        }
    }
}

#[test]
fn a_list_is_words_with_commas_in_every_program() {
    let bench = Bench::new();
    for proxies in ["10.0.0.1,::1", "[\"10.0.0.1\", \"::1\"]", "10.0.0.1"] {
        bench.fine("batoff-control", &[("BATOFF_API_TRUSTED_PROXIES", proxies)], &[]);
    }
    let words = ["api.trusted_proxies", "BATOFF_API_TRUSTED_PROXIES"];
    bench.wrong("batoff-control", &[("BATOFF_API_TRUSTED_PROXIES", "10.0.0.1,nobody")], &[], &words);
    for program in ["batoff-edge", "batoff-proxy"] {
        let said = bench.fine(
            program,
            &[
                ("BATOFF_CONTROL_ENDPOINTS", "http://127.0.0.1:7, http://[::1]:8"),
                ("BATOFF_PATH_PARENTS", "lon1,ams1"),
            ],
            &[],
        );
        assert!(said.contains("http://127.0.0.1:7, http://[::1]:8"), "{said}");
        bench.wrong(program, &[("BATOFF_PATH_PARENTS", "lon1,LON")], &[], &["path.parents", "LON"]);
    }
}

#[test]
fn a_text_that_looks_like_a_number_is_a_text_and_a_number_must_be_one() {
    let bench = Bench::new();
    let said = bench.fine("batoff-control", &[("BATOFF_DATA_DIR", "2026")], &[]);
    assert!(said.contains("data    2026:"), "{said}");
    for program in ["batoff-edge", "batoff-proxy"] {
        let said = bench.fine(program, &[("BATOFF_STATE_DIR", "2026"), ("BATOFF_NODE_NODE", "7")], &[]);
        assert!(said.contains("state   2026") && said.contains("fra1/7"), "{said}");
    }
    for (program, name, key) in [
        ("batoff-control", "BATOFF_LIMITS_LIVE_TASKS", "limits.live_tasks"),
        ("batoff-proxy", "BATOFF_PROXY_MEMORY_BYTES", "proxy.memory_bytes"),
        ("batoff-control", "BATOFF_LISTENERS_IDLE_MS", "listeners.idle_ms"),
        ("batoff-proxy", "BATOFF_LISTENERS_IDLE_MS", "listeners.idle_ms"),
    ] {
        bench.fine(program, &[(name, "1_048_576")], &[]);
        bench.wrong(program, &[(name, "many")], &[], &[name, key, "a whole number"]);
    }
    bench.wrong("batoff-edge", &[("BATOFF_CACHES_NONE", "yes")], &[], &["caches.none", "true or false"]);
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let bench = Bench::new();
    for (program, _) in PROGRAMS {
        let empty = [("BATOFF_LOG_LEVEL", ""), ("BATOFF_METRICS_LISTEN", ""), ("BATOFF_LOG_LEVLE", "")];
        assert!(bench.fine(program, &empty, &[]).contains("log     info"));
    }
}

#[test]
fn an_unknown_key_is_named_with_those_there_are() {
    let bench = Bench::new();
    for (program, text) in PROGRAMS {
        let known = "its keys are `format`, `level`";
        bench.wrong(
            program,
            &[("BATOFF_LOG_LEVLE", "info")],
            &[],
            &["BATOFF_LOG_LEVLE", "`levle` in [log]", known],
        );
        bench.wrong(
            program,
            &[],
            &["--set", "log.levle=info"],
            &["--set log.levle", "`levle` in [log]", known],
        );
        fs::write(bench.path().join(program), format!("{text}[log]\nlevle = \"info\"\n")).unwrap();
        bench.wrong(program, &[], &[], &[&format!("{program}: unknown field `levle` in [log]"), known]);
        fs::write(bench.path().join(program), format!("{text}[lgo]\n")).unwrap();
        bench.wrong(program, &[], &[], &["`lgo`", "the sections are", "`log`"]);
    }
}

#[test]
fn a_flag_overrides_a_variable_and_that_the_file() {
    let bench = Bench::new();
    let variable = [("BATOFF_METRICS_LISTEN", "127.0.0.1:2")];
    let flag = ["--set", "metrics.listen=127.0.0.1:3"];
    for (program, text) in PROGRAMS {
        fs::write(bench.path().join(program), format!("{text}[metrics]\nlisten = \"127.0.0.1:1\"\n"))
            .unwrap();
        for (variables, flags, port) in
            [(&[][..], &[][..], 1), (&variable[..], &[][..], 2), (&variable[..], &flag[..], 3)]
        {
            let said = bench.fine(program, variables, flags);
            assert!(said.contains(&format!("metrics 127.0.0.1:{port}")), "{port}: {said}");
        }
    }
    bench.wrong("batoff-edge", &[], &["--set", "metrics.listen"], &["section.key=value"]);
}

#[test]
fn a_table_in_a_section_has_keys_like_any_other() {
    let bench = Bench::new();
    let text = fs::read_to_string(bench.path().join("batoff-edge")).unwrap().replace("none = true", "");
    fs::write(bench.path().join("batoff-edge"), text).unwrap();
    bench.fine("batoff-edge", &[("BATOFF_CACHES_NGINX_PATH", "/var/cache/nginx")], &[]);
    bench.fine("batoff-edge", &[], &["--set", "caches.nginx.path=/var/cache/nginx"]);
    let words = ["`paths` in [caches.nginx]", "`path`"];
    bench.wrong("batoff-edge", &[("BATOFF_CACHES_NGINX_PATHS", "/var/cache/nginx")], &[], &words);
}
