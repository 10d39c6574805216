//! `/language` and `/colours`: the switches that stand on every page. The language is kept with the account as well.

use std::sync::Arc;

use axum::Form;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use http::header::SET_COOKIE;
use serde::Deserialize;

use crate::api::problem::{Code, Problem, store_error};
use crate::console::frame::PageFrame;
use crate::console::preferences::{COLOURS_COOKIE, Colours, LANGUAGE_COOKIE};
use crate::console::state::Console;
use crate::language::Language;

/// A choice is remembered for a year.
const REMEMBERED_SECS: u32 = 31_536_000;

/// The form of either switch.
#[derive(Debug, Deserialize)]
pub struct Choice {
    /// What was chosen.
    to: String,
    /// The page to go back to.
    #[serde(default)]
    back: String,
}

/// `POST /language`
pub async fn language(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    Form(choice): Form<Choice>,
) -> Result<Response, Problem> {
    let language = Language::from_tag(&choice.to).ok_or_else(|| no_such_choice(&choice.to))?;
    if let Some(viewer) = &frame.viewer {
        console.services.accounts.set_language(viewer, Some(language)).await.map_err(store_error)?;
    }
    Ok(chosen(LANGUAGE_COOKIE, language.tag(), &choice.back))
}

/// `POST /colours`
pub async fn colours(Form(choice): Form<Choice>) -> Result<Response, Problem> {
    let colours = Colours::from_name(&choice.to).ok_or_else(|| no_such_choice(&choice.to))?;
    Ok(chosen(COLOURS_COOKIE, colours.as_str(), &choice.back))
}

fn no_such_choice(to: &str) -> Problem {
    Problem::detailed(Code::InvalidRequest, format!("there is no such choice: {to}"))
}

fn chosen(cookie: &str, value: &str, back: &str) -> Response {
    let cookie = format!("{cookie}={value}; Path=/; Max-Age={REMEMBERED_SECS}; SameSite=Lax; HttpOnly");
    ([(SET_COOKIE, cookie)], Redirect::to(own_path(back))).into_response()
}

/// A path of ours; anything that would lead elsewhere leads to the beginning.
pub fn own_path(path: &str) -> &str {
    let safe = path.starts_with('/')
        && !path.starts_with("//")
        && !path.contains('\\')
        && path.bytes().all(|b| b.is_ascii_graphic());
    if safe { path } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_away() {
        assert_eq!(own_path("/purges?state=partial"), "/purges?state=partial");
        for path in
            ["", "purges", "//evil.example", "/\\evil.example", "https://evil.example/", "/a\r\nb", "/a b"]
        {
            assert_eq!(own_path(path), "/", "{path:?}");
        }
    }
}
