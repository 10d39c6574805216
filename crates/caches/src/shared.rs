//! What more than one kind of cache needs: a lease as files, a folder or a file of one's own, requests over one connection,
//! a visitor and a report for the checks, a glance for the doctor, and whose the hostnames are throughout a group of records.

pub(crate) mod glance;
mod own_folder;
pub mod pipeline;
pub mod report;
pub(crate) mod sites;
pub mod slots;
pub(crate) mod state_file;
pub mod visitor;

pub use self::own_folder::OwnFolder;
