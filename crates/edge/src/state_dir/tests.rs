//! What a node knows after it was killed, and what it does not believe.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use batoff_index::{Place, Rule, Snapshot};
use batoff_types::message::Position;
use batoff_types::{Cursor, Generation, LogId, Replica, ReplicaSet, Seq, SiteTable, TaskId, Term};
use tempfile::TempDir;

use super::*;

mod golden;

fn stored(cursor: u64) -> Stored {
    let mut sites = SiteTable::default();
    sites.set(
        &"shop".parse().unwrap(),
        Some(&["www.example.test".parse().unwrap(), "*.cdn.test".parse().unwrap()]),
    );
    let task = Some(TaskId::from_bytes([2; 16]));
    let rule = |place, hard, soft| Rule { place, hard: Seq::new(hard), soft: Seq::new(soft) };
    Stored {
        position: Some(Position { log_id: LogId::from_bytes([1; 16]), cursor: Cursor::new(cursor), task }),
        known: KnownReplicas {
            terms: [(Replica::ONLY, Term(9))].into(),
            set: Some(ReplicaSet::only()),
            ..KnownReplicas::default()
        },
        snapshot: Snapshot {
            generation: Generation(1),
            cursor: Cursor::new(cursor),
            task,
            sites,
            forgotten_through: Cursor::new(3),
            rules: vec![
                rule(Place::Whole, 1, 0),
                rule(Place::Site("shop".parse().unwrap()), 2, 3),
                rule(Place::Host("*.cdn.test".parse().unwrap()), 4, 0),
                rule(Place::Prefix("www.example.test/img/".into()), 0, 5),
                rule(Place::Url("www.example.test/?q=%2F".into()), 6, 0),
                rule(Place::Tag("shop".parse().unwrap(), "größe:1".parse().unwrap()), 7, 8),
                rule(Place::Overflow("shop".parse().unwrap()), 7, 8),
            ],
        },
    }
}

fn node() -> NodeName {
    "fra1/edge-1".parse().unwrap()
}

fn open(dir: &TempDir) -> Opened {
    StateDir::open(dir.path(), &node()).unwrap()
}

#[test]
fn what_was_saved_is_read_again_whole() {
    let dir = TempDir::new().unwrap();
    let first = open(&dir);
    assert_eq!((first.generation, first.stored), (Generation(1), None));
    first.state.save(&stored(10)).unwrap();
    first.state.save(&stored(11)).unwrap();
    drop(first.state);
    let second = open(&dir);
    assert_eq!((second.generation, second.stored), (Generation(1), Some(stored(11))));
}

#[test]
fn a_second_daemon_is_kept_out() {
    let dir = TempDir::new().unwrap();
    let first = open(&dir);
    let error = StateDir::open(dir.path(), &node()).unwrap_err();
    assert!(matches!(error, StateError::Locked(_)) && !error.is_usage(), "{error}");
    drop(first);
    open(&dir);
}

#[test]
fn a_raised_generation_survives_whatever_was_saved_last() {
    let dir = TempDir::new().unwrap();
    let first = open(&dir);
    first.state.save(&stored(10)).unwrap();
    assert_eq!(first.state.raise_generation().unwrap(), Generation(2));
    assert_eq!(first.state.raise_generation().unwrap(), Generation(3));
    drop(first.state);
    assert_eq!(open(&dir).generation, Generation(3));
}

#[test]
fn a_torn_or_rotten_file_is_set_aside_and_never_believed() {
    let whole = codec::encode(&stored(10));
    for (n, damage) in (0..whole.len()).step_by(7).enumerate() {
        let dir = TempDir::new().unwrap();
        drop(open(&dir));
        let mut bytes = whole.clone();
        if n % 2 == 0 {
            bytes.truncate(damage);
        } else {
            bytes[damage] ^= 0x20;
        }
        fs::write(dir.path().join(STATE), &bytes).unwrap();
        let opened = open(&dir);
        assert_eq!(opened.stored, None, "damage at {damage}");
        assert_eq!(opened.generation, Generation(2), "nothing that was filled before may pass as newer");
        assert_eq!(fs::read(dir.path().join("state.corrupt-1")).unwrap(), bytes);
        assert!(!dir.path().join(STATE).exists());
    }
}

#[test]
fn each_corrupt_file_gets_a_name_of_its_own_and_a_generation_of_its_own() {
    let dir = TempDir::new().unwrap();
    for n in 1..=3 {
        fs::write(dir.path().join(STATE), format!("nonsense {n}")).unwrap();
        let opened = open(&dir);
        assert_eq!(opened.stored, None);
        assert_eq!(opened.generation, Generation(n));
        assert_eq!(
            fs::read_to_string(dir.path().join(format!("state.corrupt-{n}"))).unwrap(),
            format!("nonsense {n}")
        );
    }
}

#[test]
fn a_state_that_was_lost_raises_the_generation_too() {
    let dir = TempDir::new().unwrap();
    let first = open(&dir);
    first.state.save(&stored(10)).unwrap();
    drop(first.state);
    fs::remove_file(dir.path().join(STATE)).unwrap();
    let opened = open(&dir);
    assert_eq!((opened.generation, opened.stored), (Generation(2), None));
}

#[test]
fn a_write_that_did_not_finish_leaves_the_old_state() {
    let dir = TempDir::new().unwrap();
    let first = open(&dir);
    first.state.save(&stored(10)).unwrap();
    drop(first.state);
    fs::write(dir.path().join("state.new"), "half a st").unwrap();
    assert_eq!(open(&dir).stored, Some(stored(10)));
}

