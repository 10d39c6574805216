//! What nginx does in its cache directory, as the kernel tells it.

mod fanotify;
mod inotify;
mod news;
mod source;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use batoff_edge::boottime;
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::ReadFlags;
use tokio::sync::oneshot;

pub(super) use self::news::WatchError;
use self::news::{End, Event, Reading};
use self::source::Source;
use super::config::WatchBy;
use super::files::{Files, FolderId};
use super::gate::ScanGate;
use super::name::Named;
use super::permit::Permit;
use super::register::Register;
use super::trust::{Seen, Trust};

/// The longest sleep when nothing happens.
const IDLE: Duration = Duration::from_millis(500);

/// Where something has just happened more follows: for so long it is left to gather, unless somebody waits for it. Woken for
/// each of the files that a purge removes, the thread would cost more than their removal.
const GATHER: Duration = Duration::from_millis(1);

/// The kernel's queue for the directory, read by one thread.
pub(super) struct Watch {
    by: WatchBy,
    watched: Mutex<WatchedFolders>,
    wake: OwnedFd,
    /// Whoever waits until everything that has happened so far was looked at.
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
    stop: AtomicBool,
}

/// A queue, and the folders that it tells of.
struct WatchedFolders {
    source: Arc<Source>,
    folders: Arc<[(String, FolderId)]>,
}

/// What the events are for.
pub(super) struct Audience {
    pub(super) register: Arc<Register>,
    pub(super) gate: Arc<ScanGate>,
    pub(super) permit: Arc<Permit>,
    /// See `NginxSection::fill_window_secs`.
    pub(super) fill_window: Duration,
    pub(super) events: metrics::Counter,
}

impl Watch {
    /// Watches every folder that holds files, and those above them.
    pub(super) fn open(files: &Files, by: WatchBy) -> Result<Self, WatchError> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .map_err(|errno| WatchError::Io("eventfd".into(), errno.into()))?;
        let watched = Mutex::new(WatchedFolders::of(files, by)?);
        Ok(Self { by, watched, wake, waiting: Mutex::default(), stop: AtomicBool::new(false) })
    }

    /// Whether what is watched is what stands at the path: nobody has mounted anything over it, moved a link, or put
    /// another folder there. About 3 ms for 4,096 folders.
    pub(super) fn is_in_place(&self, files: &Files) -> bool {
        let folders = Arc::clone(&self.watched.lock().folders);
        files.are_there(&folders)
    }

    /// Watches what stands at the path now, and nothing else.
    pub(super) fn renew(&self, files: &Files) -> Result<(), WatchError> {
        let watched = WatchedFolders::of(files, self.by)?;
        *self.watched.lock() = watched;
        self.wake();
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
        let mut waiting = self.waiting.lock();
        waiting.push(done);
        if self.stop.load(Ordering::Acquire) {
            // The thread may have ended: nobody is to wait for it.
            waiting.clear();
        }
        drop(waiting);
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
    pub(super) fn run(&self, heard: &Audience) {
        let mut busy = false;
        while !self.stop.load(Ordering::Acquire) {
            heard.register.tokens.note(boottime(), heard.fill_window);
            let source = Arc::clone(&self.watched.lock().source);
            self.sleep(&source, busy);
            busy = false;
            let waiting = std::mem::take(&mut *self.waiting.lock());
            // It may have been renewed meanwhile.
            let source = Arc::clone(&self.watched.lock().source);
            // What comes while this reads does not keep anybody waiting.
            let mut left = source.pending();
            while left > 0 {
                let Reading { events, end } = source.read();
                left = left.saturating_sub(events.len().max(1));
                busy |= !events.is_empty();
                heard.batch(&events);
                match end {
                    End::Full => {}
                    End::Empty => break,
                    End::Failed(error) => {
                        tracing::error!(%error, "the cache directory cannot be watched");
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
        self.waiting.lock().clear();
    }

    /// Until something has happened or somebody waits.
    fn sleep(&self, source: &Source, busy: bool) {
        let at_most = |limit: Duration| Timespec { tv_sec: 0, tv_nsec: i64::from(limit.subsec_nanos()) };
        if busy {
            let mut wake = [PollFd::new(&self.wake, PollFlags::IN)];
            let _ = poll(&mut wake, Some(&at_most(GATHER)));
        }
        let mut fds = [PollFd::new(source, PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)];
        // Interrupted, it has slept long enough.
        let _ = poll(&mut fds, Some(&at_most(IDLE)));
        if fds[1].revents().contains(PollFlags::IN) {
            let mut count = [0; 8];
            let _ = rustix::io::read(&self.wake, &mut count);
        }
    }
}

impl WatchedFolders {
    fn of(files: &Files, by: WatchBy) -> Result<Self, WatchError> {
        let source = Source::open(by)?;
        let folders = source.add(files)?.into();
        Ok(Self { source: Arc::new(source), folders })
    }
}

impl Audience {
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
        let folder = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::ISDIR | ReadFlags::UNMOUNT;
        if what.intersects(folder) {
            tracing::warn!(
                "a folder of the cache directory was made, moved, removed or unmounted; it is read anew"
            );
            self.missed("folder");
            return;
        }
        let came = what.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
        let went = what.intersects(ReadFlags::MOVED_FROM | ReadFlags::DELETE);
        let looked_at = match *named {
            Named::InFlight(ref file) if came && went => self.register.came_and_went(file),
            Named::InFlight(ref file) => {
                if came {
                    self.register.begins(file.clone());
                } else if went {
                    self.register.ended(file);
                }
                Ok(())
            }
            Named::Object(file) if went && !came => {
                self.register.gone(file);
                Ok(())
            }
            Named::Object(file) => self.register.admit(file, Seen::Event),
            Named::Other => Ok(()),
        };
        if let Err(error) = looked_at {
            tracing::error!(?named, %error, "a cache file cannot be looked at; the directory is read anew");
            self.missed("file");
        }
    }

    /// Something may have been missed: nothing is served until everything was looked at.
    fn missed(&self, why: &'static str) {
        metrics::counter!("batoff_edge_nginx_rescans_total", "reason" => why).increment(1);
        self.gate.ask(Trust::Running);
        self.permit.settle();
    }
}
