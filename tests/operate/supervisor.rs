//! What systemd hears of the programs: when they do their job, that they still do, why not, and when they end.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use batoff_tests::{Launch, PATIENCE, Program, kill, scratch};
use rustix::process::Signal;

/// What systemd would say to a unit with `WatchdogSec=`.
const WATCHDOG: Duration = Duration::from_millis(1500);

/// The end of the socket that systemd listens at.
struct Ear(UnixDatagram);

impl Ear {
    fn new(dir: &Path) -> (Self, Vec<(String, String)>) {
        let path = dir.join("notify");
        drop(fs::remove_file(&path));
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let variables = [
            ("NOTIFY_SOCKET", path.to_str().unwrap().to_owned()),
            ("WATCHDOG_USEC", WATCHDOG.as_micros().to_string()),
        ];
        (Self(socket), variables.map(|(name, value)| (name.to_owned(), value)).to_vec())
    }

    /// Listens until a line like that comes; what else came before is told, too.
    fn hear(&self, wanted: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let mut heard = BTreeSet::new();
        let since = Instant::now();
        loop {
            let mut bytes = [0; 4096];
            let length = self.0.recv(&mut bytes).unwrap_or_else(|error| panic!("{error}; heard: {heard:?}"));
            for line in String::from_utf8_lossy(&bytes[..length]).lines() {
                heard.insert(line.to_owned());
                if wanted(line) {
                    return heard;
                }
            }
            assert!(since.elapsed() < PATIENCE, "heard only {heard:?}");
        }
    }
}

fn is(line: &'static str) -> impl Fn(&str) -> bool {
    move |heard| heard == line
}

#[test]
fn systemd_hears_of_the_control_plane_from_its_first_moment_to_its_last() {
    let dir = scratch();
    let init = Program::run("batoff-control", &["init", "--data-dir", "data"], dir.path());
    assert!(init.status.success());
    let anywhere = |sections: &[&str]| -> String {
        sections.iter().map(|section| format!("[{section}]\nlisten = \"127.0.0.1:0\"\n")).collect()
    };
    let config = format!(
        "[data]\ndir = \"data\"\n{}[grpc]\nlisten = \"127.0.0.1:0\"\nplaintext = true\n",
        anywhere(&["api", "admin", "metrics"])
    );
    fs::write(dir.path().join("control.toml"), config).unwrap();
    let (ear, variables) = Ear::new(dir.path());
    let launch = Launch::new("batoff-control", &["--config", "control.toml"], dir.path()).with(&variables);
    lives_and_ends(launch.start(), &ear, "STATUS=ready");
}

#[test]
fn systemd_hears_of_a_daemon_that_nobody_answers() {
    let dir = scratch();
    let config = "[node]\npop = \"fra1\"\nnode = \"edge-1\"\n[control]\nendpoints = [\"http://127.0.0.1:1\"]\n\
                  plaintext = true\n[state]\ndir = \"state\"\n[caches]\nnone = true\n[metrics]\nlisten = \"127.0.0.1:0\"\n";
    fs::write(dir.path().join("edge.toml"), config).unwrap();
    let (ear, variables) = Ear::new(dir.path());
    let launch = Launch::new("batoff-edge", &["--config", "edge.toml"], dir.path()).with(&variables);
    // It has started, it says that all is well, and what it waits for stands in the status.
    lives_and_ends(launch.start(), &ear, "STATUS=");
}

/// Ready, well three times, its certificates read again, ended.
fn lives_and_ends(mut program: Program, ear: &Ear, status: &str) {
    let mut heard = ear.hear(is("READY=1"));
    for _ in 0..3 {
        heard.append(&mut ear.hear(is("WATCHDOG=1")));
    }
    assert!(heard.iter().any(|line| line.starts_with(status)), "{heard:?}");
    kill(program.pid(), Signal::HUP);
    ear.hear(is("RELOADING=1"));
    ear.hear(is("READY=1"));
    kill(program.pid(), Signal::TERM);
    ear.hear(is("STOPPING=1"));
    assert_eq!(program.terminate(), 0);
}
