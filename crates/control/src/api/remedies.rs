//! What somebody who was refused can do about it, code by code: a part of the description, and of the console's pages.

use super::problem::Code;
use crate::language::Language;

impl Code {
    /// What to do, in a sentence or two.
    pub const fn remedy(self, language: Language) -> &'static str {
        match language {
            Language::English => english(self),
            Language::Russian => russian(self),
        }
    }
}

const fn english(code: Code) -> &'static str {
    match code {
        Code::InvalidUrl => {
            "Nothing was purged. Each bad URL stands in errors: correct it, or have its hostname added to the site."
        }
        Code::InvalidTag => {
            "Nothing was purged. A tag is 1 to 256 bytes of visible characters without a comma."
        }
        Code::InvalidRequest => {
            "Nothing was done. errors names the member or parameter: correct it; unknown ones are refused so that a \
             misspelt one does not pass for none."
        }
        Code::TooManyItems => {
            "Nothing was purged. Split it: at most 200 items a request, 60 of them prefixes, hosts and everything. \
             The batoff command splits by itself."
        }
        Code::BadSignature => {
            "Compare the lines that you signed with those in detail. If the timestamp is meant, set the clock: the \
             server's time is in Date."
        }
        Code::InvalidToken => {
            "Send Authorization: Bearer with a whole token. If it was revoked or has ended, issue another one in \
             API → Tokens."
        }
        Code::ScopeDenied => {
            "Use a token of this site, with the scope purge to submit; or check the site's name in the path."
        }
        Code::NotFound => "Check the path and the task's id. Tasks are kept for 30 days.",
        Code::MethodNotAllowed => "Use one of the methods in Allow.",
        Code::TooManyObjects => {
            "Nothing was purged. Look with a dry run at what it would hit; narrow it, or raise max_objects."
        }
        Code::BodyTooLarge => "Nothing was done. A body is at most 1 MiB: split it.",
        Code::UnsupportedMediaType => {
            "Nothing was done. Send Content-Type: application/json, and the body uncompressed."
        }
        Code::IdempotencyKeyReused => {
            "Nothing was purged. One key is for one purge: take another key for another body."
        }
        Code::RateLimited => {
            "Nothing was done. Wait for Retry-After seconds; RateLimit says what is left. A tag takes the place of many \
             URLs."
        }
        Code::CountUnavailable => {
            "Nothing was purged. Try again after Retry-After, or send it without max_objects: detail names the nodes \
             that cannot count."
        }
        Code::Unavailable => "Nothing was done. Try again after Retry-After.",
        Code::OutcomeUnknown => {
            "Send the same bytes again, or the same Idempotency-Key, after Retry-After: it is then done once. A purge \
             that happens twice does no harm."
        }
    }
}

const fn russian(code: Code) -> &'static str {
    match code {
        Code::InvalidUrl => {
            "Ничего не очищено. Каждый неверный URL назван в errors: исправьте его или добавьте его хост к сайту."
        }
        Code::InvalidTag => "Ничего не очищено. Тег — от 1 до 256 байт видимых символов без запятой.",
        Code::InvalidRequest => {
            "Ничего не сделано. В errors назван элемент или параметр: исправьте его. Неизвестные отклоняются, чтобы \
             опечатка не осталась незамеченной."
        }
        Code::TooManyItems => {
            "Ничего не очищено. Разделите запрос: не более 200 элементов, из них не более 60 префиксов, хостов и \
             everything. Команда batoff делит сама."
        }
        Code::BadSignature => {
            "Сравните подписанные строки с теми, что названы в detail. Если дело во времени, поправьте часы: время \
             сервера — в Date."
        }
        Code::InvalidToken => {
            "Пришлите Authorization: Bearer с полным токеном. Если он отозван или истёк, выпустите новый в разделе \
             «API → Токены»."
        }
        Code::ScopeDenied => {
            "Возьмите токен этого сайта, для очистки — с правом purge; проверьте имя сайта в пути."
        }
        Code::NotFound => "Проверьте путь и номер задачи. Задачи хранятся 30 дней.",
        Code::MethodNotAllowed => "Возьмите один из методов, названных в Allow.",
        Code::TooManyObjects => {
            "Ничего не очищено. Посмотрите пробным запуском, что будет затронуто; сузьте запрос или увеличьте max_objects."
        }
        Code::BodyTooLarge => "Ничего не сделано. Тело — не более 1 МиБ: разделите запрос.",
        Code::UnsupportedMediaType => {
            "Ничего не сделано. Пришлите Content-Type: application/json и тело без сжатия."
        }
        Code::IdempotencyKeyReused => {
            "Ничего не очищено. Один ключ — одна очистка: для другого тела возьмите другой ключ."
        }
        Code::RateLimited => {
            "Ничего не сделано. Подождите Retry-After секунд; сколько осталось, сказано в RateLimit. Один тег заменяет \
             много URL."
        }
        Code::CountUnavailable => {
            "Ничего не очищено. Повторите через Retry-After или пришлите запрос без max_objects: в detail названы узлы, \
             которые не могут посчитать."
        }
        Code::Unavailable => "Ничего не сделано. Повторите через Retry-After.",
        Code::OutcomeUnknown => {
            "Пришлите те же байты или тот же Idempotency-Key через Retry-After: это будет сделано один раз. Повторная \
             очистка не вредит."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_refused_is_told_what_to_do_in_both_languages() {
        for code in Code::ALL {
            let [english, russian] =
                [Language::English, Language::Russian].map(|language| code.remedy(language));
            assert!(english.ends_with('.') && russian.ends_with('.'), "{code:?}");
            assert_ne!(english, russian);
            // Whether anything was done is the first thing that a script's author wants to know.
            assert_eq!(english.contains("Nothing was"), russian.contains("Ничего не"), "{code:?}");
        }
    }
}
