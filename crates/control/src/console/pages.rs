//! The pages. Each takes a [`PageFrame`](super::frame::PageFrame) and answers a whole page, or, asked by a script, a part of it.

pub mod choices;
pub mod new_purge;
pub mod purge;
mod purge_form;
pub mod purge_row;
pub mod purges;
pub mod requesters;
mod sites_list;
mod strip;
mod submission_lines;

use axum::response::Redirect;

/// `GET /`
pub async fn beginning() -> Redirect {
    Redirect::to("/purges")
}
