//! A machine to install on: this one's files, or those of `BATOFF_DEBIAN_ROOT`, with whatever is written going to memory,
//! and processes of its own. With `BATOFF_SYSTEMD=1` it is booted ([`Booted`]), and systemd starts the units; without it a
//! stand-in does, which needs less of the machine that the tests run on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use batoff_tests::{mounted, run};
use tempfile::TempDir;

use crate::booted::Booted;

/// What a shell of the machine begins with. Exports of former commands are there again, as in one session.
const SESSION: &str = "cd /root/session; [ ! -e .exports ] || . ./.exports; trap 'export -p > .exports' EXIT";

/// Only inside [`batoff_tests::isolated`], which ends what is mounted and started here.
pub struct Machine {
    booted: Option<Booted>,
    root: PathBuf,
    /// The memory that holds what is written; mounted as long as the machine is there.
    _memory: TempDir,
}

impl Machine {
    /// Booted, or with the stand-in for systemd in the place of `systemctl`.
    pub fn new() -> Self {
        let memory = mounted(&["-t", "tmpfs", "none"]);
        let at = |name: &str| {
            let folder = memory.path().join(name);
            fs::create_dir(&folder).unwrap();
            folder
        };
        let (upper, work, root) = (at("upper"), at("work"), at("root"));
        // A folder that debootstrap made, for whoever wants to see it on a machine with nothing else.
        let below = std::env::var("BATOFF_DEBIAN_ROOT").unwrap_or_else(|_| "/".to_owned());
        let layers = format!("lowerdir={below},upperdir={},workdir={}", upper.display(), work.display());
        let path = root.to_str().unwrap().to_owned();
        run("mount", &["-t", "overlay", "overlay", "-o", &layers, &path]);
        let mut machine = Self { booted: None, root, _memory: memory };
        // Another one's of this machine would be in the way.
        for old in ["etc/batoff", "var/lib/batoff-control", "var/lib/batoff-edge"] {
            drop(fs::remove_dir_all(machine.path(old)));
        }
        fs::create_dir_all(machine.path("root/session")).unwrap();
        if std::env::var("BATOFF_SYSTEMD").is_ok_and(|value| value == "1") {
            let booted = Booted::boot(&machine.root);
            // What is mounted there is seen from there.
            machine.root = booted.root();
            machine.booted = Some(booted);
        } else {
            machine.stand_in();
        }
        machine
    }

    fn stand_in(&self) {
        let of = |name: &str| self.path(name).to_str().unwrap().to_owned();
        run("mount", &["-t", "proc", "proc", &of("proc")]);
        run("mount", &["--rbind", "/dev", &of("dev")]);
        for memory in ["run", "tmp"] {
            run("mount", &["-t", "tmpfs", "-o", "mode=1777", "none", &of(memory)]);
        }
        run("chmod", &["755", &of("run")]);
        // Where systemd is, it is the one who is asked. (Its stand-in, whose folder this is.)
        for folder in ["run/lock", "run/systemd/system"] {
            fs::create_dir_all(self.path(folder)).unwrap();
        }
        let systemctl = include_str!("systemctl.py");
        self.write("usr/bin/systemctl", systemctl);
        run("chmod", &["755", &of("usr/bin/systemctl")]);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name.trim_start_matches('/'))
    }

    pub fn write(&self, name: &str, text: &str) {
        // Beside it, and then in its place: a link is replaced, not followed out of the machine.
        let path = self.path(name);
        drop(fs::remove_file(&path));
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn has(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    /// Puts files into the folder in which commands run.
    pub fn bring(&self, files: &[PathBuf]) {
        for file in files {
            let name = file.file_name().expect("a file");
            fs::copy(file, self.path("root/session").join(name)).unwrap();
        }
    }

    /// Runs a command of root's there; what it printed, both ways together, when it has ended with 0.
    pub fn sh(&self, command: &str) -> String {
        let output = self.try_sh(command);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{command}: {}\n{said}\n{}", output.status, self.logs());
        // The real systemctl tells which links it makes. The pages leave that out.
        let is_of_links = |line: &&str| line.starts_with("Created symlink ") || line.starts_with("Removed ");
        said.split_inclusive('\n').filter(|line| self.booted.is_none() || !is_of_links(line)).collect()
    }

    pub fn try_sh(&self, command: &str) -> Output {
        let mut chroot = match &self.booted {
            Some(booted) => booted.inside(),
            None => {
                let mut chroot = Command::new("chroot");
                chroot.arg(&self.root);
                chroot
            }
        };
        chroot.args(["/bin/bash", "-c", &format!("{SESSION}\nexec 2>&1\n{command}")]);
        let variables = [
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOME", "/root"),
            ("LANG", "C.UTF-8"),
            ("DEBIAN_FRONTEND", "noninteractive"),
        ];
        chroot.env_clear().envs(variables).stdin(Stdio::null());
        chroot.output().expect("chroot runs")
    }

    /// `755 root:root` for each of these.
    pub fn modes(&self, names: &str) -> Vec<String> {
        self.sh(&format!("stat -c '%a %U:%G' {names}")).lines().map(str::to_owned).collect()
    }

    /// The process of a unit, if there is one.
    pub fn pid(&self, unit: &str) -> Option<u32> {
        let pid = match &self.booted {
            Some(_) => self.sh(&format!("systemctl show --value --property MainPID {unit}")),
            None => fs::read_to_string(self.path(&format!("run/{unit}.pid"))).ok()?,
        };
        pid.trim().parse().ok().filter(|pid| *pid != 0)
    }

    /// The end of what the programs wrote, for whoever has to find out why something is not as it should be.
    fn logs(&self) -> String {
        let logs = ["batoff-control", "batoff-edge"].map(|unit| {
            let text = match &self.booted {
                Some(booted) => booted.journal(unit),
                None => fs::read_to_string(self.path(&format!("var/log/{unit}.log"))).unwrap_or_default(),
            };
            let lines: Vec<&str> = text.lines().collect();
            format!("{unit}:\n{}", lines[lines.len().saturating_sub(15)..].join("\n"))
        });
        logs.join("\n")
    }
}

/// The packages of a folder whose names have these words.
pub fn packages(folder: &Path, words: &[&str]) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let is_meant = |path: &PathBuf| words.iter().all(|word| path.to_str().unwrap().contains(word));
    let mut found: Vec<PathBuf> = files.filter(is_meant).collect();
    found.sort();
    assert!(!found.is_empty(), "no package like {words:?} in {}", folder.display());
    found
}
