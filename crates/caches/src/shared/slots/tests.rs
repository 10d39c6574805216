//! Which slots a lease gives, and what a folder holds then.

use batoff_types::message::LeasePolicy;

use super::*;
use crate::shared::OwnFolder;

fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn config(names: SlotNames) -> SlotsConfig {
    SlotsConfig { names, guard: Duration::ZERO, follows_process: false }
}

fn wanted(slots: std::ops::Range<u64>, open: bool) -> DueSlots {
    DueSlots { slots, open }
}

#[test]
fn only_slots_that_the_lease_covers_as_a_whole_are_made() {
    // Wall clock 1700.47 s, boot clock 3 s.
    let now = Clocks { wall: 1_700_470_000, boot: 3_000_000 };
    let until = |millis: i64| now.boot + millis * 1_000;
    assert_eq!(slots(&now, until(270), 0), 17_004..17_007, "until 1700.74: the slot .7 is not covered");
    assert_eq!(slots(&now, until(270), 100_000), 17_004..17_006, "less the guard");
    assert_eq!(slots(&now, until(20), 0), 17_004..17_004, "not even the one that runs");
    assert_eq!(slots(&now, until(-5_000), 0), 17_004..17_004, "ended");
    assert_eq!(slots(&now, 0, 100_000), 17_004..17_004, "no lease");
    assert_eq!(slots(&now, i64::MAX, 0), 17_004..17_024, "bounded");
}

#[test]
fn a_folder_follows_the_lease() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("16999"), "").unwrap();
    std::fs::write(dir.path().join("open"), "").unwrap();
    let mut folder = Folder::open(dir.path(), &config(SlotNames::Plain)).unwrap();
    folder.bring_in_line(&wanted(17_004..17_006, false)).unwrap();
    assert_eq!(names(dir.path()), ["17004", "17005"], "what a predecessor left is gone");
    folder.bring_in_line(&wanted(17_005..17_008, false)).unwrap();
    assert_eq!(names(dir.path()), ["17004", "17005", "17006", "17007"], "the one just over stays a little");
    folder.bring_in_line(&wanted(17_006..17_007, false)).unwrap();
    assert_eq!(names(dir.path()), ["17005", "17006"], "a lease that became shorter");
    folder.withhold().unwrap();
    folder.bring_in_line(&wanted(17_005..17_008, true)).unwrap();
    assert_eq!(names(dir.path()), [""; 0]);
    folder.restore();
    folder.bring_in_line(&wanted(17_005..17_006, true)).unwrap();
    assert_eq!(names(dir.path()), ["17005", "open"]);
    folder.clear().unwrap();
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn a_slot_can_go_with_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let config = SlotsConfig { follows_process: true, ..config(SlotNames::Decimal) };
    let mut folder = Folder::open(dir.path(), &config).unwrap();
    folder.bring_in_line(&wanted(17_009..17_010, false)).unwrap();
    let slot = dir.path().join("1700.9");
    let process = std::fs::read_link(&slot).unwrap();
    assert!(process.to_str().unwrap().contains(&std::process::id().to_string()));
    assert!(slot.is_file(), "a file for whoever follows the link, as long as this process is there");
}

#[test]
fn names_are_what_the_caches_ask_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = Folder::open(dir.path(), &config(SlotNames::Decimal)).unwrap();
    folder.bring_in_line(&wanted(17_009..17_011, false)).unwrap();
    assert_eq!(names(dir.path()), ["1700.9", "1701.0"]);
}

#[test]
fn slots_end_with_the_lease_and_an_available_node_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let (strict, available) = (dir.path().join("strict"), dir.path().join("available"));
    let config = config(SlotNames::Plain);
    let stop = CancellationToken::new();
    let fence = Arc::new(Fence::new(LeasePolicy::Revalidate));
    let slots = Slots::start(config, Arc::clone(&fence), [strict.clone()], stop.clone()).unwrap();
    assert_eq!(names(&strict), [""; 0]);
    fence.set_until(boottime() + Duration::from_secs(3_600));
    slots.lease_changed();
    let begun = std::time::Instant::now();
    while names(&strict).len() < 5 {
        assert!(begun.elapsed() < Duration::from_secs(20), "no slots: {:?}", names(&strict));
        std::thread::sleep(Duration::from_millis(5));
    }
    slots.withhold(&strict).unwrap();
    assert_eq!(names(&strict), [""; 0]);
    slots.restore(&strict);
    fence.close();
    slots.lease_changed();
    assert_eq!(names(&strict), [""; 0], "gone when it returns");

    let fence = Arc::new(Fence::new(LeasePolicy::Serve));
    let _slots = Slots::start(config, fence, [available.clone()], stop.clone()).unwrap();
    assert_eq!(names(&available), ["open"]);
    stop.cancel();
}

#[test]
fn a_folder_that_was_removed_or_emptied_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/lease");
    let mut folder = Folder::open(&path, &config(SlotNames::Plain)).unwrap();
    folder.bring_in_line(&wanted(17_004..17_006, true)).unwrap();
    std::fs::remove_dir_all(dir.path().join("run")).unwrap();
    assert!(folder.repair().unwrap());
    folder.bring_in_line(&wanted(17_004..17_006, true)).unwrap();
    assert_eq!(names(&path), ["17004", "17005", "open"]);
    std::fs::remove_file(path.join("open")).unwrap();
    assert!(!folder.repair().unwrap());
    folder.bring_in_line(&wanted(17_005..17_006, true)).unwrap();
    assert_eq!(names(&path), ["17004", "17005", "open"], "what a broom took is there again");
    // Somebody else's in the meantime.
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let _other = OwnFolder::take(&path).unwrap();
    let error = folder.repair().unwrap_err();
    assert!(error.to_string().contains("another daemon"), "{error}");
}

#[test]
fn two_daemons_do_not_keep_slots_in_one_folder() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Folder::open(dir.path(), &config(SlotNames::Plain)).unwrap();
    let error = Folder::open(dir.path(), &config(SlotNames::Plain)).unwrap_err();
    assert!(error.to_string().contains("another daemon"), "{error}");
}
