//! The two connections to varnishd: the listener for purges, and its command line.

use std::collections::BTreeSet;

use batoff_edge::Identity;
use batoff_edge::cache::CacheTrouble;

use super::cli::{Cli, CliError};
use super::config::{NAME, VarnishSection};
use super::orders::{Orders, purge_request};
use crate::shared::pipeline::{Address, Pipeline, Reply};

/// The version of `batoff.vcl` that this build speaks to.
const VCL_VERSION: &str = "2";

/// Hosts that have a guard of their own. Varnish keeps the guards in a list; further hosts share the one of all.
const GUARDED_HOSTS_MAX: usize = 256;

/// `http_resp_size` over this, and `batoff.vcl` could not tell whether there is room for all lines of `Cache-Tag`.
const RESPONSE_BYTES_MAX: u64 = 64 << 10;

/// As `batoff.vcl` has them: so many bytes of tags are made keys of where so much workspace is left.
const TAG_BYTES: [(u64, u64); 2] = [(240_000, 16_384), (72_000, 4_096)];

/// What is known of one varnishd.
pub(super) struct Link {
    purger: Pipeline,
    cli: Cli,
    /// What it has to bear to be this state's.
    identity: Identity,
    /// Tells this run of the daemon from others, so that no guard has ever had its values before.
    instance: String,
    moves: u64,
    guarded: BTreeSet<String>,
    /// Whether it has borne the identity in this run.
    met: bool,
}

/// What varnishd was started with that matters here, in bytes.
pub(super) struct Parameters {
    workspace: u64,
    response: u64,
    header: u64,
}

/// What became of the question whether our VCL is there.
#[derive(Debug, thiserror::Error)]
pub(super) enum Probe {
    #[error("{0}")]
    Silent(String),
    #[error("{0}")]
    Wrong(String),
}

impl Parameters {
    /// Bytes of `Cache-Tag` of which each tag can be purged by itself, at least; of what has more, all together.
    pub(super) fn tag_bytes(&self) -> u64 {
        let left = self.workspace.saturating_sub(self.response / 2);
        let fits = TAG_BYTES.iter().find(|(room, _)| left >= *room).map_or(0, |(_, bytes)| *bytes);
        fits.min(self.header.saturating_sub(16))
    }

    pub(super) fn validate(&self) -> Result<(), String> {
        if self.response > RESPONSE_BYTES_MAX {
            return Err(format!(
                "varnishd's http_resp_size is {} bytes; with more than {RESPONSE_BYTES_MAX} batoff.vcl cannot tell whether \
                 all tags of an answer were read: start it with -p http_resp_size=64k at most",
                self.response
            ));
        }
        Ok(())
    }
}

