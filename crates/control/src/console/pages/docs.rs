//! `/docs`: how to use the API, and the API itself, from the description that it serves.

mod reference;
mod rich;
mod russian;
mod sign_in;

use std::sync::LazyLock;

use askama::Template;
use axum::response::Response;

use self::reference::Reference;
use self::rich::Rich;
use self::sign_in::{CONFIG, NGINX, SignInText};
use crate::accounts::Need;
use crate::api::problem::Code;
use crate::console::frame::PageFrame;
use crate::console::words::{Text, Words, words};
use crate::language::Language;

words! {
    /// What the page says beside the description.
    pub enum DocsText {
        Contents: "On this page", "На этой странице";
        Reference: "Reference", "Справочник";
        Operators: "For operators", "Для операторов";
        OperatorsTitle: "Operators' API", "API операторов";
        OperatorsAbout: "Sites, tokens, nodes, and who did what. Requests carry the operator's token and no signature; the listener is not the customers'. The `batoff` command uses it. As a document: `/admin/v1/openapi.json`.", "Сайты, токены, узлы и кто что делал. Запросы несут токен оператора и не подписываются; слушается отдельный адрес. Этим API пользуется команда `batoff`. В виде документа: `/admin/v1/openapi.json`. Описания ниже — на английском.";
        Start: "A purge in four steps", "Очистка за четыре шага";
        StartToken: "Issue a token under **API tokens**. You get two halves: the token travels with each request and says who asks; the secret signs and never travels.", "Выпустите токен в разделе **Токены API**. Он состоит из двух половин: токен идёт с каждым запросом и говорит, кто просит; секрет подписывает и никогда не передаётся.";
        StartSend: "Send what to purge to `POST /v1/sites/{site_id}/purge`, signed. `202` means that it is on stable storage and will reach every node, whatever crashes next.", "Отправьте подписанный запрос `POST /v1/sites/{site_id}/purge`. Ответ `202` значит: очистка записана на диск и дойдёт до каждого узла, что бы ни упало потом.";
        StartFollow: "Follow it with `GET /v1/sites/{site_id}/purge/{task_id}?wait=20`: the answer is held until it is completed.", "Следите за ней: `GET /v1/sites/{site_id}/purge/{task_id}?wait=20` — ответ придёт, когда очистка завершится.";
        StartTry: "Not sure what it hits? With `?dry_run=true` nothing is purged, and the answer counts the cached objects.", "Не уверены, что будет затронуто? С `?dry_run=true` ничего не очищается, а ответ считает объекты в кэше.";
        Signing: "Signing", "Подпись";
        SigningAbout: "`X-Batoff-Signature` is `sha256=` and the hex HMAC-SHA-256, keyed with the whole secret, over four lines joined by `\\n`, with none at the end. A request with an `Idempotency-Key` has a fifth.", "`X-Batoff-Signature` — это `sha256=` и HMAC-SHA-256 в hex, ключ — весь секрет, над четырьмя строками через `\\n`, без перевода строки в конце. С заголовком `Idempotency-Key` строк пять.";
        LineTime: "the timestamp, as sent: seconds since 1970, with decimals", "время, как отправлено: секунды с 1970 года, с дробной частью";
        LineMethod: "the method", "метод";
        LineTarget: "path and query, exactly as sent", "путь и запрос ровно так, как отправлены";
        LineBody: "SHA-256 of the raw body, in lower-case hex (of nothing when there is none)", "SHA-256 тела как есть, строчными hex (пустой строки, если тела нет)";
        LineKey: "the `Idempotency-Key`, only if it is sent", "`Idempotency-Key`, только если он отправлен";
        SigningClock: "The clock may differ by 300 s. A refused signature names the lines that it was checked against.", "Часы могут расходиться на 300 с. В отказе названы строки, с которыми сверялась подпись.";
        SigningKey: "One `Idempotency-Key` is for one purge: tries that are signed anew with the same key within 24 hours are one purge.", "Один `Idempotency-Key` — одна очистка: попытки, подписанные заново с тем же ключом в течение 24 часов, считаются одной.";
        Examples: "Examples", "Примеры";
        ExamplesAbout: "Each signs, sends, tries again where that can help, follows the purge, and says why it is refused. Each is run against a real control plane by our tests.", "Каждый подписывает, отправляет, повторяет, когда это поможет, следит за очисткой и объясняет отказ. Каждый запускают наши тесты с настоящим сервером.";
        Copy: "Copy", "Копировать";
        Copied: "Copied", "Скопировано";
        Meaning: "What completed means", "Что значит «завершена»";
        MeaningAbout: "`completed` is a proof, not a hope: from then on no node can serve what was purged, also one that is cut off or frozen.", "`completed` — это доказательство, а не надежда: с этого момента ни один узел не может отдать очищенное, даже отрезанный или зависший.";
        State: "State", "Состояние";
        Means: "Means", "Значит";
        Pending: "Durable, not yet sent to any node.", "Записана, ещё не отправлена ни одному узлу.";
        InProgress: "At least one node has it.", "Дошла хотя бы до одного узла.";
        Completed: "No node can serve any of it any more: each has confirmed it, or holds no valid lease and has stopped serving from its cache.", "Ни один узел больше не может это отдать: каждый подтвердил очистку или лишился аренды и перестал отдавать из кэша.";
        Partial: "Two seconds have passed, and a node that may serve without a lease is unreachable. It becomes `completed` when that node has caught up.", "Прошло две секунды, а узел, которому можно отдавать без аренды, недоступен. Станет `completed`, когда он догонит.";
        Problems: "Problem codes", "Коды ошибок";
        ProblemsAbout: "Refusals are `application/problem+json` (RFC 9457). Programs look at `code`, which never changes; people read `title` and `detail`, in Russian where `Accept-Language` prefers it. Quote `request_id` when you ask us.", "Отказы — `application/problem+json` (RFC 9457). Программы смотрят на `code`, он не меняется; людям — `title` и `detail`, по-русски, если этого хочет `Accept-Language`. Обращаясь к нам, укажите `request_id`.";
        Status: "Status", "Статус";
        Code: "Code", "Код";
        Remedy: "What to do", "Что делать";
        Quotas: "Limits", "Ограничения";
        QuotasAbout: "Per site, as buckets that fill up all the time. A request is taken whole or not at all, and a refused one costs nothing. `RateLimit` in each answer says what is left; `429` says when to come again.", "На сайт; запас пополняется непрерывно. Запрос принимается целиком или не принимается, отказ ничего не стоит. Сколько осталось, говорит `RateLimit`; когда прийти снова — ответ `429`.";
        Limit: "What", "Что";
        Amount: "How much", "Сколько";
        UrlsAndTags: "URLs and tags", "URL и теги";
        UrlsAndTagsAmount: "10,000 a minute, unless your site has its own limit; 200 a request", "10 000 в минуту, если для сайта не задано иное; 200 в запросе";
        Prefixes: "Prefixes, hosts, everything", "Префиксы, хосты, всё сразу";
        PrefixesAmount: "60 a minute, unless your site has its own limit; 60 a request", "60 в минуту, если для сайта не задано иное; 60 в запросе";
        DryRuns: "Dry runs", "Пробные запуски";
        DryRunsAmount: "60 a token, one more a second", "60 на токен, ещё один каждую секунду";
        Body: "Body", "Тело";
        BodyAmount: "1 MiB", "1 МиБ";
        Streams: "Event streams", "Потоки событий";
        StreamsAmount: "32 a token", "32 на токен";
        History: "History", "История";
        HistoryAmount: "30 days", "30 дней";
        Parameters: "Parameters", "Параметры";
        RequestBody: "Body", "Тело запроса";
        Answers: "Answers", "Ответы";
        Refusals: "Refusals", "Отказы";
        Documents: "Documents", "Документы";
        Required: "required", "обязателен";
        AsDocument: "The same for programs: `/openapi.json` of the API, and `/docs` there to try it by hand.", "То же для программ: `/openapi.json` у API, а `/docs` там же — чтобы попробовать руками.";
    }
}

