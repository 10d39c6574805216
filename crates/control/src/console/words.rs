//! How things are called, in each of our languages, side by side: a word without a translation does not compile.

use crate::language::Language;

/// Something that can be said in each language.
pub trait Words: Copy {
    /// In that language.
    fn of(self, language: Language) -> &'static str;
}

impl<W: Words> Words for &W {
    fn of(self, language: Language) -> &'static str {
        (*self).of(language)
    }
}

/// An enum of words: `Key: "English", "Russian";`.
macro_rules! words {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($key:ident: $english:literal, $russian:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name {
            $(#[doc = $english] $key,)*
        }

        impl $crate::console::words::Words for $name {
            fn of(self, language: $crate::language::Language) -> &'static str {
                match (self, language) {
                    $(
                        (Self::$key, $crate::language::Language::English) => $english,
                        (Self::$key, $crate::language::Language::Russian) => $russian,
                    )*
                }
            }
        }
    };
}
pub(crate) use words;

words! {
    /// What stands around every page.
    pub enum Text {
        Product: "Batoff Purge", "Batoff Purge";
        Skip: "Skip to the content", "К содержанию";
        Sections: "Sections", "Разделы";
        Pages: "Pages", "Страницы";
        Settings: "Settings", "Настройки";
        Language: "Language", "Язык";
        Colours: "Colours", "Оформление";
        Auto: "Auto", "Авто";
        Light: "Light", "Светлое";
        Dark: "Dark", "Тёмное";
        SignOut: "Sign out", "Выйти";
        Account: "Account", "Учётная запись";
        Now: "Now", "Сейчас";
        Purges: "Purges", "Очистки";
        NewPurge: "New purge", "Новая очистка";
        Sites: "Sites", "Сайты";
        Nodes: "Nodes", "Узлы";
        Users: "Users", "Пользователи";
        Tokens: "API tokens", "Токены API";
        Sla: "SLA", "SLA";
        Audit: "Audit", "Аудит";
        Docs: "Docs", "Документация";
        RequestId: "Request ID", "Идентификатор запроса";
        Code: "Code", "Код";
        WhatNow: "What you can do", "Что можно сделать";
    }
}

/// A count with its noun, as grammar has it: `[one, other]` in English, `[one, few, many]` in Russian.
pub fn counted(language: Language, count: u64, english: [&str; 2], russian: [&str; 3]) -> String {
    let noun = match language {
        Language::English => english[usize::from(count != 1)],
        Language::Russian => match (count % 10, count % 100) {
            (1, rest) if rest != 11 => russian[0],
            (2..=4, rest) if !(12..=14).contains(&rest) => russian[1],
            _ => russian[2],
        },
    };
    format!("{} {noun}", grouped(count))
}

/// Digits in groups of three, parted by narrow spaces that do not break.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3 * 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) && digits.len() > 4 {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// An amount of memory, such as `3.2 MiB`.
pub fn memory(bytes: u64, language: Language) -> String {
    const UNITS: [[&str; 2]; 5] =
        [["B", "Б"], ["KiB", "КиБ"], ["MiB", "МиБ"], ["GiB", "ГиБ"], ["TiB", "ТиБ"]];
    let (mut amount, mut power) = (bytes as f64, 0);
    while amount >= 1_024.0 && power + 1 < UNITS.len() {
        amount /= 1_024.0;
        power += 1;
    }
    let places = usize::from(power > 0 && amount < 99.95);
    let number = format!("{amount:.places$}");
    match language {
        Language::English => format!("{number}\u{a0}{}", UNITS[power][0]),
        Language::Russian => format!("{}\u{a0}{}", number.replace('.', ","), UNITS[power][1]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_follow_their_number() {
        let russian = |count| counted(Language::Russian, count, ["", ""], ["узел", "узла", "узлов"]);
        let said: Vec<String> = [0, 1, 2, 5, 11, 12, 21, 104, 111].map(russian).into();
        assert_eq!(
            said,
            [
                "0 узлов",
                "1 узел",
                "2 узла",
                "5 узлов",
                "11 узлов",
                "12 узлов",
                "21 узел",
                "104 узла",
                "111 узлов"
            ]
        );
        let english = |count| counted(Language::English, count, ["node", "nodes"], [""; 3]);
        assert_eq!([0, 1, 2].map(english), ["0 nodes", "1 node", "2 nodes"]);
    }

    #[test]
    fn memory_has_its_unit_and_three_digits_at_most() {
        let said = |bytes| memory(bytes, Language::English).replace('\u{a0}', " ");
        assert_eq!(
            [0, 1_023, 1_536, 104_858_000, 5_368_709_120, u64::MAX].map(said),
            ["0 B", "1023 B", "1.5 KiB", "100 MiB", "5.0 GiB", "16777216 TiB"]
        );
        assert_eq!(memory(1_536, Language::Russian), "1,5\u{a0}КиБ");
    }

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!(
            [7, 1_234, 12_345, 1_234_567].map(grouped),
            ["7", "1234", "12\u{202f}345", "1\u{202f}234\u{202f}567"]
        );
    }
}
