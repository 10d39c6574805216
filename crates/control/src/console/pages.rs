//! The pages. Each takes a [`PageFrame`](super::frame::PageFrame) and answers a whole page, or, asked by a script, a part of it.

mod purge_row;
pub mod purges;
mod requesters;
mod sites_list;

use axum::response::Redirect;

/// `GET /`
pub async fn beginning() -> Redirect {
    Redirect::to("/purges")
}