/// An example, as a customer copies it.
struct Example {
    /// In the page's anchors.
    id: &'static str,
    name: &'static str,
    /// Of the file, to save it under.
    file: &'static str,
    text: &'static str,
}

macro_rules! example {
    ($id:literal, $name:literal, $file:literal) => {
        Example {
            id: $id,
            name: $name,
            file: $file,
            text: include_str!(concat!("../../../../../deploy/examples/sign/", $file)),
        }
    };
}

/// The files that the tests run, in the order of the switch.
const EXAMPLES: [Example; 7] = [
    example!("bash", "bash", "purge.sh"),
    example!("python", "Python", "purge.py"),
    example!("node", "Node.js", "purge.mjs"),
    example!("go", "Go", "purge.go"),
    example!("php", "PHP", "purge.php"),
    example!("rust", "Rust", "purge.rs"),
    example!("batoff", "batoff", "batoff.sh"),
];

/// What the states mean, in the order in which a purge goes through them.
const STATES: [(&str, DocsText); 4] = [
    ("pending", DocsText::Pending),
    ("in_progress", DocsText::InProgress),
    ("completed", DocsText::Completed),
    ("partial", DocsText::Partial),
];

const QUOTAS: [(DocsText, DocsText); 6] = [
    (DocsText::UrlsAndTags, DocsText::UrlsAndTagsAmount),
    (DocsText::Prefixes, DocsText::PrefixesAmount),
    (DocsText::DryRuns, DocsText::DryRunsAmount),
    (DocsText::Body, DocsText::BodyAmount),
    (DocsText::Streams, DocsText::StreamsAmount),
    (DocsText::History, DocsText::HistoryAmount),
];

