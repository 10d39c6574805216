//! What is done to files is done to the cache's own and to no others, whatever stands in the directory.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::nginx::header::Times;
use crate::nginx::name::Named;

const NAME: &str = "b7f54b2df7773722d382f4809d650840";

fn name() -> FileName {
    match Named::parse(NAME.as_bytes()) {
        Named::Object(name) => name,
        other => panic!("{other:?}"),
    }
}

/// A directory with one level, the path of the object in it, and a file elsewhere.
fn directory() -> (tempfile::TempDir, Files, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::new(dir.path().join("cache"), Levels::try_from("1".to_owned()).unwrap());
    fs::create_dir_all(dir.path().join("cache/0")).unwrap();
    let (object, victim) = (dir.path().join("cache/0").join(NAME), dir.path().join("victim"));
    fs::write(&victim, "untouched").unwrap();
    (dir, files, object, victim)
}

fn cache_file(times: Times, response: &str) -> Vec<u8> {
    let mut bytes = vec![0; 0x150];
    bytes[0] = 5;
    bytes[8..40].copy_from_slice(&times.to_bytes());
    bytes.extend_from_slice(b"\nKEY: http://a.test/\n");
    let header = u16::try_from(bytes.len()).unwrap();
    bytes.extend_from_slice(response.as_bytes());
    let body = u16::try_from(bytes.len()).unwrap();
    bytes[0x36..0x38].copy_from_slice(&header.to_le_bytes());
    bytes[0x38..0x3a].copy_from_slice(&body.to_le_bytes());
    bytes
}

#[test]
fn nothing_is_read_from_written_to_or_removed_through_a_link() {
    let (dir, files, object, victim) = directory();
    let odd = |what: &str| {
        assert!(matches!(files.read(name()), Ok(Found::Odd)), "{what}");
        assert_eq!(files.spoil(name()).unwrap(), Spoilt::Odd, "{what}");
        assert_eq!(files.make_stale(name(), 1_000).unwrap(), Staled::Nothing, "{what}");
        files.remove_spoiled(name()).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched", "{what}");
    };
    symlink(&victim, &object).unwrap();
    odd("a link");
    files.unlink(name()).unwrap();
    fs::hard_link(&victim, &object).unwrap();
    odd("a second name of another file");
    files.unlink(name()).unwrap();
    fs::create_dir(&object).unwrap();
    odd("a folder");
    files.unlink(name()).unwrap();
    assert!(object.is_dir());
    fs::remove_dir(&object).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&object).status().unwrap();
    assert!(made.success());
    odd("a pipe");
    files.unlink(name()).unwrap();
    assert!(matches!(files.read(name()), Ok(Found::Nothing)) && victim.exists());

    // A folder in the place of which a link leads elsewhere.
    fs::rename(dir.path().join("cache/0"), dir.path().join("elsewhere")).unwrap();
    symlink(dir.path().join("elsewhere"), dir.path().join("cache/0")).unwrap();
    fs::write(dir.path().join("elsewhere").join(NAME), "of somebody else").unwrap();
    assert!(files.read(name()).is_err() && files.spoil(name()).is_err() && files.unlink(name()).is_err());
    assert!(files.folder("0").is_err());
    assert_eq!(fs::read_to_string(dir.path().join("elsewhere").join(NAME)).unwrap(), "of somebody else");
}

#[test]
fn what_is_made_stale_is_stale_at_any_time() {
    let (_dir, files, object, _) = directory();
    let fresh = Times { valid: 5_000, updating: 60, error: 0, last_modified: -1 };
    fs::write(&object, cache_file(fresh, "HTTP/1.1 200 OK\r\n\r\n")).unwrap();
    assert_eq!(files.make_stale(name(), 1_000).unwrap(), Staled::Marked(-2));
    let Ok(Found::Readable(header)) = files.read(name()) else { panic!("readable") };
    let stale = Times { valid: STALE, updating: 1_058, error: 0, last_modified: -2 };
    assert_eq!(header.times, stale, "and may be served stale until 1059, as before");
    assert_eq!(files.make_stale(name(), 2_000).unwrap(), Staled::Marked(-3));
    let Ok(Found::Readable(header)) = files.read(name()) else { panic!("readable") };
    assert_eq!((header.times.valid, header.times.updating), (STALE, 1_058), "not longer");
    assert_eq!(files.spoil_stale(name(), 3_000).unwrap(), Spoilt::Done);
    assert!(matches!(files.read(name()), Ok(Found::HeaderError(HeaderError::Spoiled))));
}

#[test]
fn what_must_not_be_stale_is_not_made_stale_and_what_is_fresh_is_not_taken_back() {
    let (_dir, files, object, _) = directory();
    let fresh = Times { valid: 5_000, updating: 60, error: 0, last_modified: -1 };
    let response = "HTTP/1.1 200 OK\r\nCache-Control: s-maxage=9 , proxy-revalidate\r\n\r\n";
    fs::write(&object, cache_file(fresh, response)).unwrap();
    assert_eq!(files.make_stale(name(), 1_000).unwrap(), Staled::MustGo);
    assert_eq!(files.spoil_stale(name(), 1_000).unwrap(), Spoilt::Nothing);
}

#[test]
fn another_folder_at_the_path_is_told_from_the_one_before() {
    let (dir, files, ..) = directory();
    let place = |name: &str| (name.to_owned(), FolderId::of(files.folder(name).unwrap()).unwrap());
    let before = [place(""), place("0")];
    assert!(files.are_there(&before));
    fs::rename(dir.path().join("cache/0"), dir.path().join("cache/aside")).unwrap();
    assert!(!files.are_there(&before), "none");
    fs::create_dir(dir.path().join("cache/0")).unwrap();
    assert!(!files.are_there(&before), "another one");
    fs::remove_dir(dir.path().join("cache/0")).unwrap();
    symlink("aside", dir.path().join("cache/0")).unwrap();
    assert!(!files.are_there(&before), "a link to it");
}

#[test]
fn one_daemon_a_directory() {
    let (_dir, files, ..) = directory();
    let lock = files.lock().unwrap();
    assert_eq!(files.lock().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(lock);
    files.lock().unwrap();
}
