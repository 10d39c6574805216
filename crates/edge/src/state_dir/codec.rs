//! The state file: magic, format, length and checksum, then a protobuf message.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use batoff_index::{Place, Rule, Snapshot};
use batoff_types::message::Position;
use batoff_types::{
    Cursor, Generation, HostPattern, LogId, Replica, ReplicaSet, SEMANTICS_VERSION, SiteId, SiteTable,
    TaskId, Term,
};
use prost::Message;

use super::rules::PbRule;

/// The file that holds everything but the generation's own mark.
pub(super) const STATE: &str = "state";

const MAGIC: &[u8; 8] = b"BATOFFES";

/// The format of a node whose control plane is alone. Builds that know of no others read it: to them the fields about
/// replicas are not there, and there is only one term.
const FORMAT_ALONE: u32 = 1;

/// The format of a node that follows several. An older build refuses it, and so stands nowhere: it would take the lease of one
/// replica for a right to serve.
const FORMAT: u32 = 2;

/// Magic, format, CRC-32 of the message, length of the message.
const HEADER: usize = 8 + 4 + 4 + 8;

/// What a node's state file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// In which log it stands, and where; `None`: nowhere. Never beyond what every cache has evicted, while the rules of
    /// `snapshot` may be newer.
    pub position: Option<Position>,
    /// What is known of the control planes.
    pub known: KnownReplicas,
    /// The rules and the sites; its cursor is that of `position`.
    pub snapshot: Snapshot,
}

/// What a node must still know of its control planes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownReplicas {
    /// The highest term seen of each.
    pub terms: BTreeMap<Replica, Term>,
    /// Those that count where the node stands; `None`: not known, as a build stored it that knew of one only.
    pub set: Option<ReplicaSet>,
    /// Where each is reached, as they said. To be checked against the configuration before it is used.
    pub endpoints: BTreeMap<Replica, Arc<str>>,
}

impl KnownReplicas {
    /// Whether a build that knows one control plane only may go on from here.
    fn is_alone(&self) -> bool {
        self.set.as_ref().is_none_or(ReplicaSet::is_only)
            && self.terms.keys().all(|replica| *replica == Replica::ONLY)
    }
}

/// Why a state file cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Untrusted {
    #[error("it is no state file")]
    Magic,
    #[error("it has format {0}, and this build reads formats {FORMAT_ALONE} and {FORMAT}")]
    Format(u32),
    #[error("it is torn: {got} bytes instead of {expected}")]
    Length { expected: u64, got: u64 },
    #[error("its checksum does not match")]
    Checksum,
    #[error("it cannot be decoded: {0}")]
    Content(String),
    #[error("it is that of the node {0}")]
    Foreign(String),
    #[error("it does not say whose it is")]
    Nobodys,
}

impl Stored {
    /// What is to be written for an index and the stream's position and term.
    pub(crate) fn of(position: Option<Position>, known: KnownReplicas, mut snapshot: Snapshot) -> Self {
        // The rules may be ahead of the caches. What counts after a restart is what had left every cache.
        snapshot.cursor = position.map_or(Cursor::START, |position| position.cursor);
        snapshot.task = position.and_then(|position| position.task);
        Self { position, known, snapshot }
    }
}

