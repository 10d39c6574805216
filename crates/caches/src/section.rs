//! What every kind of cache is for the table of kinds: a section of the configuration that can be checked, opened and looked
//! at.

use std::path::Path;

use batoff_edge::cache::Cache;
use batoff_edge::config::ConfigError;
use batoff_program::doctor::Diagnosis;
use batoff_program::doctor::folder::FolderUse;
use batoff_types::message::LeasePolicy;
use serde::Deserialize;

use crate::shared::report::{CheckError, Report};
use crate::{CacheOpenError, Locator, Surroundings};

/// What the folder of a kind gives to its row: its table in the configuration, which knows what follows from it.
pub trait Section: for<'de> Deserialize<'de> {
    /// What `batoff-edge check` is asked with, beside the configuration.
    type Look: clap::Args;

    /// Whether its keys have ports. Without, a purge hits whatever port it names.
    const KEYS_HAVE_PORTS: bool = true;

    /// Whether objects can be registered with it, for others to be told of them.
    const IS_REGISTRY: bool = false;

    /// Checks what types cannot say.
    ///
    /// # Errors
    /// The key and the remedy.
    fn validate(&self, beside: &Beside) -> Result<(), ConfigError>;

    /// Begins to drive the cache, or each of those that the section names.
    ///
    /// # Errors
    /// When it cannot be driven.
    fn open(
        &self,
        around: Surroundings,
    ) -> impl Future<Output = Result<Vec<Box<dyn Cache<Locator>>>, CacheOpenError>>;

    /// Looks at what can be seen of the cache without storing, removing or changing anything, for the doctor. `running`: who has
    /// the state directory.
    fn examine(
        &self,
        beside: &Beside,
        running: &FolderUse,
        report: &mut Diagnosis,
    ) -> impl Future<Output = ()>;

    /// Shows on the running set-up that the cache is configured so that what the daemon promises is so.
    ///
    /// # Errors
    /// When it cannot be looked at: a folder cannot be read, it does not answer.
    fn check(&self, with: &Self::Look, beside: &Beside) -> impl Future<Output = Result<Report, CheckError>>;
}

/// What a section may ask of the rest of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Beside<'a> {
    /// What the node does without a lease.
    pub policy: LeasePolicy,
    /// Whether the node fetches through others.
    pub has_parents: bool,
    /// Whether there is a section with which objects can be registered.
    pub has_registry: bool,
    /// The state directory.
    pub state_dir: &'a Path,
}
