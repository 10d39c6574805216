use batoff_program::config::ConfigError;
use batoff_types::{NodeName, PARENTS_MAX, Parent};
use serde::Deserialize;

/// `[path]`: what lies between this node's caches and the origins.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathSection {
    /// The nodes (`pop/node`) and PoPs (`pop`: all nodes of it) that this node fetches through, if not from the origins
    /// themselves. What was purged is not stored here before they all have confirmed it.
    #[serde(default)]
    pub parents: Vec<String>,
}

impl PathSection {
    /// The parents of `node`, checked, each once.
    pub fn parents(&self, node: &NodeName) -> Result<Vec<Parent>, ConfigError> {
        let invalid = |rule: String| ConfigError::invalid("path.parents", rule);
        if self.parents.len() > PARENTS_MAX {
            return Err(invalid(format!("names more than {PARENTS_MAX} parents; name their PoPs instead")));
        }
        let mut parents = Vec::with_capacity(self.parents.len());
        for text in &self.parents {
            let parent: Parent = text.parse().map_err(|error| {
                invalid(format!("{error}; name nodes as `pop/node` and whole PoPs as `pop`"))
            })?;
            if parent == Parent::Node(node.clone()) {
                return Err(invalid(format!(
                    "{text:?} is this node itself; name those that its caches fetch through, or none"
                )));
            }
            parents.push(parent);
        }
        parents.sort();
        parents.dedup();
        Ok(parents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_nodes_and_pops_and_never_the_node_itself() {
        let node = "fra1/edge-1".parse().unwrap();
        let parents = |texts: &[&str]| {
            let parents = texts.iter().map(|text| (*text).to_owned()).collect();
            let parsed = PathSection { parents }.parents(&node);
            parsed.map(|parents| parents.iter().map(Parent::to_string).collect::<Vec<_>>())
        };
        assert_eq!(parents(&[]).unwrap(), [""; 0]);
        assert_eq!(
            parents(&["lon1", "fra1/shield-1", "lon1", "fra1"]).unwrap(),
            ["fra1/shield-1", "fra1", "lon1"]
        );
        for (wrong, rule) in [("fra1/edge-1", "itself"), ("FRA1", "a-z"), ("a/b/c", "a-z"), ("", "1 to 64")] {
            let refused = parents(&[wrong]).unwrap_err().to_string();
            assert!(refused.contains(rule) && refused.contains("path.parents"), "{refused}");
        }
    }
}
