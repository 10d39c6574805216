//! A cache that is told by HTTP what to remove, one request a URL.

use batoff_edge::cache::Cache;
use batoff_edge::config::ConfigError;
use batoff_program::doctor::Diagnosis;
use batoff_program::doctor::folder::FolderUse;

use crate::section::{Beside, Section};
use crate::shared::report::{CheckError, Report};
use crate::shared::visitor::VisitArgs;
use crate::{CacheOpenError, Locator, Surroundings};

mod adapter;
mod check;
mod config;
mod glance;

pub use self::adapter::Http;
pub use self::config::{Header, HttpSection, Others};

impl Section for HttpSection {
    type Look = VisitArgs;

    fn validate(&self, beside: &Beside) -> Result<(), ConfigError> {
        Self::validate(self, beside.has_registry)
    }

    async fn open(&self, around: Surroundings) -> Result<Vec<Box<dyn Cache<Locator>>>, CacheOpenError> {
        Ok(vec![Box::new(Http::open(self, &around)?)])
    }

    async fn examine(&self, _: &Beside<'_>, _: &FolderUse, report: &mut Diagnosis) {
        glance::examine(self, report).await;
    }

    async fn check(&self, with: &VisitArgs, _: &Beside<'_>) -> Result<Report, CheckError> {
        check::check(with, self).await
    }
}
