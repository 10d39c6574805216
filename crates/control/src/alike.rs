//! What every replica of the control plane must have alike, for whoever comes through a balancer: else one answers what
//! another refuses.
//!
//! | differs | then |
//! | --- | --- |
//! | the master key | signatures of one replica's tokens are refused by another: it does not start, and ends if it runs |
//! | the operator's token, what is signed, quotas, sessions, groups, retention | it is told: all of these are changed one replica after the other |
//!
//! Replicas tell one another no setting, but a mark of it that only who has the master key can make: nobody who reads the
//! store finds a token by trying.

use std::time::Duration;

use batoff_log::Kv;
use batoff_types::LogId;

use crate::config::{Config, ConsoleProxyConfig, GroupRole, RetentionConfig};
use crate::init::{self, Secrets};
use crate::tracker::{MASTER_KEY, SettingMarks};

/// How often it is looked whether the master key is still the store's.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The marks of this process's settings beside this log.
pub(crate) fn marks(config: &Config, secrets: &Secrets, log: LogId) -> SettingMarks {
    let mark = |name: &str, value: &[u8]| {
        let told = [name.as_bytes(), b"\0", value].concat();
        (name.to_owned(), secrets.master.mark(log.to_string().as_bytes(), &told))
    };
    let number = |name: &str, value: u64| mark(name, value.to_string().as_bytes());
    let master = (MASTER_KEY.to_owned(), secrets.master.fingerprint());
    SettingMarks::from([
        master,
        mark(init::ADMIN_TOKEN_FILE, &secrets.admin_token),
        mark("api.public_prefix", config.api.public_prefix.as_bytes()),
        number("api.clock_skew_seconds", config.api.clock_skew_seconds),
        number("limits.items_per_minute", config.limits.items_per_minute.into()),
        number("limits.prefixes_per_minute", config.limits.prefixes_per_minute.into()),
        number("console.session_idle_minutes", config.console.session_idle_minutes),
        number("console.session_hours", config.console.session_hours),
        mark("console.proxy", config.console.proxy.as_ref().map(believed).unwrap_or_default().as_bytes()),
        mark("retention", kept(&config.retention).as_bytes()),
    ])
}

/// Whom the proxy in front of the console may name, and what they may do then: not where its authority's file lies.
fn believed(proxy: &ConsoleProxyConfig) -> String {
    let ConsoleProxyConfig { name, required, user_header, groups_header, groups_separator, groups, .. } =
        proxy;
    let mut text = format!("{name}\n{required}\n{user_header}\n{groups_header}\n{groups_separator:?}\n");
    for group in groups {
        let role = match group.role {
            GroupRole::Operator => "operator",
            GroupRole::Manager => "manager",
            GroupRole::Member => "member",
            GroupRole::Viewer => "viewer",
        };
        let sites: Vec<&str> = group.sites.iter().map(|site| site.as_str()).collect();
        text.push_str(&format!("{:?} {role} {}\n", group.group, sites.join(" ")));
    }
    text
}

/// Whichever replica has its turn drops what its own says.
fn kept(retention: &RetentionConfig) -> String {
    let RetentionConfig { log_hours, log_bytes, task_days, audit_days, audit_bytes } = retention;
    format!("{log_hours} {log_bytes} {task_days} {audit_days} {audit_bytes}")
}

/// Returns once the store's tokens are issued with another master key than this one: another replica has been started with
/// a new one, and what is signed with it would be refused here.
pub(crate) async fn outlived(fingerprint: &str, kv: &dyn Kv) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        match init::known_fingerprint(kv).await {
            Ok(Some(known)) if known != fingerprint => {
                tracing::error!(
                    expected = known,
                    found = fingerprint,
                    "master.key is not the key any more that the tokens in this store are issued with, for another control \
                     plane was started with --new-master-key; copy its master.key into this one's data folder and start it \
                     again"
                );
                return;
            }
            // A store that does not answer says nothing of keys.
            Ok(_) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::MasterKey;

    fn told(change: impl Fn(&mut Config, &mut Secrets), log: LogId) -> SettingMarks {
        let text = "[data]\ndir = '/nowhere'\n[grpc]\nplaintext = true\n";
        let mut config = Config::parse(text, std::iter::empty()).unwrap();
        let mut secrets = Secrets { master: MasterKey::new([7; 32]), admin_token: [1; 32] };
        change(&mut config, &mut secrets);
        marks(&config, &secrets, log)
    }

    #[test]
    fn each_setting_has_a_mark_of_its_own_which_says_nothing_without_the_key() {
        let log: LogId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let own = told(|_, _| {}, log);
        let check = |differs: &[&str], change: fn(&mut Config, &mut Secrets)| {
            assert_eq!(own.apart_from(&told(change, log)), differs);
        };
        check(&[], |config, _| config.data.dir = "/elsewhere".into());
        check(&[init::ADMIN_TOKEN_FILE], |_, secrets| secrets.admin_token = [2; 32]);
        check(&["api.public_prefix"], |config, _| config.api.public_prefix = "/purge".into());
        check(&["api.clock_skew_seconds"], |config, _| config.api.clock_skew_seconds = 60);
        check(&["limits.items_per_minute"], |config, _| config.limits.items_per_minute = 1);
        check(&["limits.prefixes_per_minute"], |config, _| config.limits.prefixes_per_minute = 1);
        check(&["console.session_idle_minutes"], |config, _| config.console.session_idle_minutes = 5);
        check(&["console.session_hours"], |config, _| config.console.session_hours = 1);
        check(&["retention"], |config, _| config.retention.audit_bytes = 1);
        // With another key every mark is another; then it is the key that differs.
        check(&[MASTER_KEY], |_, secrets| secrets.master = MasterKey::new([8; 32]));

        let other_log = told(|_, _| {}, "01ARZ3NDEKTSV4RRFFQ69G5FAW".parse().unwrap());
        assert_ne!(own.get(init::ADMIN_TOKEN_FILE), other_log.get(init::ADMIN_TOKEN_FILE));
        let known = [(MASTER_KEY.to_owned(), MasterKey::new([7; 32]).fingerprint())];
        assert_eq!(own.apart_from(&known.into()), [""; 0], "an older one tells less");
        assert_eq!(MASTER_KEY, init::MASTER_KEY_FILE);
    }
}
