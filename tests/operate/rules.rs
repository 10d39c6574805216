//! The alert rules: what they mean, told by recorded series; and that each has such a story.

use std::collections::BTreeSet;

use crate::{root, tool};

const RULES: &str = "deploy/prometheus/batoff.rules.yml";
const DASHBOARD: &str = "deploy/grafana/batoff.json";
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

/// What somebody wants to see at a glance.
const WANTED: [&str; 8] = [
    "Within two seconds",
    "Propagation",
    "Worst nodes",
    "Accept",
    "Rounds",
    "Index memory",
    "Caches: what",
    "Traces: spans lost",
];

#[test]
fn every_query_of_the_dashboard_is_one_of_figures_that_there_are() {
    let dashboard = std::fs::read_to_string(root().join(DASHBOARD)).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let mut rules = String::from("groups:\n  - name: dashboard\n    rules:\n");
    let mut titles = Vec::new();
    let mut asked = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        titles.push(panel["title"].as_str().expect("a title"));
        for target in panel["targets"].as_array().into_iter().flatten() {
            // What Grafana puts in the place of its variables.
            let query = target["expr"].as_str().expect("a query").replace("$__range", "1h");
            let query = query.replace("$__rate_interval", "1m").replace("$__interval", "15s");
            assert!(!query.contains('$'), "{query} has a variable that is not known here");
            asked.extend(figures_in(&query));
            let query = serde_json::to_string(&query).unwrap();
            rules.push_str(&format!("      - record: panel:{}\n        expr: {query}\n", titles.len()));
        }
    }
    for wanted in WANTED {
        assert!(
            titles.iter().any(|title| title.contains(wanted)),
            "{DASHBOARD} has no panel on {wanted}: {titles:?}"
        );
    }
    let told = figures_told();
    let unknown: Vec<_> = asked.iter().filter(|figure| !told.contains(*figure)).collect();
    assert!(unknown.is_empty(), "nobody tells {unknown:?}");
    let folder = batoff_tests::scratch();
    let file = folder.path().join("dashboard.yml");
    std::fs::write(&file, rules).unwrap();
    let (fine, said) = tool("promtool", &["check", "rules", file.to_str().unwrap()]);
    assert!(fine, "{said}");
}

/// The figures of ours that a query names, without what Prometheus adds to those of a histogram.
fn figures_in(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '_' && !c.is_ascii_digit());
    words.filter(|word| word.starts_with("batoff_")).map(|word| {
        let ends = ["_bucket", "_count", "_sum"].iter().find_map(|end| word.strip_suffix(end));
        ends.unwrap_or(word).to_owned()
    })
}

/// All that stand in the programs' sources.
fn figures_told() -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    let mut folders = vec![root().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                told.extend(figures_in(&std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    told
}

#[test]
fn each_alert_has_its_paragraph_in_the_runbook() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let (rules, runbook) = (read(RULES), read("deploy/runbook.md"));
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(runbook.contains(&format!("**{alert}**")), "deploy/runbook.md says nothing of {alert}");
    }
}
