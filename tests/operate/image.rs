//! The image and the compose file: built, unpacked, and run as a container runtime would run them, with a read-only root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use batoff_tests::{PATIENCE, binary, isolated, kill, run, scratch};
use rustix::process::Signal;
use serde_json::Value;

use crate::{kept_tool, root};

/// The user of the image, by number.
const USER: &str = "10001";

/// How long a program may drain.
const DRAIN_MAX: Duration = Duration::from_secs(10);

fn in_containers<F: Future<Output = ()>>(story: impl FnOnce() -> F + 'static) {
    let python = kept_tool("deploy/bin/python");
    isolated(&["umoci", "chroot", "strip", &python], story);
}

fn build(out: &Path) -> PathBuf {
    let mut build = Command::new(root().join("deploy/image/build"));
    build.arg("--programs").arg(binary("batoff").parent().unwrap()).arg("--out").arg(out);
    let output = build.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    out.to_owned()
}

/// The files of an OCI layout that say what is in it: each other one is named by its hash.
fn said_by(layout: &Path) -> (String, Vec<String>) {
    let index = fs::read_to_string(layout.join("index.json")).unwrap();
    let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap();
    let mut blobs: Vec<String> = blobs.map(|blob| blob.unwrap().file_name().into_string().unwrap()).collect();
    blobs.sort();
    (index, blobs)
}

/// An image's files, as a container sees them.
struct Container {
    rootfs: PathBuf,
    /// What a runtime is told of user, environment and command.
    process: Value,
}

impl Container {
    fn unpacked(layout: &Path, to: &Path) -> Self {
        let image = format!("{}:{}", layout.display(), env!("CARGO_PKG_VERSION"));
        run("umoci", &["unpack", "--image", &image, to.to_str().unwrap()]);
        let config = fs::read_to_string(to.join("config.json")).unwrap();
        let process = serde_json::from_str::<Value>(&config).unwrap()["process"].take();
        Self { rootfs: to.join("rootfs"), process }
    }

    /// Mounts what a service has beside its image, and closes the rest to writing.
    fn with(&self, folders: &[(&str, &str)], files: &[(&Path, &str)]) {
        // Where a runtime mounts something, it makes the place for it.
        fs::create_dir_all(self.inside("/proc")).unwrap();
        for (target, _) in folders {
            fs::create_dir_all(self.inside(target)).unwrap();
        }
        for (source, target) in files {
            let target = self.inside(target);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            if source.is_dir() { fs::create_dir_all(&target) } else { fs::write(&target, "") }.unwrap();
        }
        let root = self.rootfs.to_str().unwrap();
        run("mount", &["--bind", root, root]);
        run("mount", &["-o", "remount,bind,ro", root]);
        run("mount", &["-t", "proc", "proc", self.inside("/proc").to_str().unwrap()]);
        for (target, user) in folders {
            let options = format!("uid={user},gid={user},mode=0700");
            run("mount", &["-t", "tmpfs", "-o", &options, "none", self.inside(target).to_str().unwrap()]);
        }
        for (source, target) in files {
            run("mount", &["--bind", source.to_str().unwrap(), self.inside(target).to_str().unwrap()]);
        }
    }

    fn inside(&self, path: &str) -> PathBuf {
        self.rootfs.join(path.trim_start_matches('/'))
    }

    fn command(&self, user: &str, words: &[String]) -> Command {
        let mut chroot = Command::new("chroot");
        // One user, and no other groups.
        chroot.arg(format!("--userspec={user}:{user}")).arg("--groups=").arg(&self.rootfs).args(words);
        chroot.env_clear().env("PATH", "/usr/sbin:/usr/bin").stdin(Stdio::null());
        chroot
    }

    fn run(&self, user: &str, words: &[String]) -> Output {
        self.command(user, words).output().expect("chroot runs")
    }

