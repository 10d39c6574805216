//! What nginx does in its cache directory, as the kernel tells it.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::files::Files;
use super::gate::Gate;
use super::name::Named;
use super::permit::Permit;
use super::shelf::{Seen, Shelf, Trust};
use crate::boottime;

/// How often something is looked after when nothing happens.
const IDLE: Duration = Duration::from_millis(500);

/// Where something has just happened more follows: for so long it is left to gather, unless somebody waits for it. Woken for
/// each of the files that a purge removes, the thread would cost more than their removal.
const GATHER: Duration = Duration::from_millis(1);

/// Bytes of events read at once.
const BUFFER: usize = 64 * 1024;

/// More events than the kernel's queue ever holds (it is as long by default): after so many, what was there before is done.
const QUEUE_EVENTS: usize = 16_384;

/// The kernel's queue for the directory, read by one thread.
pub(super) struct Watch {
    inotify: OwnedFd,
    wake: OwnedFd,
    /// Whoever waits until everything that has happened so far was looked at.
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
    queue_events: usize,
    stop: AtomicBool,
}

/// What the events are for.
pub(super) struct Heard {
    pub(super) shelf: Arc<Shelf>,
    pub(super) gate: Arc<Gate>,
    pub(super) permit: Arc<Permit>,
    /// See `NginxSection::fill_window_secs`.
    pub(super) fill_window: Duration,
    pub(super) events: metrics::Counter,
}

/// Why the directory cannot be watched.
#[derive(Debug)]
pub(super) enum WatchError {
    /// `fs.inotify.max_user_instances`
    Instances,
    /// `fs.inotify.max_user_watches`
    Watches(usize),
    Io(PathBuf, io::Error),
}

impl std::fmt::Display for WatchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Instances => write!(
                f,
                "this user has no inotify instance left; raise fs.inotify.max_user_instances (sysctl)"
            ),
            Self::Watches(needed) => write!(
                f,
                "{needed} folders are to be watched and this user has not as many inotify watches left; raise \
                 fs.inotify.max_user_watches (sysctl)"
            ),
            Self::Io(path, error) => write!(f, "cannot watch {}: {error}", path.display()),
        }
    }
}

impl Watch {
    /// Watches every folder that holds files, and those above them.
    pub(super) fn open(files: &Files) -> Result<Self, WatchError> {
        let own = |errno: Errno| WatchError::Io("inotify".into(), errno.into());
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)
            .map_err(|errno| if errno == Errno::MFILE { WatchError::Instances } else { own(errno) })?;
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map_err(own)?;
        let watch = Self {
            inotify,
            wake,
            waiting: Mutex::default(),
            queue_events: queue_events(),
            stop: AtomicBool::new(false),
        };
        watch.add(files)?;
        Ok(watch)
    }

    /// Watches the folders that are not watched yet.
    pub(super) fn add(&self, files: &Files) -> Result<(), WatchError> {
        let what = WatchFlags::CREATE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR
            // Not what becomes of a file after its name is gone: of one that is removed here, one event and not two.
            | WatchFlags::EXCL_UNLINK;
        // Whoever moves or removes a folder does it in the one above.
        let above = WatchFlags::CREATE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let folders = files.folders();
        let holders = files.folders_above();
        let needed = folders.len() + holders.len();
        for (folder, what) in
            holders.iter().map(|folder| (folder, above)).chain(folders.iter().map(|folder| (folder, what)))
        {
            match inotify::add_watch(&self.inotify, folder, what) {
                Ok(_) => {}
                Err(Errno::NOSPC) => return Err(WatchError::Watches(needed)),
                Err(errno) => return Err(WatchError::Io(folder.clone(), errno.into())),
            }
        }
        Ok(())
    }

    /// Returns when everything that had happened by now was looked at.
    pub(super) async fn caught_up(&self) {
        // An error: the thread has ended with the daemon.
        let _ = self.catch_up().await;
    }

    /// As [`Watch::caught_up`], for who goes on in the meantime.
    pub(super) fn catch_up(&self) -> oneshot::Receiver<()> {
        let (done, is_done) = oneshot::channel();
        self.waiting.lock().push(done);
        self.wake();
        is_done
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        // Fails only when it is to wake up already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Reads until [`Watch::stop`].
    pub(super) fn run(&self, heard: &Heard) {
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
        let mut events = Reader::new(&self.inotify, &mut buffer);
        let mut busy = false;
        while !self.stop.load(Ordering::Acquire) {
            heard.shelf.note(boottime(), heard.fill_window);
            self.sleep(busy);
            busy = false;
            let waiting = std::mem::take(&mut *self.waiting.lock());
            let mut left = self.queue_events;
            while left > 0 {
                let (batch, end) = read_batch(&mut events);
                left = left.saturating_sub(batch.len().max(1));
                busy |= !batch.is_empty();
                heard.batch(&batch);
                match end {
                    None => {}
                    Some(Errno::AGAIN) => break,
                    Some(errno) => {
                        tracing::error!(error = %io::Error::from(errno), "the cache directory cannot be watched");
                        heard.missed("error");
                        break;
                    }
                }
            }
            for waiting in waiting {
                // Whoever waited may have gone.
                let _ = waiting.send(());
            }
        }
    }

    /// Until something has happened or somebody waits.
    fn sleep(&self, busy: bool) {
        let at_most = |limit: Duration| Timespec { tv_sec: 0, tv_nsec: i64::from(limit.subsec_nanos()) };
        if busy {
            let mut wake = [PollFd::new(&self.wake, PollFlags::IN)];
            let _ = poll(&mut wake, Some(&at_most(GATHER)));
        }
        let mut fds = [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)];
        // Interrupted, it has slept long enough.
        let _ = poll(&mut fds, Some(&at_most(IDLE)));
        if fds[1].revents().contains(PollFlags::IN) {
            let mut count = [0; 8];
            let _ = rustix::io::read(&self.wake, &mut count);
        }
    }
}

