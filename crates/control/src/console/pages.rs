//! The pages. Each takes a [`PageFrame`] and answers a whole page, or, asked by a script, a part of it.

pub mod account;
pub mod audit;
pub mod choices;
pub mod docs;
mod map;
pub mod new_purge;
pub mod nodes;
pub mod now;
pub mod purge;
mod purge_form;
pub mod purge_row;
pub mod purges;
mod qr;
pub mod requesters;
pub mod sign_in;
pub mod sites;
mod sites_list;
pub mod sla;
mod strip;
mod submission_lines;
pub mod tokens;
pub mod users;

use axum::response::Redirect;

use super::frame::PageFrame;
use crate::accounts::Need;

/// `GET /`: how all is, for whom that is to be looked after; for others, their purges.
pub async fn beginning(frame: PageFrame) -> Redirect {
    let operates = frame.viewer.is_some_and(|viewer| viewer.may(Need::Operate, None));
    Redirect::to(if operates { "/now" } else { "/purges" })
}