/// `Value is: 96k [bytes] (default)`
fn bytes(answer: &str) -> Option<u64> {
    let value = answer.split("Value is:").nth(1)?.split_whitespace().next()?;
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match value.get(digits.len()..)?.chars().next() {
        None | Some('b' | 'B') => 1.0,
        Some('k' | 'K') => 1024.0,
        Some('m' | 'M') => 1024.0 * 1024.0,
        _ => return None,
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size, far below 2^52")]
    digits.parse::<f64>().ok().filter(|number| *number >= 0.0).map(|number| (number * unit) as u64)
}

impl Link {
    pub(super) fn new(section: &VarnishSection, identity: Identity) -> Result<Self, String> {
        let lurker = format!("param.set ban_lurker_age {}", section.ban_lurker_age_secs);
        Ok(Self {
            purger: Pipeline::new(section.purge.parse()?),
            cli: Cli::new(&section.cli, section.secret.clone(), vec![lurker]),
            identity,
            instance: format!("{:032x}", rand::random::<u128>()),
            moves: 0,
            guarded: BTreeSet::new(),
            met: false,
        })
    }

    pub(super) fn address(&self) -> &Address {
        self.purger.address()
    }

    /// Asks whether `batoff.vcl` is loaded; the mark that Varnish bears.
    pub(super) async fn probe(&mut self) -> Result<String, Probe> {
        let request = purge_request("batoff", "/", "Batoff-Probe: 1\r\n");
        let replies = self.purger.send(&[request]).await;
        let replies = replies.map_err(|error| Probe::Silent(unreachable(self.purger.address(), &error).0))?;
        let reply = replies.first();
        let wrong = match reply.and_then(|reply| reply.header("batoff-vcl")) {
            Some(VCL_VERSION) => {
                let mark = reply.and_then(|reply| reply.header("batoff-value"));
                return Ok(mark.unwrap_or_default().to_owned());
            }
            Some(other) => format!(
                "batoff.vcl there is version {other}, this daemon speaks {VCL_VERSION}; load the one of this release"
            ),
            None => {
                let status = reply.map_or(0, |reply| reply.status);
                format!(
                    "{} answers, but not as batoff.vcl does (status {status}): include it at the end of Varnish's VCL, and \
                     name the listener with -a batoff=…",
                    self.purger.address()
                )
            }
        };
        // Whatever is stored until it is back, nobody guards.
        self.met = false;
        Err(Probe::Wrong(wrong))
    }

    /// Whether `mark` is this state's.
    pub(super) fn is_mine(&self, mark: &str) -> bool {
        mark == self.identity.to_string()
    }

    /// Whether one that has borne this state's identity in this run still does. `None` where it has not, or where another
    /// daemon has marked it.
    pub(super) fn is_met_and_mine(&self, mark: &str) -> Option<bool> {
        let mine = self.is_mine(mark);
        (self.met && (mine || mark.is_empty())).then_some(mine)
    }

    /// It bears this state's identity.
    pub(super) const fn met(&mut self) {
        self.met = true;
    }

    /// Whether it has borne this state's identity since it was asked last. If not it has to be emptied; `Err` if another
    /// daemon does that as well.
    pub(super) fn has_been_mine(&mut self, mark: &str) -> Result<bool, CacheTrouble> {
        if self.met && self.is_mine(mark) {
            return Ok(true);
        }
        if self.met && mark.parse::<Identity>().is_ok() {
            return Err(CacheTrouble(
                "another daemon, with a state directory of its own, drives this varnish too; stop one of the two".to_owned(),
            ));
        }
        if self.met {
            tracing::info!("varnish was restarted, or its VCL; what it holds is dropped");
            metrics::counter!("batoff_edge_cache_restarts_total", "cache" => NAME).increment(1);
        } else {
            tracing::info!(
                mark,
                "what varnish holds is not known to have been purged from here; it is dropped"
            );
        }
        self.guarded.clear();
        Ok(false)
    }

    /// Everything is dropped: from now on it is this state's.
    pub(super) async fn mark(&mut self) -> Result<(), CacheTrouble> {
        let request = purge_request("batoff", "/", &format!("Batoff-Mark: {}\r\n", self.identity));
        let replies = self.purger.send(&[request]).await;
        accepted(&replies.map_err(|error| unreachable(self.purger.address(), &error))?)?;
        self.met = true;
        Ok(())
    }

    /// Whether the command line takes the secret, and what varnishd was started with.
    pub(super) async fn parameters(&mut self) -> Result<Parameters, CliError> {
        let names = ["workspace_backend", "http_resp_size", "http_resp_hdr_len"];
        let answers = self.cli.run(&names.map(|name| format!("param.show {name}"))).await?;
        // One that cannot be read is taken for what Varnish comes with.
        let value = |n: usize, default| answers.get(n).and_then(|answer| bytes(answer)).unwrap_or(default);
        Ok(Parameters {
            workspace: value(0, 96 << 10),
            response: value(1, 32 << 10),
            header: value(2, 8 << 10),
        })
    }

    /// When this returns, no answer whose fetch has begun will be stored, of the hosts concerned; nor one that begins before
    /// [`Link::set_guards`] opens the guards again, if they are `closed`. Which guards there are.
    pub(super) async fn guard(
        &mut self,
        orders: &Orders,
        closed: bool,
    ) -> Result<BTreeSet<String>, CacheTrouble> {
        let mut names = BTreeSet::new();
        for host in &orders.guards {
            if self.guarded.contains(host) || self.guarded.len() < GUARDED_HOSTS_MAX {
                self.guarded.insert(host.clone());
                names.insert(host.clone());
            } else {
                names.insert("*".to_owned());
            }
        }
        if orders.guard_all {
            names.insert("*".to_owned());
        }
        self.set_guards(&names, closed).await?;
        Ok(names)
    }

    /// Moves these guards, to a place where they have never been or to *closed*.
    pub(super) async fn set_guards(
        &mut self,
        names: &BTreeSet<String>,
        closed: bool,
    ) -> Result<(), CacheTrouble> {
        self.moves += 1;
        let Self { instance, moves, .. } = self;
        let value = if closed { format!("closed {instance}") } else { format!("{instance}-{moves}") };
        let request = |name: &String| {
            let lines =
                format!("Batoff-Guard: {name}\r\nBatoff-Value: {value}\r\nBatoff-Run: {instance}\r\n");
            purge_request("batoff", "/", &lines)
        };
        let requests: Vec<_> = names.iter().map(request).collect();
        let replies = self.purger.send(&requests).await;
        accepted(&replies.map_err(|error| unreachable(self.purger.address(), &error))?)
    }

    /// Takes out what is stored.
    pub(super) async fn remove(&mut self, orders: &Orders) -> Result<(), CacheTrouble> {
        let (requests, bans) = (orders.requests(), orders.bans());
        let Self { purger, cli, .. } = self;
        let purged = async {
            let replies =
                purger.send(&requests).await.map_err(|error| unreachable(purger.address(), &error))?;
            accepted(&replies)
        };
        let banned = async {
            match cli.run(&bans).await {
                Ok(_) => Ok(()),
                Err(error) => Err(CacheTrouble(error.to_string())),
            }
        };
        let (purged, banned) = tokio::join!(purged, banned);
        purged.and(banned)
    }
}

/// Whether `batoff.vcl` has done what it was told.
fn accepted(replies: &[Reply]) -> Result<(), CacheTrouble> {
    let refused = replies.iter().find(|reply| reply.status != 200 || reply.header("batoff-vcl").is_none());
    match refused {
        None => Ok(()),
        Some(reply) => Err(CacheTrouble(format!("varnish answered a purge with {}", reply.status))),
    }
}

fn unreachable(address: &Address, error: &std::io::Error) -> CacheTrouble {
    CacheTrouble(format!("varnish at {address}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_varnish_writes_them() {
        let shown = |value: &str| format!("http_resp_size\n        Value is: {value} [bytes] (default)\n");
        for (text, expected) in [("96k", 98_304), ("1M", 1 << 20), ("1.50k", 1_536), ("40b", 40), ("7", 7)] {
            assert_eq!(bytes(&shown(text)), Some(expected), "{text}");
        }
        assert_eq!(bytes("no such thing"), None);
    }

    #[test]
    fn what_fits_is_what_the_workspace_and_the_header_allow() {
        let tags = |workspace, response, header| Parameters { workspace, response, header }.tag_bytes();
        assert_eq!(tags(96 << 10, 32 << 10, 8 << 10), 4_096, "as Varnish comes");
        assert_eq!(tags(384 << 10, 64 << 10, 20 << 10), 16_384, "as we ship it");
        assert_eq!(tags(384 << 10, 64 << 10, 8 << 10), 8_176, "in one line");
        assert_eq!(tags(64 << 10, 32 << 10, 8 << 10), 0);
        let response = Parameters { workspace: 1 << 20, response: 128 << 10, header: 8 << 10 };
        assert!(response.validate().unwrap_err().contains("http_resp_size"));
    }
}
