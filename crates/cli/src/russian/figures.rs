//! What is said of how purges spread, how fast they were, and how the fleet is, in Russian.

/// As the catalogue that this belongs to: the more exact ones first.
pub const FIGURES: &[(&str, &str)] = &[
    // How a purge spread
    (
        "no node could serve it {} ms after it was durable",
        "через {} мс после записи на диск ни один узел уже не мог её отдать",
    ),
    ("not completed {} ms after it was durable", "не завершена через {} мс после записи на диск"),
    ("not completed", "не завершена"),
    ("no connection", "нет соединения"),
    ("connected, without a lease", "соединение есть, аренды нет"),
    ("sent late: it was away or is catching up", "отправлено поздно: узел отсутствовал или догоняет"),
    ("network, or the node is busy", "сеть, или узел занят"),
    ("cache busy", "кэш занят"),
    ("cache in trouble", "неполадки кэша"),
    (
        "an earlier run of its daemon may hold a lease",
        "аренда прежнего запуска демона могла ещё не кончиться",
    ),
    ("not confirmed yet", "ещё не подтвердил"),
    ("SENT", "ОТПРАВЛЕНО"),
    ("IN FORCE", "ДЕЙСТВУЕТ"),
    ("SLOWEST NODES", "МЕДЛЕННЫЕ УЗЛЫ"),
    ("BECAUSE OF", "ПРИЧИНА"),
    // How all is
    ("all {} nodes are current", "все узлы в порядке: {}"),
    ("{} of {} nodes are current", "узлов в порядке: {} из {}"),
    ("slowest completion in the last hour: {} ms, {}, {}", "самое долгое завершение за час: {} мс, {}, {}"),
    ("slowest completion in the last hour: {} ms", "самое долгое завершение за час: {} мс"),
    (
        "last hour: {} purges, p50 {} ms, p99 {} ms, max {} ms of {} ms",
        "за час: очисток {}, p50 {} мс, p99 {} мс, наибольшее {} мс из {} мс",
    ),
    ("last minute: {} purges", "за минуту: очисток {}"),
    ("nothing needs attention", "ничто не требует внимания"),
    ("store", "хранилище"),
    ("node is late", "узел отстаёт"),
    ("node without a lease", "узел без аренды"),
    ("certificate ends", "кончается сертификат"),
    ("over its quota", "квота исчерпана"),
    ("until", "до"),
    ("NEEDS ATTENTION", "ТРЕБУЕТ ВНИМАНИЯ"),
    ("SINCE", "С КАКОГО ВРЕМЕНИ"),
];
