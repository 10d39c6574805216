//! Whether replicas have the settings alike that they must.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What the master key is called among the settings. All other marks are made with it.
pub(crate) const MASTER_KEY: &str = "master.key";

/// By its name, a mark of each setting that replicas must have alike. Two that have it alike have the same mark; nothing else
/// follows from one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SettingMarks(BTreeMap<String, String>);

impl SettingMarks {
    /// The names of settings that differ, of those that both tell: one that starts may be of a newer version. With another
    /// master key no mark is the same, and only that is told.
    pub(crate) fn apart_from(&self, other: &Self) -> Vec<&str> {
        let differs =
            |(name, mark): &(&String, &String)| other.0.get(*name).is_some_and(|theirs| theirs != *mark);
        let apart: Vec<&str> = self.0.iter().filter(differs).map(|(name, _)| name.as_str()).collect();
        if apart.contains(&MASTER_KEY) { vec![MASTER_KEY] } else { apart }
    }

    /// The mark of this setting.
    #[cfg(test)]
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl<const N: usize> From<[(String, String); N]> for SettingMarks {
    fn from(marks: [(String, String); N]) -> Self {
        Self(BTreeMap::from(marks))
    }
}
