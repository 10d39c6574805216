//! `batoff replicas`: the control planes beside one log, and which of them count.

use std::collections::BTreeMap;

use batoff_client::{AdminClient, ReplicaReport, ReplicasReport};
use clap::Subcommand;

use crate::args::Format;
use crate::exit::Failure;
use crate::output::{self, Narrow};
use crate::settings::Settings;

/// `batoff replicas …`
#[derive(Debug, Subcommand)]
pub enum ReplicasCommand {
    /// All control planes beside the log: role, how far each is, who is late
    List,
    /// Is everything that is accepted completed, and could it be if one more control plane failed?
    Status,
    /// Let one more control plane count, which has started and follows the log
    Add {
        /// Its number
        #[arg(value_parser = clap::value_parser!(u8).range(1..))]
        id: u8,
        /// Also when it is not ready, or strict nodes would go to the origin for a while
        #[arg(long)]
        force: bool,
    },
    /// Let a control plane count no more; stop it when the change is completed
    Remove {
        /// Its number
        #[arg(value_parser = clap::value_parser!(u8).range(1..))]
        id: u8,
        /// Also when too few of the others are there
        #[arg(long)]
        force: bool,
    },
    /// Write which control planes count from now on: a majority of them completes purges and keeps nodes serving
    Set {
        /// Their numbers, as 1 2 3
        #[arg(required = true, value_parser = clap::value_parser!(u8).range(1..))]
        members: Vec<u8>,
        /// Also when too few of them are there, or strict nodes would go to the origin for a while
        #[arg(long)]
        force: bool,
    },
}

/// `batoff replicas …`
pub async fn run(command: ReplicasCommand, settings: &Settings) -> Result<(), Failure> {
    let admin = settings.admin()?;
    match command {
        ReplicasCommand::List => {
            let replicas = admin.replicas().await.map_err(Failure::of_admin)?;
            list(&replicas, settings.format())
        }
        ReplicasCommand::Status => {
            let replicas = admin.replicas().await.map_err(Failure::of_admin)?;
            status(&replicas, settings.format())
        }
        ReplicasCommand::Add { id, force } => {
            let replicas = admin.replicas().await.map_err(Failure::of_admin)?;
            let members = with(&replicas, id, force)?;
            set(&admin, &members, force, settings.format()).await
        }
        ReplicasCommand::Remove { id, force } => {
            let replicas = admin.replicas().await.map_err(Failure::of_admin)?;
            let members = without(&replicas, id, force)?;
            set(&admin, &members, force, settings.format()).await
        }
        ReplicasCommand::Set { members, force } => set(&admin, &members, force, settings.format()).await,
    }
}

/// Writes the set. The control plane looks at it once more, and refuses what would stop purges or cost leases.
async fn set(admin: &AdminClient, members: &[u8], force: bool, format: Format) -> Result<(), Failure> {
    let written = admin.set_replicas(members, force).await.map_err(Failure::of_admin)?;
    match format {
        Format::Json => output::json(&written),
        Format::Human => {
            let members = numbers(&written.members);
            output::say(&format!("replicas {members} count after record {}", written.seq))
        }
    }
}

/// The set with one more.
fn with(replicas: &ReplicasReport, id: u8, force: bool) -> Result<Vec<u8>, Failure> {
    settled(replicas, force)?;
    if replicas.members.contains(&id) {
        return Err(Failure::Failed(format!("replica {id} counts already; nothing was written")));
    }
    let found = replicas.replicas.iter().find(|one| one.id == id);
    if !force && !found.is_some_and(|one| one.live && one.seated != Some(false)) {
        return Err(Failure::Failed(format!(
            "replica {id} is not ready: it has not said lately that it has its seat. Start it, wait until `batoff replicas \
             list` calls it live, and repeat"
        )));
    }
    let mut members = replicas.members.clone();
    members.push(id);
    members.sort_unstable();
    Ok(members)
}

/// The set without one of them.
fn without(replicas: &ReplicasReport, id: u8, force: bool) -> Result<Vec<u8>, Failure> {
    settled(replicas, force)?;
    let members: Vec<u8> = replicas.members.iter().copied().filter(|member| *member != id).collect();
    if members.len() == replicas.members.len() {
        let text = format!("replica {id} does not count now; nothing was written");
        return Err(Failure::Failed(text));
    }
    if members.is_empty() {
        let text = format!("replica {id} is the last one that counts: nothing would be completed without it");
        return Err(Failure::Failed(text));
    }
    Ok(members)
}

/// What was read is what the next set is made of: one that is still changing may not be the one that was meant.
fn settled(replicas: &ReplicasReport, force: bool) -> Result<(), Failure> {
    if replicas.settled || force {
        return Ok(());
    }
    let text = "the last change of the set is not completed yet: repeat when `batoff replicas status` does not say so";
    Err(Failure::Temporary(text.to_owned()))
}

fn list(replicas: &ReplicasReport, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return replicas.replicas.iter().try_for_each(output::json);
    }
    let mut table = output::table([
        ("REPLICA", Narrow::Stay),
        ("ROLE", Narrow::Stay),
        ("LIVE", Narrow::Stay),
        ("STATED", Narrow::Go(2)),
        ("LAG", Narrow::Go(1)),
        ("STRICT NODES", Narrow::Go(3)),
        ("HEARD", Narrow::Go(4)),
        ("TERM", Narrow::Go(6)),
        ("VERSION", Narrow::Go(5)),
        ("ENDPOINT", Narrow::Wrap),
    ]);
    for one in &replicas.replicas {
        let strict = one.strict_leased.zip(one.strict_nodes);
        table.add_row([
            one.id.to_string(),
            one.role.clone(),
            if one.live { "yes" } else { "no" }.to_owned(),
            one.stated.to_string(),
            one.lag_records.to_string(),
            output::or_dash(strict.map(|(leased, all)| format!("{leased}/{all}"))),
            output::or_dash(one.heard_ms_ago.map(|ms| format!("{:.1} s", ms as f64 / 1_000.0))),
            output::or_dash(one.term.map(|term| term.to_string())),
            output::or_dash(one.version.clone()),
            output::or_dash(one.endpoint.clone()),
        ]);
    }
    table.print("no replicas")
}

