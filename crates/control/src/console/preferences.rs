//! Which language and which colours a viewer wants: two cookies, good without an account too, as on the page where one signs
//! in. The language is kept with the account as well.

use std::sync::Arc;

use axum::Form;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use http::HeaderMap;
use http::header::{COOKIE, SET_COOKIE};
use serde::Deserialize;

use super::frame::PageFrame;
use super::state::Console;
use crate::api::problem::{Code, Problem, store_error};
use crate::language::Language;

/// The cookie with the language's tag.
pub const LANGUAGE_COOKIE: &str = "batoff-language";

/// The cookie with the name of the colours.
pub const COLOURS_COOKIE: &str = "batoff-colours";

/// A choice is remembered for a year.
const REMEMBERED_SECS: u32 = 31_536_000;

/// Light or dark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colours {
    /// As the system has it.
    #[default]
    Auto,
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

impl Colours {
    /// All, in the order of the switch.
    const ALL: [Self; 3] = [Self::Auto, Self::Light, Self::Dark];

    /// As the cookie and the page's root have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    /// Of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|colours| colours.as_str() == name)
    }
}

/// The value of the first cookie of that name.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
}

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

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "a=1; batoff-language=ru".parse().unwrap());
        headers.append(COOKIE, "b=2".parse().unwrap());
        assert_eq!(cookie(&headers, LANGUAGE_COOKIE), Some("ru"));
        assert_eq!(cookie(&headers, "b"), Some("2"));
        assert_eq!(cookie(&headers, "language"), None);
    }
}
