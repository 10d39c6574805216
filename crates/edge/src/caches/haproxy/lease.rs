use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use batoff_types::message::LeasePolicy;
use tokio::sync::Notify;

use super::socket::Socket;
use crate::{Fence, boottime};

/// How often the lease is written even if it has not changed: a process that was restarted has lost it.
const AGAIN_EVERY: Duration = Duration::from_millis(250);

/// What an available node's HAProxy is told: it serves without a lease. The year 2286.
const OPEN_MILLIS: u64 = 9_999_999_999_999;

/// Keeps the end of the lease in HAProxy's map, as milliseconds since 1970. HAProxy compares it with its clock at each
/// request, so it ends by itself.
pub(super) struct Keeper {
    pub(super) socket: Socket,
    pub(super) map: PathBuf,
    pub(super) guard: Duration,
    pub(super) fence: Arc<Fence>,
    pub(super) renewed: Arc<Notify>,
}

impl Keeper {
    pub(super) async fn run(self) {
        let mut silent = false;
        loop {
            let written = self.write().await;
            if let Err(error) = &written
                && !silent
            {
                tracing::warn!(at = %self.socket.path().display(), %error, "haproxy cannot be told its lease");
            }
            silent = written.is_err();
            // Whichever comes first.
            let _ = tokio::time::timeout(AGAIN_EVERY, self.renewed.notified()).await;
        }
    }

    async fn write(&self) -> std::io::Result<()> {
        let map = self.map.display();
        let set = format!("set map {map} until {}", self.until());
        let answers = self.socket.run(&[set]).await?;
        if answers.iter().all(String::is_empty) {
            return Ok(());
        }
        let add = format!("add map {map} until {}", self.until());
        match self.socket.run(&[add]).await?.into_iter().find(|answer| !answer.is_empty()) {
            None => Ok(()),
            Some(answer) => Err(std::io::Error::new(std::io::ErrorKind::InvalidData, answer)),
        }
    }

    fn until(&self) -> u64 {
        if self.fence.policy() == LeasePolicy::Serve && self.fence.is_agreed() {
            return OPEN_MILLIS;
        }
        // The wall clock first: what passes between the two readings then makes the lease shorter, never longer.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let left = self.fence.until().since(boottime()).saturating_sub(self.guard);
        if left.is_zero() { 0 } else { u64::try_from((wall + left).as_millis()).unwrap_or(0) }
    }
}
