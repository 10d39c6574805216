//! A page that is changed while it is read, left behind, or not one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use batoff_types::{Cursor, Generation};
use batoff_wire::local::page::{NO_LIMIT, PAGE_BYTES, SEQUENCE_AT};

use super::*;

fn this_boot() -> [u8; 16] {
    layout::boot_id(&std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap()).unwrap()
}

/// A page every field of which follows from `number`.
fn state(number: u64) -> PageState {
    PageState {
        boot_id: this_boot(),
        sequence: number * 2,
        instance: InstanceId::from_bytes([number as u8; 16]),
        token: FillToken { generation: Generation(number), applied: Cursor::new(number * 3) },
        floor: Cursor::new(number * 5),
        session: number * 7,
        serve_until: number * 11,
    }
}

fn file(state: &PageState) -> (tempfile::TempDir, PathBuf, File) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.page");
    let file = File::create(&path).unwrap();
    file.set_len(PAGE_BYTES as u64).unwrap();
    file.write_all_at(&state.encode(), 0).unwrap();
    (dir, path, file)
}

#[test]
fn a_hit_needs_its_session_and_the_time() {
    let long = PageState { serve_until: NO_LIMIT, session: 7, ..state(1) };
    let (_dir, path, file) = file(&long);
    let page = Page::open(&path).unwrap();
    let show = |state: PageState| file.write_all_at(&state.encode(), 0).unwrap();

    assert!(page.may_serve(7, false), "the page shows it, so it is in sync");
    assert!(!page.may_serve(8, true), "another process took the name");
    show(PageState { session: 0, ..long });
    assert!(page.may_serve(8, true), "a daemon that has just started lets it serve on");
    assert!(!page.may_serve(8, false), "never in sync");
    show(PageState { serve_until: nanos_since_boot() + 3_600_000_000_000, ..long });
    assert!(page.may_serve(7, true));
    show(PageState { serve_until: nanos_since_boot(), ..long });
    assert!(!page.may_serve(7, true), "the lease is over");
    show(PageState { serve_until: 0, ..long });
    assert!(!page.may_serve(7, true), "fenced");
}

#[test]
fn a_page_of_a_daemon_that_died_while_it_wrote_gives_nothing() {
    let (_dir, path, file) = file(&state(1));
    let page = Page::open(&path).unwrap();
    file.write_all_at(&3u64.to_le_bytes(), SEQUENCE_AT as u64).unwrap();
    assert_eq!((page.read(), page.fill_token(), page.may_serve(7, true)), (None, None, false));
    file.write_all_at(&state(2).encode(), 0).unwrap();
    assert_eq!(page.read(), Some(state(2)), "the next daemon mends it");
}

#[test]
fn what_is_no_page_of_this_boot_is_refused_with_its_reason() {
    let (dir, path, file) = file(&PageState { boot_id: [1; 16], ..state(1) });
    assert!(Page::open(&path).unwrap_err().to_string().contains("earlier boot"));
    file.write_all_at(&[0; 104], 0).unwrap();
    assert!(Page::open(&path).unwrap_err().to_string().contains("not a page"));
    file.set_len(100).unwrap();
    assert!(Page::open(&path).unwrap_err().to_string().contains("shorter"));
    assert!(Page::open(&dir.path().join("none")).unwrap_err().to_string().contains("No such file"));
}

/// The writer does not even keep to the protocol (no odd sequence while it writes), so that the checksum alone has to
/// tell a mixture.
#[test]
fn nothing_torn_is_ever_read_under_a_hammering_writer() {
    const READS: usize = 20_000;
    let (_dir, path, file) = file(&state(1));
    let page = Page::open(&path).unwrap();
    let over = AtomicBool::new(false);
    let (mut seen, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 1;
            while !over.load(Ordering::Relaxed) {
                number += 1;
                let bytes = state(number).encode();
                // In pieces that tear words apart, in an order that no reader expects.
                for (at, piece) in bytes.chunks(13).enumerate().collect::<Vec<_>>().into_iter().rev() {
                    file.write_all_at(piece, at as u64 * 13).unwrap();
                }
            }
        });
        let mut last = 0;
        while seen < READS && refused < 50 * READS {
            match page.attempt() {
                Ok(read) => {
                    let number = read.sequence / 2;
                    assert_eq!(read, state(number), "a mixture");
                    assert!(number >= last, "back in time");
                    last = number;
                    seen += 1;
                }
                Err(problem) => {
                    assert_eq!(problem, PageProblem::Torn);
                    refused += 1;
                }
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(seen > 0, "the reader got through");
    println!("{seen} reads, {refused} refused");
}