#[derive(Clone, PartialEq, Message)]
struct PbState {
    #[prost(bytes = "vec", optional, tag = "1")]
    log_id: Option<Vec<u8>>,
    #[prost(uint64, tag = "2")]
    cursor: u64,
    #[prost(bytes = "vec", optional, tag = "3")]
    task: Option<Vec<u8>>,
    #[prost(uint64, tag = "4")]
    term: u64,
    #[prost(uint64, tag = "5")]
    generation: u64,
    #[prost(uint64, tag = "6")]
    forgotten_through: u64,
    #[prost(message, repeated, tag = "7")]
    sites: Vec<PbSite>,
    #[prost(message, repeated, tag = "8")]
    rules: Vec<PbRule>,
    /// The semantics of the build that wrote it; 0: version 1, which did not say.
    #[prost(uint32, tag = "9")]
    semantics: u32,
    #[prost(message, repeated, tag = "10")]
    replicas: Vec<PbReplica>,
    /// Empty: not known.
    #[prost(uint32, repeated, tag = "11")]
    set: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct PbReplica {
    #[prost(uint32, tag = "1")]
    replica: u32,
    /// Of the only one it stands in the state itself, too.
    #[prost(uint64, optional, tag = "2")]
    term: Option<u64>,
    #[prost(string, optional, tag = "3")]
    endpoint: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct PbSite {
    #[prost(string, tag = "1")]
    site: String,
    #[prost(string, repeated, tag = "2")]
    hostnames: Vec<String>,
    #[prost(uint32, optional, tag = "3")]
    tags_per_response: Option<u32>,
}

pub(super) fn encode(stored: &Stored) -> Vec<u8> {
    let Stored { position, known, snapshot } = stored;
    let message = PbState {
        log_id: position.map(|position| position.log_id.to_bytes().to_vec()),
        cursor: snapshot.cursor.get(),
        task: position.and_then(|position| position.task).map(|task| task.to_bytes().to_vec()),
        term: known.terms.get(&Replica::ONLY).map_or(0, |term| term.0),
        generation: snapshot.generation.0,
        forgotten_through: snapshot.forgotten_through.get(),
        sites: snapshot
            .sites
            .iter()
            .map(|(site, names)| PbSite {
                site: site.to_string(),
                hostnames: names.iter().map(HostPattern::to_string).collect(),
                tags_per_response: snapshot.sites.tags_per_response(site.as_str()),
            })
            .collect(),
        rules: snapshot.rules.iter().map(PbRule::from).collect(),
        semantics: SEMANTICS_VERSION,
        replicas: encode_replicas(known),
        set: known.set.iter().flat_map(ReplicaSet::members).map(|replica| replica.0.into()).collect(),
    }
    .encode_to_vec();
    let format = if known.is_alone() { FORMAT_ALONE } else { FORMAT };
    let mut bytes = Vec::with_capacity(HEADER + message.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&format.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&message).to_le_bytes());
    bytes.extend_from_slice(&(message.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&message);
    bytes
}

pub(super) fn decode(bytes: &[u8]) -> Result<Stored, Untrusted> {
    let torn = |expected: usize| Untrusted::Length { expected: expected as u64, got: bytes.len() as u64 };
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| torn(HEADER))?;
    if magic != MAGIC {
        return Err(Untrusted::Magic);
    }
    let (format, rest) = rest.split_first_chunk::<4>().ok_or_else(|| torn(HEADER))?;
    let format = u32::from_le_bytes(*format);
    if !(FORMAT_ALONE..=FORMAT).contains(&format) {
        return Err(Untrusted::Format(format));
    }
    let (checksum, rest) = rest.split_first_chunk::<4>().ok_or_else(|| torn(HEADER))?;
    let (length, message) = rest.split_first_chunk::<8>().ok_or_else(|| torn(HEADER))?;
    let length = u64::from_le_bytes(*length);
    if length != message.len() as u64 {
        let expected = length.saturating_add(HEADER as u64);
        return Err(Untrusted::Length { expected, got: bytes.len() as u64 });
    }
    if crc32fast::hash(message) != u32::from_le_bytes(*checksum) {
        return Err(Untrusted::Checksum);
    }
    let message = PbState::decode(message).map_err(content)?;
    stored(message)
}

fn encode_replicas(known: &KnownReplicas) -> Vec<PbReplica> {
    let all: BTreeSet<_> = known.terms.keys().chain(known.endpoints.keys()).collect();
    let one = |replica: &Replica| PbReplica {
        replica: u32::from(replica.0),
        term: known.terms.get(replica).map(|term| term.0),
        endpoint: known.endpoints.get(replica).map(|endpoint| endpoint.as_ref().to_owned()),
    };
    all.into_iter().map(one).collect()
}

fn known_replicas(message: &PbState) -> Result<KnownReplicas, Untrusted> {
    let replica = |number: u32| match u8::try_from(number) {
        Ok(number @ 1..) => Ok(Replica(number)),
        _ => Err(content(format!("{number} numbers no control plane"))),
    };
    let mut known = KnownReplicas::default();
    for PbReplica { replica: number, term, endpoint } in &message.replicas {
        let replica = replica(*number)?;
        known.terms.extend(term.map(|term| (replica, Term(term))));
        known.endpoints.extend(endpoint.as_deref().map(|endpoint| (replica, endpoint.into())));
    }
    // A build that knows of one only writes nothing else.
    if message.term > 0 {
        let only = known.terms.entry(Replica::ONLY).or_default();
        *only = (*only).max(Term(message.term));
    }
    if !message.set.is_empty() {
        let members: Vec<_> = message.set.iter().copied().map(replica).collect::<Result<_, _>>()?;
        known.set = Some(ReplicaSet::new(members).map_err(content)?);
    }
    Ok(known)
}

fn stored(message: PbState) -> Result<Stored, Untrusted> {
    let known = known_replicas(&message)?;
    let cursor = Cursor::new(message.cursor);
    let task = message.task.as_deref().map(ulid).transpose()?.map(TaskId::from_bytes);
    let position = match message.log_id {
        Some(bytes) => Some(Position { log_id: LogId::from_bytes(ulid(&bytes)?), cursor, task }),
        None => None,
    };
    let mut sites = SiteTable::default();
    for PbSite { site, hostnames, tags_per_response } in message.sites {
        let site: SiteId = site.parse().map_err(content)?;
        let names: Result<Vec<HostPattern>, _> = hostnames.iter().map(|name| name.parse()).collect();
        sites.set(&site, Some(&names.map_err(content)?));
        sites.set_tags_per_response(site.as_str(), tags_per_response);
    }
    let rules = message.rules.into_iter().map(PbRule::into_rule).collect::<Result<Vec<_>, _>>();
    let mut rules = rules.map_err(Untrusted::Content)?;
    if message.semantics < 2 {
        rules.extend(of_version_2(&rules));
    }
    let snapshot = Snapshot {
        generation: Generation(message.generation),
        cursor,
        task,
        sites,
        forgotten_through: Cursor::new(message.forgotten_through),
        rules,
    };
    Ok(Stored { position, known, snapshot })
}

/// What purges hit since version 2 of the semantics that a build before it kept no rules about: objects whose tags
/// overflow, and pages that a cache keeps without the port.
///
/// Rules of version 1 are widened and not thrown away with the caches (a reset), because nothing is missed by it:
///
/// - A purge whose rule is still here is judged again, wider, against all that is found in the cache or asked for: nginx is
///   scanned anew, Traffic Server's table and HAProxy's maps are made of these rules, batoff-proxy and what registers at the
///   local API begin empty or are asked for what they hold.
/// - A purge whose rule was forgotten: `forgotten_through` is beyond it, and so it hits every object of its time.
/// - A rule that was folded is one of its host or site, which hits overflowing objects and every port anyway.
/// - Varnish is told nothing twice, and need not be: its VCL looked for a tag in the whole header in version 1, too.
///
/// Version 3 brought a record that hits nothing ([`batoff_types::Body::ReplicaSet`]): rules stay as they are.
///
/// A version 4 has to answer the same four questions, or take the state of version 2 for none: an [`Untrusted`] is a reset.
fn of_version_2(rules: &[Rule]) -> Vec<Rule> {
    let place = |place: &Place| match place {
        Place::Tag(site, _) => Place::Overflow(site.clone()),
        other => other.clone().without_port(),
    };
    let wider = rules.iter().map(|rule| Rule { place: place(&rule.place), ..rule.clone() });
    wider.filter(|rule| !rules.contains(rule)).collect()
}

fn ulid(bytes: &[u8]) -> Result<[u8; 16], Untrusted> {
    bytes.try_into().map_err(|_| content("an identity is not 16 bytes long"))
}

fn content(why: impl ToString) -> Untrusted {
    Untrusted::Content(why.to_string())
}

#[cfg(test)]
mod tests {
    use batoff_types::Seq;

