//! A message that a page leaves for the next one: after a form was sent, the browser is led to a page, which says once what
//! was done. It travels in a cookie, by its name and one word, so nothing that a cookie says is shown as it is written.

use axum::response::{IntoResponse, Redirect, Response};
use http::header::SET_COOKIE;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::language::Language;

/// The cookie.
pub const FLASH_COOKIE: &str = "batoff-flash";

/// A message waits so long for its page.
const KEPT_SECS: u32 = 60;

/// Bytes of the word that a message is about.
const WORD_BYTES_MAX: usize = 128;

/// The messages, each with the word that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flash {
    /// A purge was accepted.
    Purged,
    /// A token was revoked.
    Revoked,
    /// Settings were changed.
    Saved,
    /// A node was decommissioned.
    Decommissioned,
    /// A node was admitted again.
    Admitted,
    /// A user was removed.
    UserRemoved,
}

/// All of them, with their names in the cookie.
const ALL: [(Flash, &str); 6] = [
    (Flash::Purged, "purged"),
    (Flash::Revoked, "revoked"),
    (Flash::Saved, "saved"),
    (Flash::Decommissioned, "decommissioned"),
    (Flash::Admitted, "admitted"),
    (Flash::UserRemoved, "user-removed"),
];

impl Flash {
    /// What it says.
    pub fn text(&self, language: Language) -> String {
        let text = match (self, language) {
            (Self::Purged, Language::English) => "The purge is durable and on its way to every node.",
            (Self::Purged, Language::Russian) => "Очистка записана и отправляется на все узлы.",
            (Self::Revoked, Language::English) => {
                "The token is revoked. Its requests are refused from now on, on every control plane within a second."
            }
            (Self::Revoked, Language::Russian) => {
                "Токен отозван. Его запросы отклоняются с этого момента, на каждом сервере — в течение секунды."
            }
            (Self::Decommissioned, Language::English) => {
                "The node is decommissioned, and its name is blocked."
            }
            (Self::Decommissioned, Language::Russian) => "Узел выведен, его имя заблокировано.",
            (Self::Admitted, Language::English) => "The node's name may connect again.",
            (Self::Admitted, Language::Russian) => "Узел с этим именем снова может подключиться.",
            (Self::UserRemoved, Language::English) => "The user is removed, and signed out everywhere.",
            (Self::UserRemoved, Language::Russian) => "Пользователь удалён, его сеансы завершены.",
            (Self::Saved, Language::English) => "Saved.",
            (Self::Saved, Language::Russian) => "Сохранено.",
        };
        text.to_owned()
    }

    /// To that page, with the message.
    pub fn lead_to(&self, path: &str) -> Response {
        let value = utf8_percent_encode(self.encode(), NON_ALPHANUMERIC).to_string();
        let cookie = format!("{FLASH_COOKIE}={value}; Path=/; Max-Age={KEPT_SECS}; SameSite=Lax; HttpOnly");
        ([(SET_COOKIE, cookie)], Redirect::to(path)).into_response()
    }

    fn encode(&self) -> &'static str {
        ALL.iter().find(|(flash, _)| flash == self).map_or("", |(_, name)| name)
    }

    /// As a cookie has it.
    pub fn decode(value: &str) -> Option<Self> {
        let text =
            percent_decode_str(value).decode_utf8().ok().filter(|text| text.len() <= WORD_BYTES_MAX)?;
        ALL.iter().find(|(_, name)| *name == text).map(|(flash, _)| flash.clone())
    }

    /// Takes it out of the browser.
    pub fn gone() -> String {
        format!("{FLASH_COOKIE}=; Path=/; Max-Age=0; SameSite=Lax; HttpOnly")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_through_a_cookie() {
        for (flash, _) in ALL {
            let value = utf8_percent_encode(flash.encode(), NON_ALPHANUMERIC).to_string();
            assert_eq!(Flash::decode(&value), Some(flash));
        }
        assert_eq!(Flash::decode("%3Cb%3Epurged"), None);
        assert_eq!(Flash::decode(""), None);
    }
}