fn status(replicas: &ReplicasReport, format: Format) -> Result<(), Failure> {
    let ReplicaMajority { live, needed, spare } = standing(replicas);
    if format == Format::Json {
        return output::json(&serde_json::json!({
            "members": replicas.members, "members_from": replicas.members_from, "settled": replicas.settled,
            "live": live, "needed": needed, "spare": spare, "tail": replicas.tail, "done": replicas.done,
            "differs": differing(replicas),
        }));
    }
    let mut text = format!("replicas     {}\n", numbers(&replicas.members));
    text.push_str(&format!("live         {live} of {}, {needed} needed\n", replicas.members.len()));
    text.push_str(&format!("completed    through record {} of {}\n", replicas.done, replicas.tail));
    let remark = match (replicas.settled, spare) {
        (false, _) => "the last change of the set is not completed yet",
        (true, None) => "too few are live: nothing is completed until more are",
        (true, Some(0)) => "one more that fails, and nothing is completed",
        (true, Some(_)) => "one more may fail",
    };
    text.push_str(remark);
    let differing = differing(replicas);
    if !differing.is_empty() {
        text.push_str(&format!(
            "\nthese settings are not the same on all of them: {}\n",
            differing.join(", ")
        ));
        text.push_str("what one answers, another may refuse: give all the same, and start those again that were changed");
    }
    output::say(&text)
}

/// Which settings differ, and on which replicas from the one that answers: `admin.token (2, 3)`. Of those that are there.
fn differing(replicas: &ReplicasReport) -> Vec<String> {
    let mut by_setting: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for one in replicas.replicas.iter().filter(|one| one.live) {
        for setting in &one.differs {
            by_setting.entry(setting).or_default().push(one.id);
        }
    }
    by_setting.into_iter().map(|(setting, of)| format!("{setting} ({})", numbers(&of))).collect()
}

/// How many are there, how many have to be, and how many more may fail; `None` when too few are there.
#[derive(Debug, PartialEq, Eq)]
struct ReplicaMajority {
    live: usize,
    needed: usize,
    spare: Option<usize>,
}

fn standing(replicas: &ReplicasReport) -> ReplicaMajority {
    let counts = |one: &&ReplicaReport| one.live && replicas.members.contains(&one.id);
    let live = replicas.replicas.iter().filter(counts).count();
    let needed = replicas.members.len() / 2 + 1;
    ReplicaMajority { live, needed, spare: live.checked_sub(needed) }
}

fn numbers(members: &[u8]) -> String {
    members.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_added_when_it_is_ready_and_removed_when_others_are_left() {
        let one = |id, live, seated| ReplicaReport { id, live, seated, ..ReplicaReport::default() };
        let report = ReplicasReport {
            members: vec![1, 3],
            settled: true,
            replicas: vec![
                one(1, true, None),
                one(2, true, Some(true)),
                one(3, true, None),
                one(4, false, Some(false)),
            ],
            ..ReplicasReport::default()
        };
        assert_eq!(with(&report, 2, false).unwrap(), [1, 2, 3]);
        assert_eq!(with(&report, 4, true).unwrap(), [1, 3, 4]);
        assert_eq!(without(&report, 3, false).unwrap(), [1]);
        for (refused, says) in [
            (with(&report, 3, true), "counts already"),
            (with(&report, 4, false), "not ready"),
            (with(&report, 5, false), "not ready"),
            (without(&report, 2, true), "does not count now"),
            (without(&ReplicasReport { members: vec![1], ..report.clone() }, 1, true), "the last one"),
            (with(&ReplicasReport { settled: false, ..report.clone() }, 2, false), "not completed yet"),
            (without(&ReplicasReport { settled: false, ..report.clone() }, 3, false), "not completed yet"),
        ] {
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains(says), "{refused}");
        }
    }

    #[test]
    fn settings_that_differ_are_told_with_those_that_have_them_otherwise() {
        let one = |id, live, differs: &[&str]| ReplicaReport {
            id,
            live,
            differs: differs.iter().map(|name| (*name).to_owned()).collect(),
            ..ReplicaReport::default()
        };
        let report = ReplicasReport {
            replicas: vec![
                one(1, true, &[]),
                one(2, true, &["admin.token"]),
                one(3, true, &["admin.token", "retention"]),
                one(4, false, &["api.public_prefix"]),
            ],
            ..ReplicasReport::default()
        };
        assert_eq!(differing(&report), ["admin.token (2, 3)", "retention (3)"], "the last one is gone");
    }

    #[test]
    fn only_live_members_are_counted_on() {
        let one = |id, live| ReplicaReport { id, live, ..ReplicaReport::default() };
        let three = |live: [bool; 4]| ReplicasReport {
            members: vec![1, 2, 3],
            replicas: (1..=4).zip(live).map(|(id, live)| one(id, live)).collect(),
            ..ReplicasReport::default()
        };
        let check = |live, expected: (usize, Option<usize>)| {
            let ReplicaMajority { live, needed, spare } = standing(&three(live));
            assert_eq!(((live, spare), needed), (expected, 2));
        };
        check([true, true, true, true], (3, Some(1)));
        check([true, false, true, true], (2, Some(0)));
        check([true, false, false, true], (1, None));
    }
}