    use super::*;

    #[test]
    fn rules_of_the_former_semantics_hit_what_they_hit_since() {
        let rule = |place: Place, hard| Rule { place, hard: Seq::new(hard), soft: None };
        let tag = rule(Place::Tag("shop".parse().unwrap(), "a".parse().unwrap()), 7);
        let url = rule(Place::Url("www.example.test:8443/a".into()), 8);
        let snapshot = Snapshot {
            generation: Generation(1),
            cursor: Cursor::new(9),
            task: None,
            sites: SiteTable::default(),
            forgotten_through: Cursor::START,
            rules: vec![tag.clone(), url.clone()],
        };
        let bytes = encode(&Stored { position: None, known: KnownReplicas::default(), snapshot });
        let read = |semantics| {
            let mut message = PbState::decode(&bytes[HEADER..]).unwrap();
            message.semantics = semantics;
            stored(message).unwrap().snapshot.rules
        };
        assert_eq!(read(SEMANTICS_VERSION), [tag.clone(), url.clone()]);
        // A build of version 1 did not say which it was.
        for former in [0, 1] {
            let read = read(former);
            for wanted in [
                tag.clone(),
                url.clone(),
                rule(Place::Overflow("shop".parse().unwrap()), 7),
                rule(Place::Url("www.example.test/a".into()), 8),
            ] {
                assert!(read.contains(&wanted), "{wanted:?} is not among {read:?}");
            }
        }
    }
}