static CUSTOMERS: LazyLock<Reference> = LazyLock::new(|| Reference::of(&crate::api::description()));
static CUSTOMERS_RUSSIAN: LazyLock<Reference> =
    LazyLock::new(|| Reference::in_russian(&crate::api::description()).0);
static OPERATORS: LazyLock<Reference> = LazyLock::new(|| Reference::of(&crate::admin::description()));

/// The guide and the customers' reference.
#[derive(Template)]
#[template(path = "console/docs.html")]
struct DocsPage<'a> {
    frame: &'a PageFrame,
    reference: &'static Reference,
    is_operator: bool,
}

/// The operators' reference.
#[derive(Template)]
#[template(path = "console/docs_operators.html")]
struct OperatorDocsPage<'a> {
    frame: &'a PageFrame,
    reference: &'static Reference,
}

impl DocsPage<'_> {
    fn rich(&self, words: DocsText) -> Rich {
        Rich::line(self.frame.say(words))
    }

    /// The codes with status, title and remedy.
    fn problems(&self) -> impl Iterator<Item = (u16, &'static str, &'static str, &'static str)> {
        let language = self.frame.language;
        Code::ALL.into_iter().map(move |code| {
            (code.status().as_u16(), code.as_str(), code.title(language), code.remedy(language))
        })
    }
}

impl OperatorDocsPage<'_> {
    fn rich(&self, words: impl Words) -> Rich {
        Rich::line(self.frame.say(words))
    }
}

/// `GET /docs`
pub async fn customers(frame: PageFrame) -> Response {
    let is_operator = frame.viewer.as_ref().is_some_and(|viewer| viewer.may(Need::Operate, None));
    let reference = match frame.language {
        Language::English => &*CUSTOMERS,
        Language::Russian => &*CUSTOMERS_RUSSIAN,
    };
    let body = DocsPage { frame: &frame, reference, is_operator };
    frame.page(frame.say(Text::Docs), Some(Text::Docs), &body)
}

/// `GET /docs/operators`
pub async fn operators(frame: PageFrame) -> Response {
    let body = OperatorDocsPage { frame: &frame, reference: &OPERATORS };
    frame.page(frame.say(DocsText::OperatorsTitle), Some(Text::Docs), &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_customers_reference_is_whole_in_russian() {
        let (_, missing) = Reference::in_russian(&crate::api::description());
        assert!(missing.is_empty(), "pages/docs/russian.rs lacks {missing:#?}");
    }

    #[test]
    fn every_operation_of_both_descriptions_is_on_a_page_with_what_it_answers() {
        for (reference, description) in
            [(&*CUSTOMERS, crate::api::description()), (&*OPERATORS, crate::admin::description())]
        {
            let description = serde_json::to_value(description).unwrap();
            let described: usize = description["paths"]
                .as_object()
                .unwrap()
                .values()
                .map(|item| item.as_object().unwrap().len())
                .sum();
            assert_eq!(reference.operations.len(), described);
            for operation in &reference.operations {
                assert!(!operation.answers.is_empty() && !operation.refusals.is_empty(), "{}", operation.id);
            }
            assert!(!reference.schemas.is_empty());
        }
    }
}
