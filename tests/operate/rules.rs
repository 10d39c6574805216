//! The alert rules: what they mean, told by recorded series; and that each has such a story.

use crate::{root, tool};

const RULES: &str = "deploy/prometheus/batoff.rules.yml";
const STORIES: &str = "tests/operate/rules.test.yml";

#[test]
fn recorded_series_raise_the_alerts_that_they_should_and_no_others() {
    let (fine, said) = tool("promtool", &["check", "rules", RULES]);
    assert!(fine, "{said}");
    let (fine, said) = tool("promtool", &["test", "rules", STORIES]);
    assert!(fine, "{said}");
}

#[test]
fn each_alert_has_a_moment_in_which_it_is_raised() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let (rules, stories) = (read(RULES), read(STORIES));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        let raised = format!("labels: 'ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"");
        assert!(stories.contains(&raised), "{STORIES} has no story in which {alert} is raised");
    }
}
