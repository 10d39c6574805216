//! The purge log in an etcd cluster: one log for several control planes, none of them its leader.
//!
//! [`EtcdStore`] is [`Store`](batoff_log::Store) over etcd 3.4.22, 3.5.6 or later. All keys lie under one prefix:
//!
//! | key | value | why |
//! | --- | --- | --- |
//! | `m` | format, id of the log, id of the cluster | a snapshot that was restored is another cluster, and is refused until it becomes a log of its own |
//! | `i` | a log is being moved here | what lies beside it is no log before `m` takes its place |
//! | `h` | last group, last record | the fence: each append compares the revision of this key, so of two only one happens |
//! | `l/<group>` | one group commit: records, task rows, keys, completions | hundreds of purges are one proposal; keys that are there are never compacted away |
//! | `f` | first group, first record | moved by trimming only; who trims has written it last |
//! | `x/<page>` | what is left of 512 trimmed records: task rows with completions, keys not expired | they outlive the records |
//! | `p/…`, `q/<page>/…` | parts of values over half a megabyte | etcd takes 1.5 MiB at once; they count once their envelope is there |
//! | `k/<key>` | a pair and when it expires | compare-and-set on its revision |
//! | `e/<time>/<key>` | nothing | finds what expires; written in the same transaction as the pair |
//! | `r` | nothing | written while room is short: etcd counts freed pages as free only when it writes |
//! | `a/<replica>[/<shard>]` | what a replica says of itself, on its lease | the only lease: nothing durable hangs on one |
//!
//! **How it stays one log.** A group is decided on an index that stands at the group before it, and written on condition
//! that this one is still the last (`sequencer`). So numbers have no gaps, and a repeat is recognised whichever replica
//! accepted the first: the decision was made on all of the log. An answer that is lost is found out by the random id of
//! its writer. Nothing is answered before etcd has said that it is done, which it says when a majority has flushed it.
//!
//! **How it is followed.** By a watch, and nothing rests on the watch (`follower`): groups have contiguous numbers, what
//! is missing is read, and the log's end is read once a second. A replica reads the log when it starts. All that it has on
//! a disk is a note of the group that it saw last (`witness`), so that an older copy of the log is not taken for the log.
//!
//! **It is not:** fast for a lone appender (two flushes and a round trip each), a place for more than some gigabytes
//! (etcd's suggested maximum is 8 GiB, so retention is hours or days), or a way to survive the loss of a majority:
//! then nothing is accepted, what was accepted can be read while a member is there, and it goes on by itself afterwards.
//! The index of tasks and requests lies in memory, some 500 bytes a task with the record's copy in its row.
//!
//! **Settings for the cluster:** three or five members with a disk of their own, `--pre-vote=true`,
//! `--quota-backend-bytes=8589934592`; on a LAN `--heartbeat-interval=50 --election-timeout=500` halves the two seconds
//! that a dead leader costs; TLS, and a user that may read and write the prefix. Recent releases (3.5.30,
//! and not 3.5.16) tell their state to root alone, so the store of such a user does not see how full the cluster is: give
//! it root's role, or watch the quota from outside.
//!
//! **Releases that were run** (`BATOFF_ETCD` names the program): 3.4.23 with each run of the tests; 3.5.16 and 3.5.30,
//! as Debian packs them, by hand with all tests of this crate and the stories of `tests/faults` with several control
//! planes. 3.6 was not run.

mod catch_up;
mod client;
mod config;
mod draft;
mod envelope;
mod follower;
mod index;
mod kv;
mod load;
mod log;
mod measure;
mod moving;
mod names;
mod open;
mod open_error;
mod presence;
mod queue;
mod read;
mod room;
mod rpc;
mod sequencer;
mod shared;
mod store;
mod stored;
mod tail;
mod trim;
mod witness;

#[cfg(any(test, feature = "testing"))]
#[allow(clippy::expect_used, reason = "for tests; a cluster that cannot be started is a panic")]
pub mod testing;
#[cfg(test)]
mod tests;

pub use self::config::{COMPACT_AFTER, DEFAULT_PREFIX, EtcdConfig, EtcdTls, EtcdUser, WRITE_TIME_MAX};
pub use self::measure::describe_metrics;
pub use self::moving::{EtcdMove, EtcdMoveError, FoundLog, ImportedLog, MovedTo};
pub use self::open_error::EtcdOpenError;
pub use self::store::EtcdStore;
