//! The same purge as a command and as curl: what somebody pastes into a script.

use std::fmt::Write;

use batoff_types::{Selector, SiteId};

/// Items that are written out; the rest would be a command line that no shell takes.
const ITEMS_MAX: usize = 200;

/// For the command line tool.
pub fn cli_line(site: &SiteId, selectors: &[Selector], soft: bool) -> String {
    let mut line = format!("batoff purge --site {site}");
    for selector in selectors.iter().take(ITEMS_MAX) {
        let _ = match selector {
            Selector::Url(url) => write!(line, " \\\n  --url {}", word(url.as_str())),
            Selector::Prefix(prefix) => write!(line, " \\\n  --prefix {}", word(prefix.as_str())),
            Selector::Tag(tag) => write!(line, " \\\n  --tag {}", word(tag.as_str())),
            Selector::Host(host) => write!(line, " \\\n  --host {}", word(host.as_str())),
            Selector::Everything => write!(line, " --everything"),
        };
    }
    if soft {
        line.push_str(" --soft");
    }
    line.push_str(" --wait");
    line
}

/// For curl and openssl.
pub fn curl_lines(site: &SiteId, selectors: &[Selector], soft: bool) -> String {
    let body = word(&body_of(selectors, soft));
    format!(
        "API=https://purge.example.net TOKEN=bto_live_… SECRET=bts_live_…\n\n\
         BODY={body}\n\
         TARGET=/v1/sites/{site}/purge\n\
         TIME=$(date +%s.%N)\n\
         HASH=$(printf %s \"$BODY\" | openssl dgst -sha256 -r | cut -d' ' -f1)\n\
         SIGNATURE=$(printf '%s\\nPOST\\n%s\\n%s' \"$TIME\" \"$TARGET\" \"$HASH\" |\n\
         \x20           openssl dgst -sha256 -hmac \"$SECRET\" -r | cut -d' ' -f1)\n\
         curl -i \"$API$TARGET\" -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \\\n\
         \x20    -H \"X-Batoff-Timestamp: $TIME\" -H \"X-Batoff-Signature: sha256=$SIGNATURE\" -d \"$BODY\""
    )
}

/// The body of a submission.
fn body_of(selectors: &[Selector], soft: bool) -> String {
    let mut lists: [(&str, Vec<&str>); 4] =
        [("urls", vec![]), ("prefixes", vec![]), ("tags", vec![]), ("hosts", vec![])];
    let mut everything = false;
    for selector in selectors.iter().take(ITEMS_MAX) {
        let place = match selector {
            Selector::Url(_) => 0,
            Selector::Prefix(_) => 1,
            Selector::Tag(_) => 2,
            Selector::Host(_) => 3,
            Selector::Everything => {
                everything = true;
                continue;
            }
        };
        lists[place].1.push(selector.value());
    }
    // In the order of the API's description, which a map of JSON values does not keep.
    let lists = lists.into_iter().filter(|(_, values)| !values.is_empty());
    let lists = lists.map(|(name, values)| format!("\"{name}\":{}", serde_json::Value::from(values)));
    let flags = [("everything", everything), ("soft", soft)].into_iter().filter(|(_, is)| *is);
    let flags = flags.map(|(name, _)| format!("\"{name}\":true"));
    format!("{{{}}}", lists.chain(flags).collect::<Vec<_>>().join(","))
}

/// As one word of a POSIX shell.
fn word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:@%+,".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selectors() -> Vec<Selector> {
        vec![
            Selector::Url("https://www.example.com/a?b=1".parse().unwrap()),
            Selector::Tag("it's".parse().unwrap()),
            Selector::Tag("$(reboot)".parse().unwrap()),
        ]
    }

    #[test]
    fn nothing_that_a_customer_writes_is_more_than_a_word_to_the_shell() {
        let line = cli_line(&"shop".parse().unwrap(), &selectors(), true);
        assert_eq!(
            line,
            "batoff purge --site shop \\\n  --url 'https://www.example.com/a?b=1' \\\n  --tag 'it'\\''s' \\\n  \
             --tag '$(reboot)' --soft --wait"
        );
        let script = line.replacen("batoff", "printf '%s\\n'", 1);
        let ran = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        let echoed = String::from_utf8(ran.stdout).unwrap();
        assert!(echoed.lines().any(|word| word == "$(reboot)") && echoed.lines().any(|word| word == "it's"));
    }

    #[test]
    fn the_body_is_what_the_api_takes() {
        let body = body_of(&selectors(), true);
        assert_eq!(
            body,
            r#"{"urls":["https://www.example.com/a?b=1"],"tags":["it's","$(reboot)"],"soft":true}"#
        );
        assert_eq!(body_of(&[Selector::Everything], false), r#"{"everything":true}"#);
    }
}
