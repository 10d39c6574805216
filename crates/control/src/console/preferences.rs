//! Which language and which colours a viewer wants: two cookies, good without an account too, as on the page where one signs
//! in.

use http::HeaderMap;
use http::header::COOKIE;

/// The cookie with the language's tag.
pub const LANGUAGE_COOKIE: &str = "batoff-language";

/// The cookie with the name of the colours.
pub const COLOURS_COOKIE: &str = "batoff-colours";

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

#[cfg(test)]
mod tests {
    use super::*;

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
