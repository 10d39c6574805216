//! The packages: built, installed, upgraded and removed by the commands of their page, on a machine with Debian's files.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use axum::Router;
use batoff_tests::{binary, isolated, run, scratch};

use crate::chapters::steps;
use crate::machine::{Machine, packages};
use crate::{kept_tool, root};

const PAGE: &str = "deploy/packages/README.md";

/// As long as there is no release before this one: the same files under a lower number.
const BEFORE: &str = "0.0.9";

/// Where the page says that the origin is.
const ORIGIN: &str = "192.0.2.10:8080";

/// What these stories need: the programs that build and take packages, and the one that makes them.
fn tools() -> Vec<String> {
    let mut tools = vec![kept_tool("nfpm/bin/nfpm")];
    let system =
        ["apt-get", "dpkg", "rpm", "lintian", "systemd-sysusers", "setpriv", "chroot", "nginx", "python3"];
    tools.extend(system.map(str::to_owned));
    tools
}

fn on_a_machine<F: Future<Output = ()>>(story: impl FnOnce() -> F + 'static) {
    let tools = tools();
    isolated(&tools.iter().map(String::as_str).collect::<Vec<_>>(), story);
}

/// Packages of the programs under test, as these flags say.
fn build(out: &Path, flags: &[&str]) -> PathBuf {
    let mut build = Command::new(root().join("deploy/packages/build"));
    build.args(["--quick", "--programs"]).arg(binary("batoff").parent().unwrap()).arg("--out").arg(out);
    let since = Instant::now();
    let output = build.args(flags).output().unwrap();
    println!("{:>6.1?} build {}", since.elapsed(), flags.join(" "));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    out.to_owned()
}

/// What the sources say.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Does what a chapter of the page says, and compares what is printed.
fn follow(machine: &Machine, chapter: &str) {
    follow_and(machine, chapter, |_| {});
}

fn follow_and(machine: &Machine, chapter: &str, done: impl Fn(&str)) {
    for step in steps(PAGE, chapter) {
        let since = Instant::now();
        let printed = machine.sh(&step.command);
        println!("{:>6.1?} # {}", since.elapsed(), step.command);
        assert!(
            step.is_met_by(&printed),
            "{PAGE}, {chapter}: # {}\nprints\n{printed}\nand the page says\n{}",
            step.command,
            step.printed
        );
        done(&step.command);
    }
}

#[test]
fn by_the_commands_of_its_page_it_is_installed_upgraded_and_removed() {
    on_a_machine(|| async {
        let folder = scratch();
        let kinds = ["--format", "deb", "--only", "batoff batoff-control batoff-edge"];
        let before = build(&folder.path().join("before"), &[&kinds[..], &["--version", BEFORE]].concat());
        let now = build(&folder.path().join("now"), &kinds);
        let machine = machine_with_origin();
        machine.bring(&packages(&before, &[".deb"]));

        follow(&machine, "The control plane");
        let wanted = ["750 root:batoff", "640 root:batoff", "700 batoff:batoff", "600 batoff:batoff"];
        let places = "/etc/batoff /etc/batoff/control.toml /var/lib/batoff-control /etc/batoff/control.key";
        assert_eq!(machine.modes(places), wanted);
        machine.sh("man --warnings -E UTF-8 -l -Tutf8 /usr/share/man/man8/batoff-control.8.gz >/dev/null");
        machine.sh("bash -n /usr/share/bash-completion/completions/batoff-control");
        machine.sh("systemctl start nginx");
        follow(&machine, "A node with nginx");
        follow(&machine, "The first purge");

        machine.sh("rm ./*.deb");
        machine.bring(&packages(&now, &[".deb"]));
        let ran = ["batoff-control", "batoff-edge"].map(|unit| machine.pid(unit).expect("it runs"));
        follow_and(&machine, "Upgrade", |command| {
            let runs = ["batoff-control", "batoff-edge"].map(|unit| machine.pid(unit).expect("it runs"));
            match command {
                installs if installs.contains("batoff-edge_") => {
                    assert_eq!(runs, ran, "restarted by a package")
                }
                installs if installs.contains("apt-get") => {
                    assert_eq!(runs[0], ran[0], "restarted by a package")
                }
                _ => {}
            }
        });
        let runs = ["batoff-control", "batoff-edge"].map(|unit| machine.pid(unit).expect("it runs"));
        assert!(runs[0] != ran[0] && runs[1] != ran[1], "both were started anew");
        let installed = machine.sh("dpkg-query -W -f '${Version}\\n' batoff batoff-control batoff-edge");
        assert!(installed.lines().all(|version| version == format!("{VERSION}-1")), "{installed}");
        assert!(
            machine.read("etc/batoff/edge.toml").contains("[caches.nginx]"),
            "the operator's file was replaced"
        );
        assert_eq!(machine.modes(places), wanted);
        // The node, its cache and the token are those of before.
        let cached = "curl -sI http://www.example.com/ | grep X-Cache";
        machine.sh(cached);
        assert!(machine.sh(cached).contains("HIT"));
        assert!(machine.sh("batoff purge --url http://www.example.com/ --wait").contains("completed"));
        assert!(machine.sh(cached).contains("MISS"));

        let state = ["var/lib/batoff-control/master.key", "etc/batoff/edge.toml", "var/lib/batoff-edge"];
        follow_and(&machine, "Remove", |command| {
            if command.contains("apt-get remove") {
                assert_eq!(machine.pid("batoff-edge"), None, "stopped before its files went");
                assert!(state.iter().all(|file| machine.has(file)), "`remove` keeps state and configuration");
            }
        });
        for gone in
            state.iter().chain(&["etc/batoff/control.toml", "usr/bin/batoff-edge", "run/batoff-nginx"])
        {
            assert!(!machine.has(gone), "`purge` leaves {gone}");
        }
        assert!(machine.has("etc/batoff/control.key"), "keys are the operator's");
    });
}