#[test]
fn a_file_of_a_later_format_is_not_read_as_something_else() {
    let mut bytes = codec::encode(&stored(10));
    bytes[8] = 3;
    assert_eq!(codec::decode(&bytes), Err(codec::Untrusted::Format(3)));
}

#[test]
fn what_is_known_of_several_control_planes_is_read_again_and_refused_by_a_build_that_knows_one() {
    let alone = codec::encode(&stored(10));
    assert_eq!(alone[8], 1);
    let mut several = stored(10);
    several.known.terms.insert(Replica(3), Term(4));
    several.known.set = Some(ReplicaSet::new([1, 2, 3].map(Replica)).unwrap());
    several.known.endpoints.insert(Replica(2), "https://cp2.example:7443".into());
    let bytes = codec::encode(&several);
    assert_eq!(bytes[8], 2);
    assert_eq!(codec::decode(&bytes), Ok(several.clone()));
    // No replica but one has been heard of; that is enough for the older build not to be fit for it.
    several.known.terms.clear();
    assert_eq!(codec::encode(&several)[8], 2);
}

#[test]
fn a_state_of_a_build_that_knew_one_control_plane_says_nothing_of_the_set() {
    let mut former = stored(10);
    former.known.set = None;
    let bytes = codec::encode(&former);
    let read = codec::decode(&bytes).unwrap();
    assert_eq!((read.known.set, read.known.terms[&Replica::ONLY]), (None, Term(9)));
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = StateDir::open(&file, &node()).unwrap_err();
    assert!(error.to_string().contains("[state] dir"), "{error}");
    // Root may write anywhere; for everybody else it may be the folder that a volume will be mounted on.
    let locked = dir.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).unwrap();
    if let Err(error) = StateDir::open(&locked, &node()) {
        assert!(!error.is_usage(), "{error}");
    }
}

#[test]
fn the_state_of_another_node_is_set_aside_and_nothing_of_it_is_believed() {
    let dir = TempDir::new().unwrap();
    let first = open(&dir);
    first.state.save(&stored(10)).unwrap();
    first.state.set_serves_without_lease(Some(&ReplicaSet::only())).unwrap();
    drop(first.state);
    let other = StateDir::open(dir.path(), &"fra1/edge-2".parse().unwrap()).unwrap();
    assert_eq!((other.generation, other.stored), (Generation(2), None));
    assert_ne!(other.identity, first.identity);
    assert!(
        other.state.serves_without_lease().unwrap().is_none(),
        "another node has told the control plane, not this one"
    );
    assert!(dir.path().join("state.corrupt-1").exists());
    other.state.save(&stored(11)).unwrap();
    drop(other.state);
    // And back: what is there now is the other's.
    let back = open(&dir);
    assert_eq!((back.generation, back.stored), (Generation(3), None));
}

#[test]
fn a_state_that_does_not_say_whose_it_is_is_not_believed() {
    let dir = TempDir::new().unwrap();
    let first = open(&dir);
    first.state.save(&stored(10)).unwrap();
    drop(first.state);
    fs::remove_file(dir.path().join("owner")).unwrap();
    let opened = open(&dir);
    assert_eq!((opened.generation, opened.stored), (Generation(2), None));
}

#[test]
fn a_state_keeps_its_name_for_as_long_as_it_stands_somewhere() {
    let dir = TempDir::new().unwrap();
    let first = open(&dir);
    first.state.save(&stored(10)).unwrap();
    drop(first.state);
    let second = open(&dir);
    assert_eq!(second.identity, first.identity);
    drop(second.state);
    fs::remove_file(dir.path().join(STATE)).unwrap();
    assert_ne!(open(&dir).identity, first.identity, "nobody remembers what its caches were told");
}

#[test]
fn nobody_else_can_read_what_is_kept_and_what_could_be_read_cannot_any_more() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("made/state");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let first = StateDir::open(&path, &node()).unwrap();
    first.state.save(&stored(10)).unwrap();
    first.state.set_serves_without_lease(Some(&ReplicaSet::only())).unwrap();
    drop(first.state);
    let files = || fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(mode(&path), 0o700);
    assert!(files().count() >= 5);
    for file in files() {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    // As an earlier version left it.
    let elsewhere = dir.path().join("elsewhere");
    fs::write(&elsewhere, "").unwrap();
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o644)).unwrap();
    std::os::unix::fs::symlink(&elsewhere, path.join("link")).unwrap();
    for file in files().filter(|file| !file.is_symlink()) {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    drop(StateDir::open(&path, &node()).unwrap());
    assert_eq!((mode(&path), mode(&path.join(STATE)), mode(&path.join(LOCK))), (0o700, 0o600, 0o600));
    assert_eq!(mode(&elsewhere), 0o644, "a link is not followed");
}

#[test]
fn whether_a_control_plane_knows_of_serving_without_a_lease_is_remembered_until_it_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let told = || open(&dir).state.serves_without_lease().unwrap();
    assert_eq!(told(), None, "nobody has been told yet");
    for set in [ReplicaSet::only(), ReplicaSet::new([1, 2, 30].map(Replica)).unwrap()] {
        open(&dir).state.set_serves_without_lease(Some(&set)).unwrap();
        assert_eq!(told(), Some(set));
    }
    fs::write(dir.path().join("serves-without-lease"), "1 2 x").unwrap();
    assert_eq!(told(), None, "not to be understood");
    fs::write(dir.path().join("serves-without-lease"), "").unwrap();
    assert_eq!(told(), Some(ReplicaSet::only()), "as an earlier build wrote it");
    open(&dir).state.set_serves_without_lease(None).unwrap();
    assert_eq!(told(), None, "a node that was strict in between has to tell again");
}
