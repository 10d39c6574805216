//! Who signs in to the console, and what may he do there?
//!
//! | module | answers |
//! | --- | --- |
//! | `account` | What is an account? Name, role, sites |
//! | `viewer` | What may somebody do who is signed in? |
//! | `sign_in` | Is it he? |
//! | `signed_in` | Who is signed in, and until when? |
//! | `password` | Which passwords are good enough, and how are they hashed? |
//! | `totp` | Has he the authenticator, too? |
//! | `throttle` | How often may one fail? |
//! | `by_proxy` | Is it he, when a proxy signs people in? |
//! | `proxied` | Who is here by its word? |
//! | `cookie` | What does a browser keep? |
//! | `session` | How long does a session last? |
//! | `refusals` | Which refused sign-ins does the audit log list? |
//! | `own_account` | What may one change of one's own account? |
//! | `administration` | Who has an account? |
//! | `table`, `row` | What does the store hold? |
//!
//! Accounts and sessions are small records beside the log. They are read anew for each request: a session ends with the
//! account's role, password or the account itself, on every replica and at once. **Invariants, by what is absent:** no
//! password, no code and no session's secret is stored, logged or shown a second time, only hashes are; and nothing here
//! knows a page or a route.

mod account;
mod administration;
mod by_proxy;
mod cookie;
mod own_account;
mod password;
mod proxied;
mod refusals;
mod row;
mod session;
mod sign_in;
mod signed_in;
mod table;
mod throttle;
mod totp;
mod viewer;

#[cfg(test)]
mod tests;

pub use self::account::{Account, AccountName, BadAccountName, NAME_BYTES_MAX, Role, SITES_MAX, SignIn};
pub use self::administration::{ACCOUNTS_MAX, AccountChange, AccountError, AddedAccount, NewAccount};
pub use self::by_proxy::ProxiedRefused;
pub use self::cookie::{COOKIE, PLAIN_COOKIE, SessionId, clear_cookie, cookie_name, cookie_value};
pub use self::own_account::OwnAccountRefused;
pub use self::password::{
    PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN, WeakPassword, one_time as one_time_password,
};
pub use self::session::{NewSession, SessionReport, SessionTimes};
pub use self::sign_in::SignInRefused;
pub use self::signed_in::{Accounts, SESSIONS_PER_ACCOUNT_MAX};
pub use self::totp::{RECOVERY_CODES, TotpOffer};
pub use self::viewer::{Grant, Need, Viewer};
