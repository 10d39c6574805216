//! What the command says, in Russian, where the user's locale is Russian.
//!
//! Sentences are written once, in English, where they are said; they are put into Russian on their way to the terminal, by
//! this catalogue. What is not in it stays English. JSON is for programs and is never touched; what the API says comes in
//! Russian from there, because we ask for it. Help texts are English.

mod figures;
mod help;

use std::borrow::Cow;
use std::ffi::OsString;
use std::sync::OnceLock;

use self::figures::FIGURES;
use self::help::HELP;

/// Whether the locale is Russian, as the C library would read it: the first of these that is set counts.
pub fn is_spoken() -> bool {
    static SPOKEN: OnceLock<bool> = OnceLock::new();
    *SPOKEN.get_or_init(|| is_spoken_in(|name| std::env::var_os(name)))
}

fn is_spoken_in(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let set = ["LC_ALL", "LC_MESSAGES", "LANG"]
        .into_iter()
        .find_map(|name| variable(name).filter(|v| !v.is_empty()));
    let Some(locale) = set.and_then(|locale| locale.into_string().ok()) else { return false };
    let language = locale.split(['_', '.', '@', '-']).next().unwrap_or_default();
    language.eq_ignore_ascii_case("ru")
}

/// The text for this user: line by line, with the indentation kept.
pub fn tell(text: &str) -> Cow<'_, str> {
    if is_spoken() { in_russian(text).into() } else { text.into() }
}

/// The same in Russian, whoever asks.
pub fn in_russian(text: &str) -> String {
    let line = |line: &str| {
        let inside = line.trim_start();
        let indentation = &line[..line.len() - inside.len()];
        format!("{indentation}{}", translated(inside).unwrap_or_else(|| inside.to_owned()))
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

fn translated(text: &str) -> Option<String> {
    HELP.iter().chain(FIGURES).chain(&CATALOGUE).find_map(|(english, russian)| {
        let holes = holes(text, english)?;
        let mut parts = russian.split("{}");
        let mut whole = parts.next().unwrap_or_default().to_owned();
        for (part, hole) in parts.zip(holes) {
            whole.push_str(&translated(hole).unwrap_or_else(|| hole.to_owned()));
            whole.push_str(part);
        }
        Some(whole)
    })
}

/// What stands in the template's holes, if the text is one of its kind.
fn holes<'a>(text: &'a str, template: &str) -> Option<Vec<&'a str>> {
    let mut parts = template.split("{}");
    let mut rest = text.strip_prefix(parts.next()?)?;
    let mut holes = Vec::new();
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty().then_some(holes);
    }
    while let Some(part) = parts.next() {
        let (hole, after) = match parts.peek() {
            None => (rest.strip_suffix(part)?, ""),
            Some(_) => rest.split_once(part)?,
        };
        holes.push(hole);
        rest = after;
    }
    Some(holes)
}

