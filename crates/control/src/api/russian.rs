//! Details of refusals in Russian.
//!
//! A detail is written once, in English, where the mistake is found. This catalogue has each of them once more with `{}`
//! where it has something of its own to say, and what it is in Russian. A text that is not in here stays English; the
//! test over the contract's table of refusals finds it.

/// The text in Russian, if the catalogue has it.
pub fn of(text: &str) -> String {
    translated(text).unwrap_or_else(|| text.to_owned())
}

fn translated(text: &str) -> Option<String> {
    CATALOGUE.iter().find_map(|(english, russian)| {
        let holes = holes(text, english)?;
        let mut parts = russian.split("{}");
        let mut whole = parts.next().unwrap_or_default().to_owned();
        for (part, hole) in parts.zip(holes) {
            // What fills a hole may be a text of ours, too.
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
        let at = if parts.peek().is_none() { rest.len().checked_sub(part.len())? } else { rest.find(part)? };
        if !rest.is_char_boundary(at) || &rest[at..at + part.len()] != part {
            return None;
        }
        holes.push(&rest[..at]);
        rest = &rest[at + part.len()..];
    }
    Some(holes)
}

/// The more exact ones first.
const CATALOGUE: [(&str, &str); 168] = [
    (
        "a tag must not have an invisible character (such as a zero-width space or a direction mark); delete it, in Cache-Tag too",
        "тег не должен содержать невидимых символов (пробел нулевой ширины, знак направления); удалите их, и в Cache-Tag тоже",
    ),
    // The console and the operators
    (
        "this account's dry runs are used up: 60 at once, and one more a second",
        "пробные запуски этой учётной записи исчерпаны: 60 сразу и ещё один в секунду",
    ),
    ("there is no such page", "такой страницы нет"),
    ("there is no such file", "такого файла нет"),
    ("there is no such user", "такого пользователя нет"),
    ("there is no such choice: {}", "такого варианта нет: {}"),
    ("there is no such language", "такого языка нет"),
    ("there is no purge {} among your sites'", "среди ваших сайтов нет очистки {}"),
    ("there is no {} called {}", "нет такого значения {}: {}"),
    ("there is no such token, or it was revoked already", "такого токена нет, или он уже отозван"),
    ("there is no such node, or it is decommissioned", "такого узла нет, или он выведен"),
    ("there is no such site", "такого сайта нет"),
    ("there is no site {}", "сайта {} нет"),
    ("there is no token {}", "токена {} нет"),
    ("there is no node {}", "узла {} нет"),
    ("there is no user {}", "пользователя {} нет"),
    ("there is no entry {} yet", "записи {} ещё нет"),
    (
        "this site has no such purge; they are kept 30 days",
        "у этого сайта нет такой очистки; они хранятся 30 дней",
    ),
    (
        "none of your account's sites exists any more; an operator can give it others",
        "ни одного из сайтов вашей учётной записи больше нет; оператор может дать другие",
    ),
    (
        "your role does not include this, or the site is not among yours; an operator can change that",
        "ваша роль этого не даёт, или сайт не из ваших; это может изменить оператор",
    ),
    (
        "the request does not come from a page of this console (by its Sec-Fetch-Site and Origin), so nothing was done: open the page here, and send it again",
        "запрос пришёл не со страницы этой консоли (судя по Sec-Fetch-Site и Origin), поэтому ничего не сделано: откройте страницу здесь и отправьте снова",
    ),
    (
        "too many event streams are open; the page can be reloaded by hand",
        "открыто слишком много потоков событий; страницу можно обновить вручную",
    ),
    (
        "the form has no key of its own, so it cannot be told whether it was sent before; nothing was done",
        "у формы нет ключа, поэтому нельзя понять, отправляли ли её раньше; ничего не сделано",
    ),
    (
        "what this form makes was made when it was sent first, and its secret was shown then; it is not shown again. If it was not copied, revoke or reset what was made, and make another",
        "всё уже сделано при первой отправке этой формы, тогда же был показан секрет; второй раз он не показывается. Если его не скопировали, отзовите или сбросьте сделанное и сделайте новое",
    ),
    ("choose a site: the form names none that there is", "выберите сайт: в форме нет существующего"),
    ("is not among the choices of the filter", "нет среди вариантов отбора"),
    ("is not understood", "непонятно"),
    ("must be a whole number, 0 or more, or empty", "ожидается целое число не меньше 0 или пустое поле"),
    (
        "from must be before until, and at most {} days: so long is it kept",
        "from должно быть раньше until и не дальше {} дней: столько это хранится",
    ),
    ("is not among the choices of the form", "нет среди вариантов формы"),
    ("must be the name of the node, and nothing was done", "должно быть именем узла; ничего не сделано"),
    ("must be ticked, and nothing was done", "нужна отметка; ничего не сделано"),
    (
        "must be a whole number, or empty for the default",
        "ожидается целое число или пустое поле для значения по умолчанию",
    ),
    ("at most {} bytes, and no control characters", "не более {} байт и без управляющих символов"),
    ("must not be after until, nor after today", "не позже until и не позже сегодняшнего дня"),
    ("must be {} or later: {} days are kept", "не раньше {}: хранятся {} дней"),
    ("goes without from and until, or is chosen", "указывается без from и until или со значением chosen"),
    ("must be one of {}", "должно быть одним из {}"),
    ("must be en, ru or auto", "должно быть en, ru или auto"),
    (
        "must be 1 to {} characters of a-z, 0-9, '.', '_', '@' and '-', the first a letter or a digit",
        "от 1 до {} символов a-z, 0-9, «.», «_», «@» и «-», первый — буква или цифра",
    ),
    ("must be 1 to {}", "ожидается число от 1 до {}"),
    ("an operator is for all sites: name none", "оператор — для всех сайтов: не указывайте ни одного"),
    ("an account is for at most {} sites", "учётная запись — не более чем для стольких сайтов: {}"),
    ("there is an account {} already", "учётная запись {} уже есть"),
    ("there are {} accounts; remove some", "учётных записей уже {}; удалите лишние"),
    (
        "{} is the last operator: make another account an operator first",
        "{} — последний оператор: сначала сделайте оператором другого",
    ),
    (
        "too many sign in at this moment; try again in {} s",
        "сейчас входит слишком много людей; повторите через {} с",
    ),
    (
        "the site {} exists already; PATCH it to change it",
        "сайт {} уже есть; чтобы изменить его, откройте его страницу",
    ),
    ("there are {} sites, which is the limit", "сайтов уже {}, это предел"),
    (
        "belongs to site {}; \"move\": true takes it from there",
        "принадлежит сайту {}; сначала уберите его оттуда",
    ),
    ("a hostname belongs to one site only", "хост может принадлежать только одному сайту"),
    (
        "the node serves without a lease and has not confirmed every purge: it may go on serving what was purged. Stop it first, or repeat with ?force=true",
        "узел отдаёт без аренды и подтвердил не все очистки: он может и дальше отдавать очищенное. Сначала остановите его или повторите принудительно",
    ),
    (
        "the audit log cannot be written now, and nothing was changed",
        "журнал аудита сейчас не записывается, и ничего не изменено",
    ),
    ("an internal error; look before you repeat it", "внутренняя ошибка; посмотрите, прежде чем повторять"),
    (
        "the change may or may not have been made; look before you repeat it",
        "изменение могло быть сделано, а могло и нет; посмотрите, прежде чем повторять",
    ),
    // Whom a proxy signs in
    (
        "everybody comes through the proxy that signs people in, and this connection does not have its certificate: open the console by the proxy's address",
        "все входят через сервер авторизации, а у этого соединения нет его сертификата: откройте консоль по адресу сервера авторизации",
    ),
    (
        "{}, so it is not certain who asks: the proxy must take out of each request what clients send under these names",
        "{}, поэтому неясно, кто обращается: сервер авторизации должен убирать из запросов то, что под этими именами шлют клиенты",
    ),
    ("{} comes more than once", "{} приходит больше одного раза"),
    (
        "{} is another spelling of a header that names users",
        "{} — другое написание заголовка, называющего пользователя",
    ),
    ("{} is not UTF-8", "{} не в UTF-8"),
    ("{} names more than {} groups", "{} называет больше групп, чем {}"),
    ("the name that the proxy gives {}", "имя от сервера авторизации: {}"),
    (
        "{} is the name of an account with a password here; one of the two must go",
        "{} — имя учётной записи с паролем; одну из двух надо убрать",
    ),
    (
        "none of the groups that the proxy gives for {} may use this console",
        "ни одна из групп, которые сервер авторизации называет для {}, не имеет доступа к консоли",
    ),
    // Who is asking
    (
        "send exactly one header Authorization: Bearer bto_live_…",
        "отправьте ровно один заголовок Authorization: Bearer bto_live_…",
    ),
    ("Authorization must be Bearer and the token", "в Authorization должны стоять слово Bearer и токен"),
    (
        "the token is mistyped or cut short: its check does not fit",
        "токен набран с ошибкой или обрезан: контрольная сумма не сходится",
    ),
    ("the token is unknown or was revoked", "токен неизвестен или отозван"),
    ("the token has expired; issue a new one", "срок действия токена истёк; выпустите новый"),
    (
        "the token is for another site, or has not the scope {}",
        "токен выдан для другого сайта или не имеет права {}",
    ),
    ("send exactly one header {}", "отправьте ровно один заголовок {}"),
    (
        "X-Batoff-Timestamp must be seconds since the Unix epoch in decimal, with up to {} decimals",
        "X-Batoff-Timestamp должен быть числом секунд от начала эпохи Unix, не более {} знаков после точки",
    ),
    (
        "X-Batoff-Signature must be sha256= and 64 lower-case hex digits",
        "X-Batoff-Signature должен быть sha256= и 64 шестнадцатеричными цифрами в нижнем регистре",
    ),
    (
        "the signature does not fit: HMAC-SHA-256, keyed with the token's signing secret, over these {} lines joined by newlines: {}. If the path differs from the one that was sent, something in between has changed it: see api.public_prefix",
        "подпись не сходится: HMAC-SHA-256 с секретом подписи этого токена над строками ({}), соединёнными переводом строки: {}. Если путь не тот, что был отправлен, его изменил шлюз по дороге: см. api.public_prefix",
    ),
    (
        "too many failed authentications from this address",
        "слишком много неудачных попыток входа с этого адреса",
    ),
    // The route and the body
    (
        "there is no such route; the API is described at /openapi.json",
        "такого маршрута нет; API описан в /openapi.json",
    ),
    (
        "there is no such page; the description begins at /docs/",
        "такой страницы нет; описание начинается с /docs/",
    ),
    ("{} is not among the methods in Allow", "метода {} нет среди перечисленных в Allow"),
    (
        "this site has no such task; tasks are kept 30 days",
        "у этого сайта нет такой задачи; задачи хранятся 30 дней",
    ),
    ("at most {} bytes: split the request", "не более {} байт: разделите запрос"),
    ("the body ended early or came too slowly", "тело запроса оборвалось или приходило слишком медленно"),
    (
        "send the body as Content-Type: application/json, in UTF-8",
        "отправьте тело как Content-Type: application/json, в UTF-8",
    ),
    (
        "send the body as it is, without Content-Encoding; it may have 1 MiB",
        "отправьте тело как есть, без Content-Encoding; допускается 1 МиБ",
    ),
    ("the body is not UTF-8 from byte {} on", "тело запроса не в UTF-8 начиная с байта {}"),
    ("the body is nested deeper than {}", "вложенность тела запроса больше {}"),
    (
        "the body is not a JSON object as the API takes it: {}",
        "тело запроса не тот объект JSON, который принимает API: {}",
    ),
    ("unknown member; known are {}", "неизвестное поле; известны {}"),
    ("given more than once", "указано более одного раза"),
    (
        "stands alone: send the other items in a request of their own",
        "указывается отдельно: отправьте остальное другим запросом",
    ),
    (
        "nothing to purge: give urls, prefixes, tags, hosts or everything",
        "нечего очищать: укажите urls, prefixes, tags, hosts или everything",
    ),
    // Query parameters
    (
        "malformed; expected name=value, percent-escaped",
        "неверная запись; ожидается имя=значение в процентной кодировке",
    ),
    (
        "unknown parameter; this route takes none",
        "неизвестный параметр; этот маршрут параметров не принимает",
    ),
    ("unknown parameter; this route takes {}", "неизвестный параметр; этот маршрут принимает {}"),
    (
        "a dry run queues nothing that could be waited for",
        "пробный запуск ничего не ставит в очередь, ждать нечего",
    ),
    (
        "send one key of 1 to {} visible ASCII characters",
        "отправьте один ключ длиной от 1 до {} видимых символов ASCII",
    ),
    (
        "must be a bare hostname, without scheme, path or white space",
        "должно быть одним именем, без схемы, пути и пробелов",
    ),
    (
        "must not have an invisible character; delete it, or write the name in its ASCII form (xn--…) if it is meant",
        "не должно содержать невидимых символов; удалите их или запишите имя в форме ASCII (xn--…), если они нужны",
    ),
    ("must not have a port", "не должно содержать порта"),
    ("must be one hostname, without a wildcard", "должно быть одним именем, без звёздочки"),
    ("must be at most 255 bytes", "не может быть длиннее 255 байт"),
    ("must be {}, not {}", "ожидается {}, а не {}"),
    ("must be {}", "ожидается {}"),
    ("a whole number, 0 or more", "целое число не меньше 0"),
    ("a whole number from {} to {}", "целое число от {} до {}"),
    ("true or false", "true или false"),
    ("a list of strings", "список строк"),
    ("a list", "список"),
    ("a string", "строка"),
    ("a boolean", "логическое значение"),
    ("a number", "число"),
    ("an object", "объект"),
    ("null", "null"),
    ("pops, items, or both with a comma between", "pops, items или оба через запятую"),
    ("pending, in_progress, completed or partial", "pending, in_progress, completed или partial"),
    ("url, prefix, tag, host or everything", "url, prefix, tag, host или everything"),
    ("a day such as 2026-04-20, or a time of RFC 3339", "день вида 2026-04-20 или время по RFC 3339"),
    ("a day such as 2026-04-20", "день вида 2026-04-20"),
    ("a time such as 2026-04-20T08:12:31Z", "время вида 2026-04-20T08:12:31Z"),
    ("the next_cursor of a page of this list", "next_cursor со страницы этого же списка"),
    // Items
    (
        "{} URLs and tags together; at most {} a request: split it",
        "URL и тегов вместе: {}; в одном запросе не более {}: разделите его",
    ),
    (
        "{} prefixes, hosts and everything together; at most {} a request: split it",
        "префиксов, хостов и everything вместе: {}; в одном запросе не более {}: разделите его",
    ),
    ("{} URLs; at most {} a request: split it", "URL: {}; в одном запросе не более {}: разделите его"),
    ("{} tags; at most {} a request: split it", "тегов: {}; в одном запросе не более {}: разделите его"),
    ("{} items; at most {} a request: split it", "элементов: {}; в одном запросе не более {}: разделите его"),
    ("host {} is not a hostname of site {}", "хост {} не принадлежит сайту {}"),
    ("the host is no longer a hostname of site {}", "хост больше не принадлежит сайту {}"),
    ("a tag must have at least one character", "в теге должен быть хотя бы один символ"),
    ("a tag must be at most {} bytes", "тег не может быть длиннее {} байт"),
    (
        "a tag must consist of visible characters and have no comma",
        "тег должен состоять из видимых символов и не содержать запятой",
    ),
    ("URL {}", "URL: {}"),
    ("prefix {}", "префикс: {}"),
    ("hostname {}", "имя хоста: {}"),
    ("longer than {} bytes", "длиннее {} байт"),
    (
        "has a control character; percent-escape it",
        "содержит управляющий символ; запишите его в процентной кодировке",
    ),
    ("must begin with http:// or https://", "должен начинаться с http:// или https://"),
    ("must not have a user name or password", "не должен содержать имени пользователя и пароля"),
    ("has no valid host; a wildcard is none", "не содержит допустимого хоста; шаблон со звёздочкой не хост"),
    (
        "has an invisible character (such as a zero-width or no-break space, or a direction mark); delete it, or percent-escape it if it is meant",
        "содержит невидимый символ (пробел нулевой ширины, неразрывный пробел, знак направления); удалите его или запишите в процентной кодировке, если он нужен",
    ),
    (
        "ends in *, which is no wildcard here; name what stands before it in `prefixes`, which match all that begins so",
        "кончается звёздочкой, а она здесь не шаблон; укажите то, что до неё, в `prefixes`: они совпадают со всем, что так начинается",
    ),
    ("has an invalid port", "содержит недопустимый порт"),
    ("is not a valid URL", "не является допустимым URL"),
    (
        "ends inside a percent-escape; end before it or complete it",
        "обрывается внутри процентной кодировки; закончите раньше или допишите её",
    ),
    // Quotas, counts, outcomes
    (
        "the quota \"{}\" of site {} ({}: {} a minute) has {} left, and this needs {}; nothing was queued",
        "квота «{}» сайта {} ({}: {} в минуту): осталось {}, нужно {}; ничего не поставлено в очередь",
    ),
    ("URLs and tags", "URL и теги"),
    ("prefixes, hosts and everything", "префиксы, хосты и everything"),
    (
        "the token's dry runs are used up: 60 at once, and one more a second",
        "пробные запуски этого токена исчерпаны: 60 сразу и ещё один в секунду",
    ),
    (
        "the purge would hit {} objects on the {} of {} nodes that answered",
        "очистка затронула бы объектов: {}; ответило узлов: {} из {}",
    ),
    (
        "the purge would hit {} objects on the {} nodes that answered",
        "очистка затронула бы объектов: {}; ответило узлов: {}",
    ),
    ("the purge would hit {} objects", "очистка затронула бы объектов: {}"),
    (
        "this Idempotency-Key came with another body within the last 24 h; take a new key",
        "этот Idempotency-Key за последние 24 часа уже приходил с другим телом; возьмите новый ключ",
    ),
    (
        "in normal form the purge is over the {} bytes of a record: split the request",
        "в нормальной форме очистка больше записи в {} байт: разделите запрос",
    ),
    (
        "it may or may not take effect: send the same bytes, or the same Idempotency-Key, again",
        "неизвестно, вступит ли она в силу: отправьте те же байты или тот же Idempotency-Key ещё раз",
    ),
    (
        "max_objects needs the count of every node that may serve, and {} can give none: such caches find their objects by themselves; nothing was queued. Send the purge without max_objects",
        "для max_objects нужен подсчёт от каждого узла, который может отдавать кэш, а {} не может его дать: такие кэши сами находят свои объекты; ничего не поставлено в очередь. Отправьте очистку без max_objects",
    ),
    (
        "max_objects needs the count of every node that may serve, and {} gave none; nothing was queued. Try again, or send the purge without max_objects",
        "для max_objects нужен подсчёт от каждого узла, который может отдавать кэш, а от {} его нет; ничего не поставлено в очередь. Повторите или отправьте очистку без max_objects",
    ),
    ("this control plane is stopping", "управляющий сервер останавливается"),
    (
        "more is submitted than can be made durable in time",
        "запросов на очистку больше, чем можно вовремя сохранить",
    ),
    ("the purge log is not available", "журнал очисток недоступен"),
    ("the purge log's storage is full", "хранилище журнала очисток заполнено"),
    ("the purge log needs an operator", "журналу очисток нужен оператор"),
    ("{} is over {}", "{} больше чем {}"),
    ("an internal error; it has been logged", "внутренняя ошибка; она записана в журнал"),
    ("the store cannot be read now", "хранилище сейчас не читается"),
    ("{}; nothing was accepted", "{}; ничего не принято"),
    (
        "too many event streams are open; ask for the list",
        "открыто слишком много потоков событий; запросите список",
    ),
    (
        "the {} has {} event streams open, and may have no more: close one",
        "{} уже держит потоков событий: {}, больше нельзя: закройте один",
    ),
    (
        "the timestamp is {} s behind the server's clock (see Date); at most {} s are allowed: set the clock",
        "метка времени отстаёт от часов сервера (см. Date) на {} с; допускается не более {} с: установите часы",
    ),
    (
        "the timestamp is {} s ahead of the server's clock (see Date); at most {} s are allowed: set the clock",
        "метка времени опережает часы сервера (см. Date) на {} с; допускается не более {} с: установите часы",
    ),
    ("is not a valid hostname", "не является допустимым именем хоста"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_keeps_what_it_has_of_its_own() {
        assert_eq!(
            of("host evil.example is not a hostname of site shop"),
            "хост evil.example не принадлежит сайту shop"
        );
        assert_eq!(of("must be a list of strings, not a number"), "ожидается список строк, а не число");
        assert_eq!(of("must be a whole number from 0 to 30"), "ожидается целое число от 0 до 30");
        assert_eq!(of("URL has an invalid port"), "URL: содержит недопустимый порт");
        assert_eq!(of("something that nobody has translated"), "something that nobody has translated");
    }

    #[test]
    fn both_sides_have_the_same_holes_and_no_entry_hides_behind_another() {
        for (place, (english, russian)) in CATALOGUE.iter().enumerate() {
            assert_eq!(english.matches("{}").count(), russian.matches("{}").count(), "{english}");
            let sample = english.replace("{}", "7");
            let first = CATALOGUE.iter().position(|(earlier, _)| holes(&sample, earlier).is_some());
            assert_eq!(first, Some(place), "{english}");
        }
    }
}
