//! The kit of the programs: what they do alike, whatever their trade. A program's `main.rs` is a table of contents made of
//! it: what the operator wrote is read and checked before anything is bound; then start, announce, wait for a signal, drain.
//!
//! | module | answers |
//! | --- | --- |
//! | [`config`] | Where does a configuration key come from, and how is a text read? |
//! | `flags` | What may stand on the command line, and what is printed for whoever started it? (feature `main`) |
//! | `manual` | What does a package ship about it? Completions and man pages (feature `manual`) |
//! | `doctor` | Does this machine, as it is configured, carry the program? What both doctors look at (feature `main`) |
//! | `probe` | Is a running one well, where there is no curl to ask it? (feature `main`) |
//! | [`exit`] | Which exit code, and which last line, has an error? |
//! | [`signals`] | When to stop, and when to read certificates again? |
//! | [`logs`] | How does a line reach standard error without ever holding up or failing whoever wrote it? |
//! | [`monitored`] | What does it say of itself when it is asked? |
//! | `monitor` | What do `/metrics`, `/healthz` and `/readyz` answer? |
//! | `figures` | Where does what is recorded go to? |
//! | [`vital`] | What ends the process when it ends unexpectedly? |
//! | `supervisor` | What does whoever started it (systemd) hear of it, and when is it to be started again? (feature `main`) |
//! | `listen` | Which connections are accepted, and how long may they take? `[listeners]` |
//! | `gate` | How many connections may one listener, and one client of it, have? |
//! | `watched` | How long may a connection do nothing? |
//! | `http` | How is an HTTP listener served within all that? |
//! | `grpc` | And a gRPC one? |
//! | [`certificates`] | When does a certificate end, and have its files changed? |
//! | [`handshake`] | Why did a TLS handshake come to nothing, and what helps? |
//! | [`durable`] | How is a file replaced so that no crash leaves half of one? |
//! | [`traces`] | What became of one purge, for a collector? `[traces]` |
//! | `process` | Which build is it, and what does it use? |
//! | [`descriptors`] | How many files may be open, and who gets them? |
//!
//! What listens, from `monitor` to `process`, is there with the feature `serve`, and `flags` with `main`: a cache that embeds
//! a daemon has listeners and a command line of its own, and compiles neither.
//!
//! **Never in here:** a rule of the protocol, a cache, a key that only one program has.

pub mod certificates;
pub mod config;
pub mod descriptors;
#[cfg(feature = "main")]
pub mod doctor;
pub mod durable;
pub mod exit;
#[cfg(feature = "serve")]
pub mod figures;
#[cfg(feature = "main")]
pub mod flags;
#[cfg(feature = "serve")]
pub mod gate;
#[cfg(feature = "serve")]
pub mod grpc;
pub mod handshake;
#[cfg(feature = "serve")]
pub mod http;
#[cfg(feature = "serve")]
pub mod listen;
pub mod logs;
#[cfg(feature = "manual")]
pub mod manual;
#[cfg(feature = "serve")]
pub mod monitor;
pub mod monitored;
#[cfg(feature = "main")]
pub mod probe;
#[cfg(feature = "serve")]
pub mod process;
pub mod signals;
#[cfg(feature = "main")]
pub mod supervisor;
pub mod traces;
pub mod vital;
#[cfg(feature = "serve")]
pub mod watched;
