//! Faults under the real programs: killed, frozen, cut off, on full, failing and damaged disks, without power, with
//! clocks that step. What is promised of each stands in tests/README.md.
//!
//! Everything random has a seed, which is printed. Longer and more than in the gate:
//!
//! | variable | means |
//! | --- | --- |
//! | `BATOFF_FAULTS_SEED` | the same faults again |
//! | `BATOFF_FAULTS_SECONDS` | how long each turmoil lasts |
//! | `BATOFF_FAULTS_CUTS` | at how many moments the power is cut |
//! | `BATOFF_ETCD` | another program than the `etcd` in `PATH` |
//! | `BATOFF_REQUIRE_NAMESPACES=1` | a test that cannot run here fails instead of being skipped |

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod audit_log;
mod backup;
mod disk;
mod grow;
mod network;
mod power_cut;
mod replicas;
mod restart;
mod rolling;
mod turmoil;
mod wall_clock;
mod with_dev;