/// What one read of the kernel's queue gave, and the error after it if there was one.
fn read_batch(events: &mut Reader<'_, &OwnedFd>) -> (Vec<Event>, Option<Errno>) {
    let mut batch = Vec::new();
    loop {
        match events.next() {
            Ok(event) => {
                let named = event.file_name().map_or(Named::Other, |name| Named::parse(name.to_bytes()));
                batch.push(Event { what: event.events(), named });
            }
            Err(errno) => return (batch, Some(errno)),
        }
        if events.is_buffer_empty() {
            return (batch, None);
        }
    }
}

/// Something that happened to a file.
struct Event {
    what: ReadFlags,
    named: Named,
}

impl Heard {
    /// nginx renames a file and closes it, and both are news of it: what happened last to a file says all, because it is
    /// looked at as it is now.
    fn batch(&self, batch: &[Event]) {
        self.events.increment(batch.len() as u64);
        let mut last = HashMap::with_capacity(batch.len());
        for (at, event) in batch.iter().enumerate() {
            if let Named::Object(file) = event.named {
                last.insert(file, at);
            }
        }
        for (at, event) in batch.iter().enumerate() {
            let is_last = match event.named {
                Named::Object(file) => last.get(&file) == Some(&at),
                Named::InFlight(_) | Named::Other => true,
            };
            if is_last {
                self.event(event.what, &event.named);
            }
        }
    }

    fn event(&self, what: ReadFlags, named: &Named) {
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            metrics::counter!("batoff_edge_nginx_overflows_total").increment(1);
            tracing::warn!(
                "more happened in the cache directory than the kernel's queue holds; it is read anew"
            );
            self.missed("overflow");
            return;
        }
        if what.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::ISDIR) {
            tracing::warn!("a folder of the cache directory was made, moved or removed; it is read anew");
            self.missed("folder");
            return;
        }
        match *named {
            Named::InFlight(ref file) if what.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) => {
                self.shelf.begins(file.clone());
            }
            Named::InFlight(ref file) if what.intersects(ReadFlags::MOVED_FROM | ReadFlags::DELETE) => {
                self.shelf.ended(file);
            }
            Named::Object(file) if what.intersects(ReadFlags::MOVED_FROM | ReadFlags::DELETE) => {
                self.shelf.gone(file);
            }
            Named::Object(file) => {
                if let Err(error) = self.shelf.admit(file, Seen::Event) {
                    tracing::error!(%file, %error, "a cache file cannot be looked at; the directory is read anew");
                    self.missed("file");
                }
            }
            Named::InFlight(_) | Named::Other => {}
        }
    }

    /// Something may have been missed: nothing is served until everything was looked at.
    fn missed(&self, why: &'static str) {
        metrics::counter!("batoff_edge_nginx_rescans_total", "reason" => why).increment(1);
        self.gate.ask(Trust::Running);
        self.permit.settle();
    }
}

fn queue_events() -> usize {
    let text = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap_or_default();
    text.trim().parse().unwrap_or(QUEUE_EVENTS).max(QUEUE_EVENTS) + 1
}
