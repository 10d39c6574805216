//! The thread that takes away the names of what is spoiled.

use std::sync::Arc;
use std::time::Duration;

use super::register::Register;
use super::watch::Watch;

/// Between two tries when the directory cannot be changed.
const PAUSE: Duration = Duration::from_secs(1);

/// Unlinks what is spoiled, until `is_over`.
pub(super) fn run(register: &Arc<Register>, watch: &Watch, is_over: impl Fn() -> bool) {
    let mut said = false;
    while !is_over() {
        let mut files = register.spoiled.take().into_iter();
        let many = files.len();
        while let Some(name) = files.next() {
            let Err(error) = register.files.remove_spoiled(name) else {
                said = false;
                continue;
            };
            if !said {
                tracing::warn!(file = %name, %error, "what was purged cannot be unlinked; tried again. It is not served");
                said = true;
            }
            register.spoiled.add(name);
            files.by_ref().for_each(|name| register.spoiled.add(name));
            std::thread::sleep(PAUSE);
        }
        if many > 0 {
            // An error: the thread that hears has ended with the daemon.
            let _ = watch.catch_up().blocking_recv();
        }
    }
}
