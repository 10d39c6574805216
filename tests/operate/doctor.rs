//! `batoff-control doctor`: each thing that can be wrong is found, and nothing is changed by looking.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use batoff_tests::{Launch, Program, scratch};
use serde_json::Value;

/// What the doctor says: its exit code and its report.
fn doctor(dir: &Path, set: &[&str]) -> (i32, Value) {
    doctor_of("batoff-control", "control.toml", dir, set)
}

/// The same of any program.
pub fn doctor_of(program: &str, config: &str, dir: &Path, set: &[&str]) -> (i32, Value) {
    let mut args = vec!["doctor", "--config", config, "--json"];
    for set in set {
        args.extend(["--set", set]);
    }
    let output = Program::run(program, &args, dir);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    (output.status.code().unwrap(), report)
}

/// That one of the findings is this bad, and is about that.
pub fn finds(report: &Value, severity: &str, area: &str, words: &str) {
    let findings = report["findings"].as_array().unwrap();
    let is_it = |finding: &&Value| {
        finding["severity"] == severity
            && finding["area"] == area
            && finding["found"].as_str().unwrap().contains(words)
    };
    let found = findings.iter().find(is_it);
    let found = found.unwrap_or_else(|| panic!("no {severity} of {area} with {words:?} in {report:#}"));
    assert!(
        severity == "fine" || found["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()),
        "{found}"
    );
}

/// The names in a folder, and what is known of each.
pub fn state(dir: &Path) -> BTreeMap<String, (u64, u32, SystemTime)> {
    let of = |entry: fs::DirEntry| {
        let meta = entry.metadata().unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, (meta.len(), meta.permissions().mode(), meta.modified().unwrap()))
    };
    fs::read_dir(dir).unwrap().map(|entry| of(entry.unwrap())).collect()
}

