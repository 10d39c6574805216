//! What the programs do alike, whatever their trade: they write log lines, they end when a vital task does, and they
//! listen without letting a stranger use them up.
//!
//! | module | answers |
//! | --- | --- |
//! | [`logs`] | How does a line reach standard error without ever holding up or failing whoever wrote it? |
//! | [`vital`] | What ends the process when it ends unexpectedly? |
//! | [`gate`] | How many connections may one listener, and one client of it, have? |
//! | [`watched`] | How long may a connection do nothing? |
//! | [`http`] | How is an HTTP listener served within all that? |
//! | [`grpc`] | And a gRPC one? |
//! | [`process`] | Which build is it, and what does it use? |
//! | [`descriptors`] | How many files may be open, and who gets them? |
//!
//! **Never in here:** a rule of the protocol, a cache, a configuration file.

pub mod descriptors;
pub mod gate;
pub mod grpc;
pub mod http;
pub mod logs;
pub mod process;
pub mod vital;
pub mod watched;
