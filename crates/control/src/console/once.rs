//! Forms that may be sent once, for what they make shows a secret once: a page that is loaded again sends its form again.

use std::future::Future;
use std::time::Duration;

use batoff_log::{CasError, Expect, Key, Write};
use sha2::{Digest, Sha256};
use ulid::Ulid;

use super::frame::PageFrame;
use super::guard::not_allowed;
use super::state::Console;
use crate::api::problem::{Code, Problem, store_error};
use crate::store::rows;

/// A form is recognised for so long; its page is not kept by anybody for as long.
const FORM_KEPT: Duration = Duration::from_secs(24 * 3_600);

/// Under this prefix are the forms that were sent: `console/forms/<SHA-256 of account and key>`.
const FORMS: &str = "console/forms/";

/// The key of a form that is about to be shown.
pub(super) fn new_key() -> String {
    Ulid::generate().to_string()
}

/// Does what a form with this key is for, unless it was sent before. If nothing was done it may be sent again, corrected.
pub(super) async fn once<T>(
    console: &Console,
    frame: &PageFrame,
    key: &str,
    making: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    let viewer = frame.viewer.as_ref().ok_or_else(not_allowed)?;
    if Ulid::from_string(key).is_err() {
        let detail = "the form has no key of its own, so it cannot be told whether it was sent before; nothing was done";
        return Err(Problem::detailed(Code::InvalidRequest, detail));
    }
    // With the account's name: nobody can use up another's form.
    let hash = Sha256::digest(format!("{} {key}", viewer.name));
    let row = Key::from(format!("{FORMS}{}", hex::encode(hash)));
    let kv = console.services.store.kv();
    let write = Write::Put { value: vec![1].into(), ttl: Some(FORM_KEPT) };
    match kv.cas(&row, Expect::Absent, write).await {
        Ok(_) => {}
        Err(CasError::Conflict(_)) => return Err(sent_before()),
        Err(CasError::Store(error)) => return Err(store_error(error)),
    }
    let made = making.await;
    if made.as_ref().is_err_and(|problem| problem.code != Code::OutcomeUnknown)
        && let Err(error) = rows::delete(kv, &row).await
    {
        tracing::warn!(%error, "a form that came to nothing cannot be sent again; its page can be opened anew");
    }
    made
}

fn sent_before() -> Problem {
    let detail = "what this form makes was made when it was sent first, and its secret was shown then; it is not shown \
                  again. If it was not copied, revoke or reset what was made, and make another";
    Problem {
        title: Some(["This form was sent before", "Эта форма уже отправлена"]),
        ..Problem::detailed(Code::IdempotencyKeyReused, detail)
    }
}