    fn fine(&self, user: &str, words: &[String]) -> String {
        let output = self.run(user, words);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{words:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }
}

/// The words of a list in the compose file.
fn words(list: &Value) -> Vec<String> {
    let list = list.as_array().unwrap_or_else(|| panic!("{list} is no list"));
    list.iter().map(|word| word.as_str().expect("a word").to_owned()).collect()
}

/// A health check, without the word that says that it is one.
fn health(service: &Value) -> Vec<String> {
    let test = words(&service["healthcheck"]["test"]);
    assert_eq!(test[0], "CMD", "there is no shell in the image");
    test[1..].to_vec()
}

fn compose() -> Value {
    let read = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let file = root().join("deploy/compose/compose.yaml");
    let json = run(&kept_tool("deploy/bin/python"), &["-c", read, file.to_str().unwrap()]);
    serde_json::from_str(&json).unwrap()
}

/// Asks until it is well.
fn becomes_well(container: &Container, service: &Value) {
    let since = Instant::now();
    loop {
        let answer = container.run(USER, &health(service));
        if answer.status.success() {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "{}", String::from_utf8_lossy(&answer.stderr));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn drains(mut child: Child) {
    let since = Instant::now();
    kill(child.id(), Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(since.elapsed() < DRAIN_MAX, "{:?}", since.elapsed());
}

#[test]
fn the_image_runs_the_services_of_the_compose_file_with_a_root_that_nobody_can_write_to() {
    in_containers(|| async {
        let folder = scratch();
        let layout = build(&folder.path().join("image"));
        let again = build(&folder.path().join("again"));
        assert_eq!(said_by(&layout), said_by(&again), "the same programs make the same image");

        let plane = Container::unpacked(&layout, &folder.path().join("plane"));
        assert_eq!(plane.process["user"]["uid"].to_string(), USER);
        assert_eq!(words(&plane.process["args"])[0], "batoff-control");
        assert!(!plane.inside("/bin/sh").exists() && !plane.inside("/usr/bin/sh").exists());

        let pki = folder.path().join("pki");
        let prepare = root().join("deploy/compose/prepare");
        let output = Command::new(prepare).arg(&pki).env("BATOFF", binary("batoff")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

        let compose = compose();
        let [init, control, edge] = ["init", "control", "edge-fra1"].map(|name| &compose["services"][name]);
        for service in [init, control, edge] {
            assert_eq!(service["read_only"], true, "{service}");
        }
        let of_compose = |name: &str| root().join("deploy/compose").join(name);
        let hosts = folder.path().join("hosts");
        fs::write(&hosts, "127.0.0.1 localhost control\n").unwrap();
        plane.with(
            &[("/var/lib/batoff-control", USER)],
            &[
                (&of_compose("control.toml"), "/etc/batoff/control.toml"),
                (&pki.join("control"), "/etc/batoff/pki"),
            ],
        );
        assert!(plane.fine(USER, &words(&init["command"])).contains("console password"));
        assert_eq!(plane.fine(USER, &words(&init["command"])), "", "the second start makes nothing anew");
        let check = [words(&control["command"]), vec!["--check".to_owned()]].concat();
        plane.fine(USER, &check);
        let log = fs::File::create(folder.path().join("control.log")).unwrap();
        let running = plane.command(USER, &words(&control["command"])).stderr(log).spawn().unwrap();
        becomes_well(&plane, control);

        let node = Container::unpacked(&layout, &folder.path().join("node"));
        let user = edge["user"].as_str().unwrap().split(':').next().unwrap().to_owned();
        node.with(
            &[
                ("/var/lib/batoff-edge", &user),
                ("/var/cache/nginx-site", &user),
                ("/run/batoff-nginx", &user),
            ],
            &[
                (&of_compose("edge.toml"), "/etc/batoff/edge.toml"),
                (&pki.join("fra1"), "/etc/batoff/pki"),
                (&hosts, "/etc/hosts"),
            ],
        );
        let log = fs::File::create(folder.path().join("edge.log")).unwrap();
        let mut command = node.command(&user, &words(&edge["command"]));
        let pop = edge["environment"]["BATOFF_NODE_POP"].as_str().unwrap();
        let daemon = command.env("BATOFF_NODE_POP", pop).stderr(log).spawn().unwrap();
        becomes_well(&node, edge);

        // A registered node with a lease, over TLS with the certificates that `prepare` made.
        let admin = ["batoff", "--admin-token-file", "/var/lib/batoff-control/admin.token", "nodes", "list"];
        let nodes = plane.fine(USER, &admin.map(str::to_owned));
        assert!(nodes.contains("fra1/edge-1"), "{nodes}");
        drains(daemon);
        drains(running);
        assert!(!node.run(&user, &health(edge)).status.success(), "nobody is there any more");
    });
}

/// The files that a service is given, from the folder of the compose file.
fn sources(service: &Value, configs: &Value) -> Vec<String> {
    let volumes = service["volumes"].as_array().cloned().unwrap_or_default();
    let volumes = volumes.iter().filter_map(|volume| volume.as_str()?.split(':').next().map(str::to_owned));
    let given = service["configs"].as_array().cloned().unwrap_or_default();
    let given = given.iter().map(|given| {
        let name = given["source"].as_str().expect("a name");
        configs[name]["file"].as_str().unwrap_or_else(|| panic!("there is no config {name}")).to_owned()
    });
    volumes.chain(given).filter(|source| source.starts_with('.')).collect()
}

#[test]
fn what_the_compose_file_names_is_there() {
    if crate::lacks(&[&kept_tool("deploy/bin/python")], "what_the_compose_file_names_is_there") {
        return;
    }
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    assert_eq!(services.keys().filter(|name| name.starts_with("nginx-")).count(), 3);
    for (name, service) in services {
        for source in sources(service, &compose["configs"]) {
            // Those are made by `prepare`.
            let there = source.starts_with("./pki/") || root().join("deploy/compose").join(&source).exists();
            assert!(there, "{name}: there is no {source}");
        }
        let needs = service["depends_on"].clone();
        let needed: Vec<String> = match &needs {
            Value::Object(needs) => needs.keys().cloned().collect(),
            Value::Array(_) => words(&needs),
            _ => Vec::new(),
        };
        assert!(needed.iter().all(|needed| services.contains_key(needed)), "{name} needs {needed:?}");
        for volume in service["volumes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let source = volume.split(':').next().unwrap();
            let is_file = source.starts_with('.');
            assert!(
                is_file || compose["volumes"].get(source).is_some(),
                "{name}: there is no volume {source}"
            );
        }
    }
}

#[test]
fn the_compose_file_is_one_by_the_specification() {
    let python = kept_tool("deploy/bin/python");
    if crate::lacks(&[&python], "the_compose_file_is_one_by_the_specification") {
        return;
    }
    let read = root().join("tests/operate/compose.py");
    let file = root().join("deploy/compose/compose.yaml");
    run(&python, &[read.to_str().unwrap(), file.to_str().unwrap()]);
    // That whoever reads it looks at it.
    let (folder, text) = (scratch(), fs::read_to_string(file).unwrap());
    let slip = folder.path().join("compose.yaml");
    fs::write(&slip, text.replacen("healthcheck:", "heathcheck:", 1)).unwrap();
    let read = Command::new(&python).args([&read, &slip]).output().unwrap();
    assert!(!read.status.success(), "an unknown key was taken");
}

#[test]
fn hadolint_has_nothing_to_say_of_the_dockerfile() {
    let hadolint = kept_tool("deploy/bin/hadolint");
    if crate::lacks(&[&hadolint], "hadolint_has_nothing_to_say_of_the_dockerfile") {
        return;
    }
    run(&hadolint, &[root().join("deploy/image/Dockerfile").to_str().unwrap()]);
}

#[test]
fn prometheus_reads_what_it_is_given_in_the_compose_file() {
    let folder = scratch();
    let text = fs::read_to_string(root().join("deploy/compose/prometheus.yml")).unwrap();
    // Where the rules are here.
    let rules = root().join("deploy/prometheus/batoff.rules.yml");
    let text = text.replace("/etc/prometheus/batoff.rules.yml", rules.to_str().unwrap());
    let file = folder.path().join("prometheus.yml");
    fs::write(&file, text).unwrap();
    run("promtool", &["check", "config", file.to_str().unwrap()]);
}
