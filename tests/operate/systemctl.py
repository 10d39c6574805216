#!/usr/bin/env python3
"""Starts, stops and reloads units by what stands in them, where no systemd runs: in the folder in which the packages are
installed. It takes of a unit who runs what, in which order, in which folders, and that a start has ended when the
program says that it is ready. What systemd would keep from the program by namespaces and filters, this does not, but for
one: with RestrictSUIDSGID= there is no openat2.
"""
import ctypes
import errno
import grp
import os
import pathlib
import pwd
import signal
import socket
import struct
import subprocess
import sys
import time

PATIENCE = 40
ENABLED = pathlib.Path("/etc/systemd/system/multi-user.target.wants")


OPENAT2 = 437


def without_openat2():
    """A filter of system calls as systemd makes it for RestrictSUIDSGID=, which cannot look into openat2's arguments."""
    load_number, is_equal, answer = 0x20, 0x15, 0x06
    lines = [
        (load_number, 0, 0, 0),
        (is_equal, 0, 1, OPENAT2),
        (answer, 0, 0, 0x00050000 | errno.ENOSYS),
        (answer, 0, 0, 0x7FFF0000),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    program = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(code))
    set_seccomp, mode_filter = 22, 2
    if ctypes.CDLL(None, use_errno=True).prctl(set_seccomp, mode_filter, program, 0, 0):
        raise OSError(ctypes.get_errno(), "no filter of system calls")


class Unit:
    def __init__(self, name):
        self.name = name.removesuffix(".service")
        self.values = {}
        places = [pathlib.Path(place) / f"{self.name}.service" for place in ("/etc/systemd/system", "/usr/lib/systemd/system")]
        files = [path for path in places if path.exists()][:1]
        if not files:
            sys.exit(f"there is no unit {self.name}")
        self.path = files[0]
        for path in files + sorted(pathlib.Path("/etc/systemd/system", f"{self.name}.service.d").glob("*.conf")):
            self.read(path.read_text())

    def read(self, text):
        for line in text.replace("\\\n", " ").splitlines():
            key, is_setting, value = line.partition("=")
            if line.startswith(("#", "[")) or not is_setting:
                continue
            known = self.values.setdefault(key.strip(), [])
            if not value.strip():
                known.clear()
            else:
                known.append(value.strip())

    def one(self, key, default=""):
        return (self.values.get(key) or [default])[-1]

    def all(self, key):
        return " ".join(self.values.get(key, [])).split()

    def lines(self, key):
        return self.values.get(key, [])

    @property
    def pid_file(self):
        return pathlib.Path(self.one("PIDFile", f"/run/{self.name}.pid"))

    @property
    def pid(self):
        try:
            pid = int(self.pid_file.read_text())
            # One that has ended and that nobody has waited for is none.
            if pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                return pid
        except (OSError, ValueError):
            pass
        return None

    def command(self, line):
        user, group = self.one("User", "root"), self.one("Group", "root")
        others = [str(grp.getgrnam(name).gr_gid) for name in self.all("SupplementaryGroups")]
        groups = ["--groups", ",".join([str(grp.getgrnam(group).gr_gid), *others])]
        capabilities = [] if self.all("CapabilityBoundingSet") or user == "root" else ["--bounding-set=-all", "--inh-caps=-all"]
        alone = ["setpriv", f"--reuid={user}", f"--regid={group}", *groups, *capabilities, "--no-new-privs"]
        return [*alone, "sh", "-c", f"exec {line.lstrip('-+!@').replace('$MAINPID', str(self.pid))}"]

    def folders(self):
        owner = pwd.getpwnam(self.one("User", "root")).pw_uid, grp.getgrnam(self.one("Group", "root")).gr_gid
        for kind, place in (("State", "/var/lib"), ("Runtime", "/run")):
            for name in self.all(f"{kind}Directory"):
                folder = pathlib.Path(place, name)
                folder.mkdir(parents=True, exist_ok=True)
                for path in [folder, *folder.rglob("*")]:
                    os.chown(path, *owner, follow_symlinks=False)
                folder.chmod(int(self.one(f"{kind}DirectoryMode", "0755"), 8))

    def start(self):
        if self.pid:
            return
        self.folders()
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        for line in self.lines("ExecStartPre"):
            subprocess.run(self.command(line), check=True, env=environment, stdout=subprocess.DEVNULL)
        if self.one("Type") == "forking":
            subprocess.run(self.command(self.one("ExecStart")), check=True, env=environment)
            return
        ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = f"/run/{self.name}.notify"
        pathlib.Path(path).unlink(missing_ok=True)
        ear.bind(path)
        os.chmod(path, 0o666)
        ear.settimeout(PATIENCE)
        log = open(f"/var/log/{self.name}.log", "ab")
        mask = int(self.one("UMask", "0022"), 8)
        program = subprocess.Popen(
            self.command(self.one("ExecStart")),
            env=environment | {"NOTIFY_SOCKET": path},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, umask=mask,
            preexec_fn=without_openat2 if self.one("RestrictSUIDSGID") in ("true", "yes") else None,
        )
        self.pid_file.write_text(f"{program.pid}\n")
        if self.one("Type") == "notify":
            while "READY=1" not in ear.recv(4096).decode().splitlines():
                pass

    def stop(self):
        pid = self.pid
        if not pid:
            return
        os.kill(pid, signal.SIGTERM)
        since = time.monotonic()
        while self.pid:
            if time.monotonic() - since > PATIENCE:
                sys.exit(f"{self.name} does not end")
            time.sleep(0.02)
        self.pid_file.unlink()
        for line in self.lines("ExecStopPost"):
            subprocess.run(self.command(line), check=True)

    def reload(self):
        with open(f"/var/log/{self.name}.log", "ab") as log:
            for line in self.lines("ExecReload"):
                subprocess.run(self.command(line), check=True, stdout=log, stderr=log)

    def enable(self):
        ENABLED.mkdir(exist_ok=True)
        link = ENABLED / self.path.name
        link.unlink(missing_ok=True)
        link.symlink_to(self.path)

    def disable(self):
        (ENABLED / self.path.name).unlink(missing_ok=True)


def main():
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    now = "--now" in sys.argv
    verb, units = words[0], [Unit(name) for name in words[1:]]
    for unit in units:
        match verb:
            case "start":
                unit.start()
            case "stop":
                unit.stop()
            case "restart":
                unit.stop()
                unit.start()
            case "reload":
                unit.reload()
            case "enable":
                unit.enable()
                if now:
                    unit.start()
            case "disable":
                if now:
                    unit.stop()
                unit.disable()
            case "is-active":
                sys.exit(0 if unit.pid else 3)
            case _:
                sys.exit(f"{verb} is not known here")
    if not units and verb != "daemon-reload":
        sys.exit(f"{verb} is not known here")


main()