#[test]
fn the_same_sources_make_the_same_bytes_and_lintian_finds_no_error() {
    on_a_machine(|| async {
        let folder = scratch();
        // One with a daemon and one without: the others are made of the same. A release looks at all of them.
        let kinds = ["--only", "batoff batoff-edge"];
        let first = build(&folder.path().join("first"), &kinds);
        let second = build(&folder.path().join("second"), &kinds);
        let all = packages(&first, &[VERSION]);
        assert_eq!(all.len(), 4, "{all:?}");
        for package in &all {
            let again = second.join(package.file_name().unwrap());
            assert!(
                std::fs::read(package).unwrap() == std::fs::read(&again).unwrap(),
                "{} differs",
                again.display()
            );
        }
        let mut lintian = Command::new("lintian");
        lintian.args(["--allow-root", "--no-cfg", "--fail-on", "error"]).args(packages(&first, &[".deb"]));
        let output = lintian.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    });
}

#[test]
fn rpm_installs_upgrades_and_removes_and_keeps_what_is_the_operators() {
    on_a_machine(|| async {
        let folder = scratch();
        let kinds = ["--format", "rpm", "--only", "batoff-control"];
        let before = build(&folder.path().join("before"), &[&kinds[..], &["--version", BEFORE]].concat());
        let now = build(&folder.path().join("now"), &kinds);
        let machine = Machine::new();
        // This machine is none of rpm's: nothing that is needed is known to it.
        let rpm =
            |verb: &str, files: &str| machine.sh(&format!("rpm --nodeps --force-debian {verb} {files}"));
        machine.bring(&packages(&before, &["batoff-control", ".rpm"]));
        rpm("--install", "*.rpm");
        let wanted = ["750 root:batoff", "640 root:batoff", "700 batoff:batoff"];
        let places = "/etc/batoff /etc/batoff/control.toml /var/lib/batoff-control";
        assert_eq!(machine.modes(places), wanted);
        machine.sh("runuser -u batoff -- batoff-control init --data-dir /var/lib/batoff-control");
        machine.sh("sed -i 's/^ca = .*//; s/^cert = .*//; s/^key = .*//; s/^plaintext = .*/plaintext = true/' /etc/batoff/control.toml");
        machine.sh(
            "sed -i 's/^listen = \"0.0.0.0:7443\"/listen = \"127.0.0.1:7443\"/' /etc/batoff/control.toml",
        );
        machine.sh("systemctl enable --now batoff-control && batoff-control probe 127.0.0.1:9464");

        machine.sh("rm *.rpm");
        machine.bring(&packages(&now, &["batoff-control", ".rpm"]));
        let ran = machine.pid("batoff-control");
        let said = rpm("--upgrade", "*.rpm");
        assert!(said.contains("goes on running"), "{said}");
        assert_eq!(machine.pid("batoff-control"), ran, "restarted by a package");
        assert!(machine.read("etc/batoff/control.toml").contains("plaintext = true"));
        let installed = machine.sh("rpm -q --qf '%{VERSION}' batoff-control");
        assert_eq!(installed, VERSION);

        machine.sh("rpm --nodeps --force-debian --erase batoff-control");
        assert_eq!(machine.pid("batoff-control"), None, "stopped before its files went");
        assert!(!machine.has("usr/bin/batoff-control") && !machine.has("etc/batoff/control.toml"));
        assert!(
            machine.has("etc/batoff/control.toml.rpmsave")
                && machine.has("var/lib/batoff-control/master.key")
        );
    });
}

/// A machine that calls itself by the names of the page, with the page's origin on its network.
fn machine_with_origin() -> Machine {
    run("ip", &["address", "add", "192.0.2.10/32", "dev", "lo"]);
    let listener = std::net::TcpListener::bind(ORIGIN).unwrap();
    listener.set_nonblocking(true).unwrap();
    // On a thread of its own: the story waits for the commands that ask here.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let page = Router::new().fallback(async || ([("cache-control", "max-age=3600")], "a page\n"));
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, page).await.unwrap();
        });
    });
    let machine = Machine::new();
    machine.write("etc/hosts", "127.0.0.1 localhost control.example.net www.example.com\n");
    machine
}