/// The more exact ones first.
const CATALOGUE: [(&str, &str); 179] = [
    // Settings
    (
        "which {}? Give {}, set {}, or write {} in {}",
        "не указано: {}. Задайте {}, переменную {} или строку {} в файле {}",
    ),
    ("signing secret", "секрет подписи"),
    ("admin token", "токен оператора"),
    ("token", "токен"),
    ("site", "сайт"),
    ("{} has both {} and {}_file: which one? Take one away", "{}: заданы и {}, и {}_file; оставьте одно"),
    ("{} is empty in {}", "{}: пустое значение, место: {}"),
    ("the command line", "командная строка"),
    ("the environment", "переменные окружения"),
    ("{} is not UTF-8", "{}: не в UTF-8"),
    ("BATOFF_OUTPUT is {}: write human or json", "BATOFF_OUTPUT равно {}: напишите human или json"),
    (
        "a client certificate without its key: give --client-key, too",
        "сертификат клиента указан без ключа: добавьте --client-key",
    ),
    (
        "a client key without its certificate: give --client-cert, too",
        "ключ клиента указан без сертификата: добавьте --client-cert",
    ),
    (
        "batoff: warning: {} is not encrypted: the token crosses the network in the clear",
        "batoff: внимание: соединение с {} не шифруется: токен идёт по сети открыто",
    ),
    // Remedies
    (
        "check the token (--token-file, BATOFF_TOKEN); an operator issues a new one with `batoff tokens issue SITE`",
        "проверьте токен (--token-file, BATOFF_TOKEN); новый выпускает оператор: `batoff tokens issue SITE`",
    ),
    (
        "check the signing secret (--secret-file, BATOFF_SECRET; it belongs to the token) and this machine's clock",
        "проверьте секрет подписи (--secret-file, BATOFF_SECRET; он выдан вместе с токеном) и часы этой машины",
    ),
    (
        "check --site; a token is for one site, and purging needs the scope `purge`",
        "проверьте --site; токен действует для одного сайта, а для очистки нужно право `purge`",
    ),
    (
        "check the admin token (--admin-token-file, BATOFF_ADMIN_TOKEN): `batoff-control init` has written it to admin.token in the control plane's data folder",
        "проверьте токен оператора (--admin-token-file, BATOFF_ADMIN_TOKEN): `batoff-control init` записал его в admin.token в папке данных управляющего сервера",
    ),
    // What is to be purged
    (
        "nothing to purge: give --url, --prefix, --tag, --host, --file or --everything",
        "нечего очищать: укажите --url, --prefix, --tag, --host, --file или --everything",
    ),
    ("nothing was purged: {} bad item", "ничего не очищено: ошибочных элементов: {}"),
    ("nothing was purged: {} bad items", "ничего не очищено: ошибочных элементов: {}"),
    ("and {} more", "и ещё {}"),
    (
        "{}: the invisible character {} is in it: type the URL anew, or write the character percent-escaped if it is meant",
        "{}: внутри невидимый символ {}: наберите URL заново или запишите символ в процентной кодировке, если он нужен",
    ),
    (
        "{}: two URLs: write one URL a line, and give one to each --url",
        "{}: здесь два URL: пишите по одному на строку и по одному на каждый --url",
    ),
    (
        "{}: white space is in it: write {} if it is part of the URL; a comment begins with # behind white space",
        "{}: внутри пробел: запишите его как {}, если он часть URL; комментарий начинается с # после пробела",
    ),
    (
        "{}: a * at the end is an ordinary character, no pattern: purge the prefix without the * (--prefix), or write %2A if it is meant",
        "{}: звёздочка в конце — обычный символ, а не шаблон: очистите префикс без неё (--prefix) или напишите %2A, если она нужна",
    ),
    // On the way
    ("batoff: quota used up, going on in {} s", "batoff: квота исчерпана, продолжение через {} с"),
    ("accepted: {}", "принято: {}"),
    (
        "to go on: the same command with the same key; what was accepted is not purged again",
        "чтобы продолжить, повторите ту же команду с тем же ключом: принятое второй раз не очищается",
    ),
    ("to go on: {} (with the same flags)", "чтобы продолжить: {} (с теми же ключами командной строки)"),
    (
        "request {} of {} failed, {} was accepted, the rest was not sent: {}",
        "запрос {} из {} не выполнен, принято: {}, остальное не отправлено: {}",
    ),
    (
        "request {} of {} failed, {} were accepted, the rest was not sent: {}",
        "запрос {} из {} не выполнен, принято: {}, остальное не отправлено: {}",
    ),
    (
        "not completed after {} s: {} of {}, first {} ({}; {})",
        "не завершено за {} с: {} из {}, первая {} ({}; {})",
    ),
    ("{} of {} have not confirmed", "не подтвердили: {} из {}"),
    (
        "all nodes have confirmed, and that is being made durable",
        "все узлы подтвердили, это записывается на диск",
    ),
    (
        "{} on {} of {} would be purged; nothing was.",
        "было бы очищено: {}; узлы: {} из {}; ничего не очищено.",
    ),
    ("it is not known whether the purge was accepted: {}", "неизвестно, принята ли очистка: {}"),
    // Operators
    ("nothing was deleted", "ничего не удалено"),
    (
        "site {} owns {} and has {}, which will be revoked; everything cached for it is purged.",
        "сайту {} принадлежат {}; токены будут отозваны ({}); всё, что хранится в кэшах для него, будет очищено.",
    ),
    ("Type {} to delete it: ", "Чтобы удалить, наберите {}: "),
    (
        "site {} deleted: its tokens are revoked, and what was cached for it is being purged everywhere",
        "сайт {} удалён: его токены отозваны, всё, что хранилось для него в кэшах, очищается",
    ),
    (
        "token {} revoked: it is refused everywhere within a second",
        "токен {} отозван: в течение секунды он перестанет действовать везде",
    ),
    (
        "Token {}: keep both lines, they are not shown again.",
        "Токен {}: сохраните обе строки, второй раз они не показываются.",
    ),
    (
        "node {} removed: purges wait for it no longer, and its name is blocked",
        "узел {} удалён: очистки его больше не ждут, имя заблокировано",
    ),
    ("node {} may connect again", "узел {} может подключиться снова"),
    ("removed: {}", "удалены: {}"),
    (
        "a site owns at least one hostname: give --host www.example.com",
        "сайту нужно хотя бы одно имя: укажите --host www.example.com",
    ),
    ("nothing to change: give --host or a limit", "нечего менять: укажите --host или предел"),
    (
        "nothing to change: give --role, --for-site, --language, --disable or --enable",
        "нечего менять: укажите --role, --for-site, --language, --disable или --enable",
    ),
    ("Type {} to remove the user: ", "Чтобы удалить пользователя, наберите {}: "),
    ("nobody was removed", "никто не удалён"),
    ("user {} signs in with the password alone", "пользователь {} входит по одному паролю"),
    ("user {} is signed out everywhere", "все сеансы пользователя {} завершены"),
    (
        "user {} removed: all sessions end within a second",
        "пользователь {} удалён: его сеансы завершаются в течение секунды",
    ),
    (
        "One-time password of user {}: it is not shown again, and must be changed at the first sign-in.",
        "Одноразовый пароль пользователя {}: второй раз он не показывается, при первом входе его нужно сменить.",
    ),
    ("no users", "пользователей нет"),
    ("no purges", "очисток нет"),
    ("no sites", "сайтов нет"),
    (
        "objects of {} came with more tags than the site allows, or with malformed ones: every purge of a tag of the site \
         hits them. The nodes' logs name their URLs; raise --tags-per-response, or send fewer tags.",
        "объекты сайта {} пришли с бо́льшим числом тегов, чем сайту разрешено, или с неправильными тегами: их затрагивает \
         очистка по любому тегу сайта. URL указаны в журналах узлов; увеличьте --tags-per-response или отправляйте меньше \
         тегов.",
    ),
    ("no tokens", "токенов нет"),
    ("no nodes", "узлов нет"),
    ("no replicas", "управляющих серверов нет"),
    ("replicas {} count after record {}", "управляющие серверы {} считаются после записи {}"),
    ("replica {} counts already; nothing was written", "сервер {} уже считается; ничего не записано"),
    (
        "replica {} is not ready: it has not said lately that it has its seat. Start it, wait until `batoff replicas list` \
         calls it live, and repeat",
        "сервер {} не готов: он давно не сообщал, что занимает своё место. Запустите его, подождите, пока `batoff replicas \
         list` не покажет его на связи, и повторите",
    ),
    (
        "replica {} does not count now; nothing was written",
        "сервер {} сейчас не считается; ничего не записано",
    ),
    (
        "replica {} is the last one that counts: nothing would be completed without it",
        "сервер {} — последний, который считается: без него ничего не завершалось бы",
    ),
    (
        "the last change of the set is not completed yet: repeat when `batoff replicas status` does not say so",
        "последнее изменение состава ещё не завершено: повторите, когда `batoff replicas status` об этом не скажет",
    ),
    ("replicas     {}", "серверы      {}"),
    ("live         {} of {}, {} needed", "на связи     {} из {}, нужно {}"),
    ("completed    through record {} of {}", "завершено    по запись {} из {}"),
    ("the last change of the set is not completed yet", "последнее изменение состава ещё не завершено"),
    (
        "too few are live: nothing is completed until more are",
        "на связи слишком мало: до появления других ничего не завершается",
    ),
    ("one more that fails, and nothing is completed", "откажет ещё один, и ничего не будет завершаться"),
    ("one more may fail", "может отказать ещё один"),
    ("these settings are not the same on all of them: {}", "эти настройки не у всех одинаковы: {}"),
    (
        "what one answers, another may refuse: give all the same, and start those again that were changed",
        "на что один отвечает, другой может отказать: задайте всем одно и то же и перезапустите изменённые",
    ),
    ("no PoPs", "площадок нет"),
    ("no items", "элементов нет"),
    // The audit log
    ("no entries", "записей нет"),
    ("head: {}", "конец цепочки: {}"),
    ("looked at {}, the first is {}", "проверено записей: {}, первая: {}"),
    ("1 entry", "1"),
    ("{} entries", "{}"),
    (
        "entry {}: the store is a copy or a restored backup from here on: {}",
        "запись {}: с этого места хранилище — копия или восстановленная резервная копия: {}",
    ),
    (
        "entry {}: it, or something before it, was changed or taken out",
        "запись {}: она или что-то перед ней изменено или изъято",
    ),
    ("the audit log is not whole", "журнал аудита повреждён или изменён"),
    (
        "the audit log ends before the head that was given: it was cut off, or an older state put back",
        "журнал аудита кончается раньше указанного конца цепочки: его обрезали или вернули старое состояние",
    ),
    (
        "the head that was given was forgotten since: nothing can be said about it",
        "указанный конец цепочки уже удалён по сроку хранения: о нём ничего сказать нельзя",
    ),
    (
        "the head that was given is of another replica's log",
        "указанный конец цепочки — из журнала другой реплики",
    ),
    (
        "the audit log is another one than the head that was given says",
        "журнал аудита не тот, о котором говорит указанный конец цепочки",
    ),
    ("entry {}: {}", "запись {}: {}"),
    // One task
    ("task         {}", "задача       {}"),
    ("state        {}", "состояние    {}"),
    ("items        {} of {} done", "элементы     {} из {} готово"),
    ("started      {}", "начата       {}"),
    ("completed    {}", "завершена    {}"),
    ("propagation  {} ms", "разошлась за {} мс"),
    ("evicted      {}", "вытеснено    {}"),
    (
        "nodes        {}: {} confirmed, {} fenced, {} unreachable",
        "узлы         {}: подтвердили {}, отключены от кэша {}, недоступны {}",
    ),
    ("pending", "ожидает"),
    ("in_progress", "выполняется"),
    ("completed", "завершена"),
    ("partial", "частично"),
    // Headings of tables
    ("ACTION", "ДЕЙСТВИЕ"),
    ("ACTOR", "КТО"),
    ("BY", "КЕМ"),
    ("CODES", "КОДЫ"),
    ("CONFIRMED", "ПОДТВЕРДИЛИ"),
    ("CREATED", "СОЗДАН"),
    ("CURSOR", "ПОЗИЦИЯ"),
    ("EVICTED", "ВЫТЕСНЕНО"),
    ("EXPIRES", "ИСТЕКАЕТ"),
    ("FENCED", "ОТКЛЮЧЕНЫ"),
    ("FROM", "ОТКУДА"),
    ("HOSTNAMES", "ИМЕНА"),
    ("ITEMS", "ЭЛЕМЕНТЫ"),
    ("ITEMS/MIN", "ЭЛЕМЕНТОВ/МИН"),
    ("KIND", "ВИД"),
    ("LABEL", "ПОМЕТКА"),
    ("LAG", "ОТСТАВАНИЕ"),
    ("LAST SIGN-IN", "ПОСЛЕДНИЙ ВХОД"),
    ("LAST USED", "ИСПОЛЬЗОВАН"),
    ("LATE PURGE", "ОПОЗДАВШАЯ ОЧИСТКА"),
    ("LEASE", "АРЕНДА"),
    ("NODE", "УЗЕЛ"),
    ("NODES CONFIRMED", "ПОДТВЕРДИЛИ УЗЛЫ"),
    ("NODES", "УЗЛЫ"),
    ("OVERFLOWED", "СВЕРХ ТЕГОВ"),
    ("POP", "ПЛОЩАДКА"),
    ("PREFIXES/MIN", "ПРЕФИКСОВ/МИН"),
    ("PROPAGATION", "РАЗОШЛАСЬ"),
    ("RESULT", "ИСХОД"),
    ("REVOKED", "ОТОЗВАН"),
    ("ROLE", "РОЛЬ"),
    ("SCOPES", "ПРАВА"),
    ("SITE", "САЙТ"),
    ("SITES", "САЙТЫ"),
    ("SLOWEST", "МЕДЛЕННЕЕ ВСЕХ"),
    ("STARTED", "НАЧАТА"),
    ("STATE", "СОСТОЯНИЕ"),
    ("TAGS/RESPONSE", "ТЕГОВ/ОТВЕТ"),
    ("TASK", "ЗАДАЧА"),
    ("TIME", "ВРЕМЯ"),
    ("TOKEN ID", "ID ТОКЕНА"),
    ("TROUBLE", "НЕПОЛАДКИ"),
    ("USER", "ПОЛЬЗОВАТЕЛЬ"),
    ("UNREACHABLE", "НЕДОСТУПНЫ"),
    ("VALUE", "ЗНАЧЕНИЕ"),
    ("WAITED FOR", "ЖДАЛИ"),
    ("WHAT", "ЧТО"),
    ("INDEX", "ИНДЕКС"),
    ("WITHOUT LEASE", "БЕЗ АРЕНДЫ"),
    // The command line
    (
        "is not a number of seconds; write --wait=10, or --wait as the last word",
        "это не число секунд; напишите --wait=10 или поставьте --wait последним",
    ),
    ("must be 0 to {} seconds", "нужно от 0 до {} секунд"),
    ("{} is not in {}", "{} не входит в {}"),
    ("invalid digit found in string", "это не число"),
    ("cannot parse integer from empty string", "это не число"),
    // Counts
    ("1 item", "1 элемент"),
    ("1 object", "1 объект"),
    ("{} objects", "объектов: {}"),
    ("1 cached object", "1 объект в кэшах"),
    ("{} cached objects", "объектов в кэшах: {}"),
    ("1 purge", "1 очистка"),
    ("{} purges", "очисток: {}"),
    ("1 node", "1 узел"),
    ("{} nodes", "узлов: {}"),
    ("1 token", "1 токен"),
    ("{} tokens", "токенов: {}"),
    // Everything that begins with a name of ours, or with what it is about
    ("batoff: {}", "batoff: {}"),
    ("site {}: {}", "сайт {}: {}"),
    ("node {}: {}", "узел {}: {}"),
    ("user {}: {}", "пользователь {}: {}"),
    ("URL {}: {}", "URL {}: {}"),
    ("prefix {}: {}", "префикс {}: {}"),
    ("tag {}: {}", "тег {}: {}"),
    ("host {}: {}", "хост {}: {}"),
    ("standard input, line {}: {}", "стандартный ввод, строка {}: {}"),
    ("{}, line {}: {}", "{}, строка {}: {}"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_decides_as_for_any_other_program() {
        let spoken = |variables: &[(&str, &str)]| {
            is_spoken_in(|name| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
            })
        };
        assert!(spoken(&[("LANG", "ru_RU.UTF-8")]) && spoken(&[("LC_ALL", "ru"), ("LANG", "en_US.UTF-8")]));
        assert!(spoken(&[("LC_ALL", ""), ("LC_MESSAGES", "ru_RU")]));
        assert!(!spoken(&[]) && !spoken(&[("LANG", "C.UTF-8")]) && !spoken(&[("LANG", "run_RU")]));
        assert!(!spoken(&[("LC_ALL", "en_US.UTF-8"), ("LANG", "ru_RU.UTF-8")]));
    }

    #[test]
    fn whole_messages_are_put_into_russian_line_by_line() {
        let english = "batoff: nothing was purged: 1 bad item\n  urls.txt, line 2: \"https://x/*\": a * at the end is an \
                       ordinary character, no pattern: purge the prefix without the * (--prefix), or write %2A if it is meant";
        let russian = in_russian(english);
        assert!(russian.starts_with("batoff: ничего не очищено: ошибочных элементов: 1\n  "), "{russian}");
        assert!(
            russian.contains("urls.txt") && russian.contains("строка 2") && russian.contains("без неё"),
            "{russian}"
        );
        assert_eq!(
            in_russian(
                "batoff: which site? Give --site, set BATOFF_SITE, or write `site = \"…\"` in /a/config.toml"
            ),
            "batoff: не указано: сайт. Задайте --site, переменную BATOFF_SITE или строку `site = \"…\"` в файле /a/config.toml"
        );
        assert_eq!(in_russian("no such words"), "no such words");
    }

    #[test]
    fn both_sides_have_the_same_holes() {
        for (english, russian) in CATALOGUE.iter().chain(FIGURES).chain(&HELP) {
            assert_eq!(english.matches("{}").count(), russian.matches("{}").count(), "{english}");
        }
    }
}