fn ran(dir: &Path, program: &str, args: &[&str]) {
    let output = Program::run(program, args, dir);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn prepared(dir: &Path) {
    ran(dir, "batoff-control", &["init", "--data-dir", "data"]);
    ran(dir, "batoff", &["certs", "init", "--dir", "pki"]);
    ran(dir, "batoff", &["certs", "issue", "--dir", "pki", "--control", "localhost", "--days", "400"]);
    let listen = "listen = \"127.0.0.1:0\"\n";
    let config = format!(
        "[data]\ndir = \"data\"\n[api]\n{listen}[admin]\n{listen}[console]\n{listen}[metrics]\n{listen}\
         [grpc]\n{listen}ca = \"pki/ca.pem\"\ncert = \"pki/control.pem\"\nkey = \"pki/control.key\"\n\
         [limits]\nnode_connections = 16\n[listeners]\nconnections_max = 64\nconnections_per_address_max = 64\n"
    );
    fs::write(dir.join("control.toml"), config).unwrap();
}

#[test]
fn the_doctor_finds_what_is_wrong_and_says_what_to_change() {
    let dir = scratch();
    let dir = dir.path();
    prepared(dir);
    let (_, report) = doctor(dir, &[]);
    finds(&report, "fine", "configuration", "control.toml is fine");
    finds(&report, "fine", "store", "there is none yet");
    finds(&report, "fine", "certificates", "fits its key");
    finds(&report, "fine", "descriptors", "enough for");
    finds(&report, "fine", "clock", "not before");
    assert!(report["findings"].to_string().contains("a flush takes"), "{report:#}");

    // Configuration.
    let (code, report) = doctor(dir, &["lease.heartbeat_ms=400"]);
    assert_eq!(code, 2);
    finds(&report, "error", "configuration", "heartbeat");
    // Ports.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, report) = doctor(dir, &[&format!("api.listen={}", taken.local_addr().unwrap())]);
    assert_eq!(code, 2);
    finds(&report, "error", "ports", &format!("pid {}", std::process::id()));
    let (_, report) = doctor(dir, &["metrics.listen=192.0.2.1:9464"]);
    finds(&report, "error", "ports", "192.0.2.1:9464");
    // Descriptors.
    let few = "ulimit -n 64 && exec \"$0\" doctor --config control.toml --json";
    let program = batoff_tests::binary("batoff-control");
    let output = Command::new("sh").arg("-c").arg(few).arg(program).current_dir(dir).output().unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap();
    finds(&report, "warning", "descriptors", "64 files may be open");
    // Certificates.
    let (key, cert) = (dir.join("pki/control.key"), dir.join("pki/control.pem"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let (_, report) = doctor(dir, &[]);
    finds(&report, "error", "certificates", "may be read by everyone");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    ran(dir, "batoff", &["certs", "renew", "--dir", "pki", "--days", "3", "pki/control.pem"]);
    let (_, report) = doctor(dir, &[]);
    finds(&report, "warning", "certificates", "pki/control.pem ends in ");
    fs::copy(dir.join("pki/ca.pem"), &cert).unwrap();
    let (_, report) = doctor(dir, &[]);
    finds(&report, "error", "certificates", "control.pem");
    ran(dir, "batoff", &["certs", "init", "--dir", "other"]);
    fs::copy(dir.join("pki/control.pem.old"), &cert).unwrap();
    fs::copy(dir.join("pki/control.key.old"), &key).unwrap();
    // The clock.
    let ahead = SystemTime::now() + Duration::from_secs(7_200);
    fs::File::options().append(true).open(dir.join("data/admin.token")).unwrap().set_modified(ahead).unwrap();
    let (_, report) = doctor(dir, &[]);
    finds(&report, "warning", "clock", " from now");
    let now = SystemTime::now();
    fs::File::options().append(true).open(dir.join("data/admin.token")).unwrap().set_modified(now).unwrap();
    // The data folder.
    fs::set_permissions(dir.join("data"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(dir.join("data/master.key"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::rename(dir.join("data/admin.token"), dir.join("token")).unwrap();
    let (code, report) = doctor(dir, &[]);
    assert_eq!(code, 2);
    finds(&report, "warning", "data", "is open to others");
    finds(&report, "error", "data", "master.key may be read by others");
    finds(&report, "error", "data", "admin.token");
    fs::rename(dir.join("token"), dir.join("data/admin.token")).unwrap();
    // The store.
    fs::write(dir.join("data/LOG_ID"), "01JF7M2KZ7YH9Q4K0P2BDH9W3Y\n").unwrap();
    let (_, report) = doctor(dir, &[]);
    finds(&report, "error", "store", "says that there was a log");
}

#[test]
fn the_doctor_looks_on_beside_a_control_plane_and_changes_nothing() {
    let dir = scratch();
    let dir = dir.path();
    prepared(dir);
    let before = state(&dir.join("data"));
    doctor(dir, &[]);
    assert_eq!(state(&dir.join("data")), before, "a folder that nobody uses is as it was");

    let arguments = ["--config", "control.toml", "--announce", "--exit-with-parent"];
    let mut control = Launch::new("batoff-control", &arguments, dir).start_logging_to(&dir.join("log"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(control.stdout()), &mut line).unwrap();
    let announced: Value = serde_json::from_str(&line).unwrap();
    let api = announced["api"].as_str().unwrap();
    let (_, report) = doctor(dir, &[&format!("api.listen={api}")]);
    finds(&report, "fine", "store", "a control plane runs on it");
    finds(&report, "fine", "ports", &format!("held by batoff-control, pid {}", control.pid()));
    assert_eq!(control.terminate(), 0);

    let before = state(&dir.join("data"));
    let (_, report) = doctor(dir, &[]);
    finds(&report, "fine", "store", "nobody has it open");
    assert_eq!(state(&dir.join("data")), before);
    // Of another version.
    let text = Program::run("batoff-control", &["doctor", "--config", "control.toml"], dir);
    assert!(String::from_utf8_lossy(&text.stdout).contains("ok      store"), "for people, too");
}

/// Who runs the control plane where the test is root: nobody, who may not look into a process that others may not read.
const NOBODY: u32 = 65_534;

#[test]
fn the_doctor_of_its_own_user_knows_the_ports_of_the_control_plane_that_runs() {
    let dir = scratch();
    let dir = dir.path();
    prepared(dir);
    // A program that may be run and not read, like one in a unit's sandbox, does not show whose its sockets are.
    let program = dir.join("batoff-control");
    fs::copy(batoff_tests::binary("batoff-control"), &program).unwrap();
    let may = |mode| fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
    let as_its_user = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.args(args).current_dir(dir);
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    if rustix::process::geteuid().is_root() {
        let everything = Command::new("chown").args(["-R", &format!("{NOBODY}:{NOBODY}")]).arg(dir).status();
        assert!(everything.unwrap().success());
    }
    may(0o111);
    let mut starting = as_its_user(&["--config", "control.toml", "--announce", "--exit-with-parent"]);
    starting.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut control = starting.spawn().unwrap();
    let mut line = String::new();
    let stdout = control.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    let announced: Value = serde_json::from_str(&line).unwrap();
    may(0o755);
    let mut args =
        vec!["doctor".to_owned(), "--config".to_owned(), "control.toml".to_owned(), "--json".to_owned()];
    let listeners = ["api", "admin", "console", "grpc", "metrics"];
    for listener in listeners {
        let address = announced[listener].as_str().unwrap();
        args.extend(["--set".to_owned(), format!("{listener}.listen={address}")]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let said = as_its_user(&args).output().unwrap();
    // Its input closes: it drains.
    drop(control.stdin.take());
    control.wait().unwrap();
    let report: Value = serde_json::from_slice(&said.stdout).unwrap();
    for listener in listeners {
        let address = announced[listener].as_str().unwrap();
        finds(&report, "fine", "ports", &format!("{listener}: {address} is held by"));
    }
    finds(&report, "fine", "ports", "as whom the batoff-control of this configuration runs");
    finds(&report, "fine", "store", "a control plane runs on it");
}
