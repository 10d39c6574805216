//! State directories of the present release, as they lie in `golden`: what a later build must still read, and what it must
//! refuse by name. A test that fails here has changed a format: give it a new number (`codec::FORMAT`), carry the old one
//! over, and add a new folder beside these; never make these anew.
//!
//! `BATOFF_GOLDEN_FILES=<folder>` writes the directories of this build there, for a format that has none yet.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use super::*;

/// Of a node whose control plane is alone, in format 1, which builds from before format 2 read and write.
const ALONE: &str = "alone-1";

/// Of a node that follows several, in format 2.
const SEVERAL: &str = "several-2";

/// Both nodes have been reset once.
const GENERATION: Generation = Generation(2);

/// Magic and format, which a build of any format looks at first.
const HEAD_BYTES: usize = 8 + 4;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/state_dir/tests/golden").join(name)
}

/// What a directory holds: its state, and who has been told that the node serves without a lease.
fn held(name: &str) -> (Stored, ReplicaSet) {
    let mut stored = stored(10);
    stored.snapshot.generation = GENERATION;
    if name == ALONE {
        return (stored, ReplicaSet::only());
    }
    let set = ReplicaSet::new([1, 2, 3].map(Replica)).unwrap();
    stored.known.terms = [(Replica::ONLY, Term(9)), (Replica(3), Term(4))].into();
    stored.known.set = Some(set.clone());
    stored.known.endpoints.insert(Replica(2), "https://cp2.example:7443".into());
    (stored, set)
}

/// A copy, which may be written.
fn copied(name: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    for entry in fs::read_dir(golden(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

/// What a line of a golden text file says.
fn line(name: &str, file: &str, key: &str) -> String {
    let text = fs::read_to_string(golden(name).join(file)).unwrap();
    text.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned()
}

#[test]
fn the_directories_of_the_present_release_are_read_whole() {
    for name in [ALONE, SEVERAL] {
        let dir = copied(name);
        let opened = open(&dir);
        let (stored, told) = held(name);
        assert_eq!((opened.generation, opened.stored), (GENERATION, Some(stored)), "{name}");
        assert_eq!(opened.identity.to_string(), line(name, "owner", "identity="), "{name}");
        assert_eq!(opened.state.serves_without_lease().unwrap(), Some(told), "{name}");
        let run: u64 = line(name, "runs", "").parse().unwrap();
        assert!(opened.first_number >> 32 > run, "{name}: a stream of the run before is not newer");
        assert!(!dir.path().join("state.corrupt-1").exists(), "{name}");
    }
}

/// The directory as this build writes it.
fn written(name: &str) -> TempDir {
    let (stored, told) = held(name);
    let dir = TempDir::new().unwrap();
    let first = open(&dir);
    assert_eq!(first.state.raise_generation().unwrap(), GENERATION);
    first.state.save(&stored).unwrap();
    first.state.set_serves_without_lease(Some(&told)).unwrap();
    dir
}

fn files(dir: &Path) -> BTreeSet<OsString> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

#[test]
fn what_this_build_writes_is_what_the_golden_directories_hold() {
    let all = [ALONE, SEVERAL].map(|name| (name, written(name)));
    if let Some(folder) = std::env::var_os("BATOFF_GOLDEN_FILES").map(PathBuf::from) {
        for (name, dir) in &all {
            fs::create_dir_all(folder.join(name)).unwrap();
            for file in files(dir.path()) {
                fs::copy(dir.path().join(&file), folder.join(name).join(&file)).unwrap();
            }
        }
    }
    for (name, dir) in all {
        assert_eq!(files(dir.path()), files(&golden(name)), "{name}");
        for file in files(dir.path()) {
            let read = |dir: &Path| fs::read(dir.join(&file)).unwrap();
            match file.to_str() {
                // A random name, and the time.
                Some("owner" | "runs") => {}
                _ => assert!(read(dir.path()) == read(&golden(name)), "{name}: {} differs", file.display()),
            }
        }
    }
}

/// A build that knows format 1 alone looks at the number in the same place, and refuses 2 as this one refuses 3.
#[test]
fn a_state_of_a_later_format_is_refused_by_its_number_and_set_aside_as_it_is() {
    for (name, format) in [(ALONE, 1), (SEVERAL, 2)] {
        let bytes = fs::read(golden(name).join(STATE)).unwrap();
        let head = [b"BATOFFES".as_slice(), &u32::to_le_bytes(format)].concat();
        assert_eq!(bytes[..HEAD_BYTES], head, "{name}");
    }
    let dir = copied(SEVERAL);
    let mut later = fs::read(dir.path().join(STATE)).unwrap();
    later[8..HEAD_BYTES].copy_from_slice(&u32::to_le_bytes(3));
    fs::write(dir.path().join(STATE), &later).unwrap();
    let why = codec::decode(&later).unwrap_err();
    assert_eq!(why, codec::Untrusted::Format(3));
    assert_eq!(why.to_string(), "it has format 3, and this build reads formats 1 and 2");

    let opened = open(&dir);
    assert_eq!(opened.stored, None, "it stands nowhere, and is reset");
    assert_eq!(opened.generation, Generation(GENERATION.0 + 1), "nothing filled before passes as newer");
    let before = line(SEVERAL, "owner", "identity=");
    assert_ne!(opened.identity.to_string(), before, "no cache bears the name of what is not known any more");
    // For the build that wrote it, when the downgrade was a mistake.
    assert!(fs::read(dir.path().join("state.corrupt-1")).unwrap() == later);
}
