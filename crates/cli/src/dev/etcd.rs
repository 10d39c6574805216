//! The members of etcd that several control planes share: one process each, under a shell that ends it with us.

use std::path::{Path, PathBuf};

use super::child::Program;
use super::plan::MemberPlan;
use crate::exit::Failure;

/// Runs the rest of its arguments, says which process that is, and ends it when its own standard input closes: etcd itself
/// would outlive whoever started it. The exit code is the program's.
const KEEPER: &str = r#"exec 3<&0
"$@" 3<&- >&2 & member=$!
{ read -r _ <&3; kill $member; kill -CONT $member; } >&2 & keeper=$!
trap 'kill $member; kill -CONT $member' TERM
echo "{\"pid\":$member}"
wait $member; code=$?
while kill -0 $member 2>/dev/null; do wait $member; code=$?; done
kill $keeper 2>/dev/null
exit $code"#;

/// Short, since all members are on one machine: a leader that died is replaced in less than a second.
const HEARTBEAT_MS: &str = "50";
const ELECTION_MS: &str = "500";

/// How the members are run; `root` is where their data goes.
pub fn programs(
    members: &[MemberPlan],
    root: &Path,
    log: impl Fn(&str) -> PathBuf,
) -> Result<Vec<Program>, Failure> {
    let executable = installed()?;
    let url = |address| format!("http://{address}");
    let cluster: Vec<_> =
        members.iter().enumerate().map(|(n, member)| format!("{}={}", name(n), url(member.peer))).collect();
    let cluster = cluster.join(",");
    let program = |(n, member): (usize, &MemberPlan)| {
        let (client, peer) = (url(member.client), url(member.peer));
        let data = root.join(name(n));
        let mut arguments: Vec<_> = ["-c", KEEPER, "etcd"].map(Into::into).into();
        arguments.push(executable.clone().into());
        for (flag, value) in [
            ("--name", name(n)),
            ("--listen-client-urls", client.clone()),
            ("--advertise-client-urls", client),
            ("--listen-peer-urls", peer.clone()),
            ("--initial-advertise-peer-urls", peer),
            ("--initial-cluster", cluster.clone()),
            ("--initial-cluster-state", "new".to_owned()),
            ("--heartbeat-interval", HEARTBEAT_MS.to_owned()),
            ("--election-timeout", ELECTION_MS.to_owned()),
            ("--logger", "zap".to_owned()),
            ("--log-level", "warn".to_owned()),
        ] {
            arguments.extend([flag.into(), value.into()]);
        }
        arguments.extend(["--pre-vote=true".into(), "--data-dir".into(), data.into()]);
        let name = name(n);
        Program { log: log(&name), name, executable: "/bin/sh".into(), arguments, sections: &[] }
    };
    Ok(members.iter().enumerate().map(program).collect())
}

/// A member's name, from `etcd-1` on.
fn name(n: usize) -> String {
    format!("etcd-{}", n + 1)
}

fn installed() -> Result<PathBuf, Failure> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).map(|folder| folder.join("etcd")).find(|path| path.is_file());
    found.ok_or_else(|| {
        Failure::Usage(
            "several replicas share an etcd, which is not installed: apt-get install etcd-server, or leave --replicas out"
                .to_owned(),
        )
    })
}
