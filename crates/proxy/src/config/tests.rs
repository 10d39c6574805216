use std::path::Path;

use batoff_program::config::load_str;

use super::*;

const REST: &str = "
    [node]
    pop = 'fra1'
    node = 'edge-1'
    [control]
    endpoints = ['http://127.0.0.1:1']
    plaintext = true
    [state]
    dir = '/nowhere'
";

fn check(text: &str) -> Result<ProxyConfig, String> {
    let text = format!("{REST}{text}");
    load_str(&text, Path::new("proxy.toml"), []).map_err(|error| error.to_string())
}

#[test]
fn the_shipped_file_is_a_configuration_and_so_is_each_of_its_hints() {
    let shipped = include_str!("../../../../deploy/proxy.toml");
    let parse = |text: &str| load_str::<ProxyConfig>(text, Path::new("proxy.toml"), []);
    let plain = parse(shipped).unwrap();
    assert!(plain.shield.is_none() && !plain.proxy.origin_is_parent && plain.proxy.origins.is_empty());
    let hints: Vec<String> = shipped
        .lines()
        .map(|line| {
            let hint = line.strip_prefix("# ").unwrap_or(line);
            let is_hint =
                hint.starts_with('[') || hint.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
            if is_hint { hint.to_owned() } else { line.to_owned() }
        })
        .collect();
    let hinted = parse(&hints.join("\n")).unwrap();
    assert_eq!((hinted.proxy.origins.len(), hinted.shield.unwrap().children.len()), (1, 2));
}

#[test]
fn a_parent_is_said_of_an_origin_that_is_there() {
    let config = check("[proxy]\norigin = 'http://10.0.0.1'\norigin_is_parent = true").unwrap();
    assert!(config.proxy.origins().is_ok());
    let one = "[[proxy.origins]]\nhost = 'a.test'\nurl = 'http://10.0.0.1'\nparent = true";
    assert!(check(one).unwrap().proxy.origins[0].parent);
    let error = check(&format!("[proxy]\norigin_is_parent = true\n{one}")).unwrap_err();
    assert!(error.contains("proxy.origin, which is missing") && error.contains("parent = true"), "{error}");
    for (text, says) in [
        ("[proxy]\norigin = 'http://127.0.0.1:8090'", "this proxy itself"),
        ("[proxy]\norigin = 'http://o.test'\nparent = true", "unknown field"),
        ("[[proxy.origins]]\nhost = 'a.test'\nurl = 'http://127.0.0.1:8090'", "this proxy itself"),
    ] {
        let error = check(text).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn children_are_named() {
    let with = |shield: &str| check(&format!("[proxy]\norigin = 'http://o.test'\n[shield]\n{shield}"));
    assert!(with("children = ['10.0.0.0/8', '::1']").unwrap().children().is_ok());
    for (shield, says) in [
        ("", "missing field `children`"),
        ("children = []", "names nobody"),
        ("children = ['0.0.0.0/0']", "everybody"),
        ("children = ['node-7']", "not an address"),
        ("children = ['::1']\nsecret = 'x'", "unknown field"),
    ] {
        let error = with(shield).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}
