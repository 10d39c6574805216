//! What `--help` says in Russian: the text of each command and flag. A test asks for each of them.

/// English, as it stands at the argument, without what it says in square brackets at its end.
pub const HELP: [(&str, &str); 157] = [
    (
        "Takes content back from a CDN's caches, everywhere, and waits until it is really gone",
        "Убирает содержимое из кэшей CDN, везде, и ждёт, пока его действительно не станет",
    ),
    (
        "Exit codes: 0 done; 1 refused, or a purge that was waited for did not complete in time; \
         64 wrong usage or configuration; 70 internal error; 75 temporary, try again later.",
        "Коды выхода: 0 — сделано; 1 — отказ, или ожидаемая очистка не завершилась вовремя; 64 — неверный вызов или \
         настройки; 70 — внутренняя ошибка; 75 — временно, повторите позже.",
    ),
    // The same everywhere
    ("Print help", "Показать эту справку"),
    ("Print version", "Показать версию"),
    // Commands
    (
        "Purge URLs, prefixes, tags, hosts, or everything of a site",
        "Очистить URL, префиксы, теги, хосты или сайт целиком",
    ),
    (
        "Show how far a purge has come, or wait for it",
        "Показать, насколько продвинулась очистка, или дождаться её",
    ),
    ("List a site's purges, newest first", "Список очисток сайта, сначала новые"),
    (
        "Was every purge completed within two seconds, and if not, because of whom?",
        "Завершились ли все очистки за две секунды, а если нет, то из-за кого?",
    ),
    ("Sites and their hostnames (operators)", "Сайты и их имена (для операторов)"),
    ("Users of the console (operators)", "Пользователи консоли (для операторов)"),
    ("API tokens of a site (operators)", "Токены API для сайта (для операторов)"),
    ("Edge nodes (operators)", "Узлы сети (для операторов)"),
    ("Control planes beside one log (operators)", "Управляющие серверы с общим журналом (для операторов)"),
    ("Who did what (operators)", "Кто что сделал (для операторов)"),
    ("Certificates for nodes and control plane", "Сертификаты для узлов и управляющего сервера"),
    (
        "Run the whole system on loopback: control plane, nodes, origin",
        "Запустить всю систему на этой машине: управляющий сервер, узлы, источник",
    ),
    ("Print a completion script for a shell", "Вывести сценарий автодополнения для оболочки"),
    ("Write the man pages into a folder that is there", "Записать страницы man в существующую папку"),
    ("The folder", "Папка"),
    ("The shell", "Оболочка"),
    (
        "When each PoP and the slowest nodes came how far, and why those were late",
        "Когда очистка прошла каждую ступень на площадках и самых медленных узлах и что их задержало",
    ),
    (
        "Is all well, and if not, what needs attention? (operators)",
        "Всё ли в порядке, а если нет, что требует внимания? (для операторов)",
    ),
    (
        "Day by day, as JSON or for a spreadsheet (operators)",
        "По дням, в JSON или для таблиц (для операторов)",
    ),
    (
        "Of all sites together, instead of the one that --site names",
        "По всем сайтам вместе, а не по указанному в --site",
    ),
    ("The first day, such as 2026-04-01", "Первый день, например 2026-04-01"),
    ("The last day", "Последний день"),
    ("30 days", "30 дней"),
    ("today", "сегодня"),
    ("For programs or for spreadsheets", "Для программ или для таблиц"),
    (
        "Which table, as CSV: a line a day, or a line for each node that a late purge waited for",
        "Какая таблица в CSV: строка на день или строка на каждый узел, которого ждала опоздавшая очистка",
    ),
    // Connection
    (
        "Where the APIs are, and who asks. Flags go before the environment, the environment before the configuration file, \
         for each setting. A variable that is empty is not set; what is named must be there",
        "Где находятся API и кто спрашивает. Для каждой настройки ключи важнее переменных окружения, а те — файла настроек",
    ),
    ("Configuration file", "Файл настроек"),
    ("~/.config/batoff/config.toml, if it exists", "~/.config/batoff/config.toml, если он есть"),
    (
        "The purge API, such as https://purge.example.net/v1; of several control planes all, with commas between them: \
         one that does not answer is left for the next",
        "API очистки, например https://purge.example.net/v1; если управляющих серверов несколько, все через \
         запятую: когда один не отвечает, спрашивают следующий",
    ),
    ("The site", "Сайт"),
    (
        "API token (bto_live_…); a command line is visible to other users of the machine, so prefer the others",
        "Токен API (bto_live_…); командную строку видят другие пользователи машины, поэтому лучше другие способы",
    ),
    ("File with the API token", "Файл с токеном API"),
    ("Signing secret (bts_live_…)", "Секрет подписи (bts_live_…)"),
    ("File with the signing secret", "Файл с секретом подписи"),
    (
        "The admin API; of several control planes all, with commas between them",
        "API оператора; если управляющих серверов несколько, все через запятую",
    ),
    ("Admin token (bto_admin_…)", "Токен оператора (bto_admin_…)"),
    (
        "File with the admin token, as `batoff-control init` makes it",
        "Файл с токеном оператора, его создаёт `batoff-control init`",
    ),
    (
        "Trust the authorities in this PEM file instead of the system's",
        "Доверять удостоверяющим центрам из этого файла PEM, а не системным",
    ),
    (
        "Certificate to show to the admin API (PEM; with its key)",
        "Сертификат, который показывать API оператора (PEM; вместе с ключом)",
    ),
    ("Its private key (PEM)", "Его закрытый ключ (PEM)"),
    (
        "For people, or one JSON document a line for scripts; errors, too",
        "Для людей или, для сценариев, по документу JSON на строку; ошибки тоже",
    ),
    // purge
    ("Exact URLs (same as --url)", "Точные URL (то же, что --url)"),
    (
        "An exact URL, with all its variants, under http and https; may be repeated",
        "Точный URL со всеми вариантами, по http и https; можно повторять",
    ),
    (
        "Every URL that begins with these characters; may be repeated",
        "Все URL, которые начинаются с этих символов; можно повторять",
    ),
    (
        "Every object with this tag (Cache-Tag); may be repeated",
        "Все объекты с этим тегом (Cache-Tag); можно повторять",
    ),
    ("Everything under a hostname; may be repeated", "Всё под этим именем хоста; можно повторять"),
    ("Everything that is cached for the site", "Всё, что хранится в кэшах для сайта"),
    (
        "URLs from a file, one a line; blank lines and what follows a # at the beginning or behind white space are skipped; \
         - reads standard input",
        "URL из файла, по одному на строку; пустые строки и всё после # в начале или после пробела пропускается; \
         - читает стандартный ввод",
    ),
    ("Mark stale instead of removing", "Пометить устаревшим, а не удалять"),
    (
        "Show what would be purged and how many cached objects that is; purge nothing",
        "Показать, что было бы очищено и сколько это объектов в кэшах; ничего не очищать",
    ),
    (
        "Refuse the purge if it would hit more cached objects than this, or if that cannot be counted on every node now",
        "Отказаться, если очистка затронет больше объектов или если сейчас их нельзя сосчитать на каждом узле",
    ),
    (
        "Wait until no node can serve it any more, at most SECS",
        "Ждать, пока ни один узел не сможет это отдать, не дольше SECS секунд",
    ),
    (
        "Submissions with the same key and content within 24 hours are one purge",
        "Запросы с тем же ключом и содержимым в течение 24 часов — одна очистка",
    ),
    // status, list, sla
    ("The task's id, as `purge` prints it", "Идентификатор задачи, его выводит `purge`"),
    ("Wait until it is completed, at most SECS", "Ждать завершения не дольше SECS секунд"),
    ("One line a PoP", "По строке на площадку"),
    ("The purged items in normal form", "Очищенные элементы в нормальной форме"),
    ("Only tasks in this state", "Только задачи в этом состоянии"),
    ("Only tasks with an item of this kind", "Только задачи с элементом этого вида"),
    (
        "Only tasks accepted since then: a time (2026-04-20T08:12:31Z) or an age (90s, 15m, 24h, 7d)",
        "Только задачи, принятые с этого времени: время (2026-04-20T08:12:31Z) или давность (90s, 15m, 24h, 7d)",
    ),
    (
        "Do not list: show each purge as it is accepted and as its state changes, until interrupted",
        "Вместо списка показывать каждую очистку, когда её приняли и когда меняется её состояние, пока не прервут",
    ),
    ("At most so many tasks", "Не больше стольких задач"),
    (
        "How far back: a number and s, m, h or d, at most 30d",
        "За какой срок: число и s, m, h или d, не больше 30d",
    ),
    ("Of all sites together (operators)", "По всем сайтам вместе (для операторов)"),
    // sites
    (
        "All sites with their hostnames, quotas, and how many objects came with more tags than the site allows",
        "Все сайты: имена, квоты и сколько объектов пришло с бо́льшим числом тегов, чем сайту разрешено",
    ),
    ("One site", "Один сайт"),
    ("Create a site", "Создать сайт"),
    ("1 to 64 of a-z, 0-9 and -", "От 1 до 64 символов: a-z, 0-9 и -"),
    (
        "Replace a site's hostnames or quotas; what leaves the site is purged everywhere",
        "Заменить имена или квоты сайта; что уходит от сайта, очищается везде",
    ),
    (
        "Delete a site and its tokens; everything cached for it is purged",
        "Удалить сайт и его токены; всё, что хранится для него в кэшах, очищается",
    ),
    ("Do not ask, on a terminal either", "Не спрашивать, даже в терминале"),
    (
        "A hostname, or *.example.com for all names under one; may be repeated or separated by commas",
        "Имя хоста, или *.example.com для всех имён под ним; можно повторять или перечислять через запятую",
    ),
    ("Take names that other sites have away from them", "Забрать имена у других сайтов"),
    ("URL and tag items a minute", "Элементов url и tag в минуту"),
    ("Prefix, host and everything items a minute", "Элементов prefix, host и everything в минуту"),
    (
        "Tags of a response that are indexed, up to 1024 [default: 16]; an object with more is hit by every purge of a tag",
        "Сколько тегов ответа заносится в индекс, до 1024 [по умолчанию: 16]; объект, у которого их больше, затрагивает \
         очистка по любому тегу",
    ),
    // tokens
    (
        "Issue a token with its signing secret; both are shown this once",
        "Выпустить токен с секретом подписи; оба показываются один раз",
    ),
    ("What it is for, in your words", "Для чего он, вашими словами"),
    ("What it may do", "Что ему разрешено"),
    (
        "When it ends: a time (2027-01-01T00:00:00Z) or a period from now (90d)",
        "Когда истекает: время (2027-01-01T00:00:00Z) или срок от этого момента (90d)",
    ),
    ("never", "никогда"),
    ("A site's tokens (never the tokens themselves)", "Токены сайта (сами токены не показываются никогда)"),
    ("Those that were revoked instead", "Вместо них те, что отозваны"),
    (
        "Revoke a token; it is refused everywhere within a second",
        "Отозвать токен; в течение секунды он перестанет действовать везде",
    ),
    ("The token's id, from the list", "Идентификатор токена из списка"),
    // users
    (
        "All users of the console with their roles, sites and last sign-in",
        "Все пользователи консоли: роли, сайты, последний вход",
    ),
    (
        "Add a user with a one-time password, which is shown this once and must be changed at the first sign-in",
        "Добавить пользователя с одноразовым паролем: он показывается один раз, при первом входе его нужно сменить",
    ),
    ("1 to 64 of a-z, 0-9 and . _ @ -", "От 1 до 64 символов: a-z, 0-9 и . _ @ -"),
    ("What the user may do", "Что пользователю разрешено"),
    (
        "A site the user is for; may be repeated or separated by commas; an operator is for all",
        "Сайт, для которого пользователь; можно повторять или перечислять через запятую; оператор — для всех",
    ),
    ("Language of the pages", "Язык страниц"),
    ("One user", "Один пользователь"),
    ("The user", "Пользователь"),
    (
        "Change what a user may do; with another role, or disabled, the user is signed out everywhere",
        "Изменить, что пользователю разрешено; при другой роли или отключении его сеансы завершаются",
    ),
    ("The user cannot sign in", "Пользователь не может войти"),
    ("The user can sign in again", "Пользователь снова может войти"),
    (
        "Give a user a new one-time password, shown this once; ends all sessions and forgets failed sign-ins",
        "Выдать новый одноразовый пароль, он показывается один раз; сеансы завершаются, неудачные входы забываются",
    ),
    (
        "Ask for no code of an authenticator any more, for a user who has lost it",
        "Больше не спрашивать код аутентификатора: для того, кто его потерял",
    ),
    (
        "Ask a user for no code of an authenticator any more, for one who has lost it and knows the password",
        "Больше не спрашивать у пользователя код из приложения: тот потерян, а пароль известен",
    ),
    (
        "Sign a user out everywhere: all sessions end within a second",
        "Завершить все сеансы пользователя; это занимает до секунды",
    ),
    (
        "Remove a user; all sessions end within a second",
        "Удалить пользователя; его сеансы завершаются в течение секунды",
    ),
    // nodes
    (
        "All registered nodes: state, lag, lease, trouble",
        "Все узлы: состояние, отставание, аренда, неполадки",
    ),
    (
        "Decommission a node: purges no longer wait for it, and its name is blocked",
        "Вывести узел: очистки его больше не ждут, имя блокируется",
    ),
    ("The node, as fra1/edge-03", "Узел, например fra1/edge-03"),
    ("Also when it may still serve what was purged", "И тогда, когда он ещё может отдать очищенное"),
    ("Let a removed node connect again", "Разрешить удалённому узлу подключиться снова"),
    // replicas
    (
        "All control planes beside the log: role, how far each is, who is late",
        "Все управляющие серверы с этим журналом: роль, продвижение, кто отстаёт",
    ),
    (
        "Is everything that is accepted completed, and could it be if one more control plane failed?",
        "Завершено ли всё принятое и завершалось бы, если откажет ещё один управляющий сервер?",
    ),
    (
        "Let one more control plane count, which has started and follows the log",
        "Считать ещё один управляющий сервер, который запущен и следует за журналом",
    ),
    ("Its number", "Его номер"),
    (
        "Also when it is not ready, or strict nodes would go to the origin for a while",
        "И тогда, когда он не готов или строгим узлам придётся какое-то время обращаться к источнику",
    ),
    (
        "Let a control plane count no more; stop it when the change is completed",
        "Больше не считать управляющий сервер; остановите его, когда изменение завершится",
    ),
    ("Also when too few of the others are there", "И тогда, когда остальных слишком мало"),
    (
        "Write which control planes count from now on: a majority of them completes purges and keeps nodes serving",
        "Записать, какие управляющие серверы считаются впредь: их большинство завершает очистки и даёт узлам аренду",
    ),
    ("Their numbers, as 1 2 3", "Их номера, например 1 2 3"),
    (
        "Also when too few of them are there, or strict nodes would go to the origin for a while",
        "И тогда, когда их слишком мало или строгим узлам придётся какое-то время обращаться к источнику",
    ),
    // audit
    (
        "List what was done, newest first; with --site, only what was about that site",
        "Список сделанного, сначала новое; с --site только то, что касалось сайта",
    ),
    (
        "Write the log to standard output, oldest first, one JSON document a line",
        "Вывести журнал, сначала старое, по документу JSON на строку",
    ),
    ("The number of the first entry", "Номер первой записи"),
    (
        "Check that nothing in the log was changed, taken out or cut off; prints its head, to be kept elsewhere",
        "Проверить, что в журнале ничего не изменили, не изъяли и не отрезали; выводит конец цепочки, храните его отдельно",
    ),
    (
        "The head that an earlier check printed: shows that everything up to there is still as it was",
        "Конец цепочки из прошлой проверки: покажет, что всё до него осталось как было",
    ),
    ("Check an exported file instead; asks nobody", "Проверить выгруженный файл, никого не спрашивая"),
    (
        "Only what this actor did: admin, token:TOKEN_ID or user:NAME",
        "Только сделанное им: admin, token:TOKEN_ID или user:NAME",
    ),
    (
        "Only this kind, such as purge, site.change or token.revoke",
        "Только этот вид, например purge, site.change или token.revoke",
    ),
    (
        "Only since then: a time (2026-04-20T08:12:31Z) or an age (90s, 15m, 24h, 7d)",
        "Только с этого времени: время (2026-04-20T08:12:31Z) или давность (90s, 15m, 24h, 7d)",
    ),
    ("Only before then: a time or an age", "Только до этого времени: время или давность"),
    ("At most so many entries", "Не больше стольких записей"),
    // certs
    (
        "Make an authority of your own: ca.pem and ca.key (0600), good for ten years",
        "Создать свой удостоверяющий центр: ca.pem и ca.key (0600), на десять лет",
    ),
    ("Folder for the files; made if it does not exist", "Папка для файлов; создаётся, если её нет"),
    (
        "Issue a certificate and its key (0600) to a node, to the control plane, to an operator, or to the console's proxy",
        "Выпустить сертификат и ключ (0600) для узла, управляющего сервера, оператора или прокси консоли",
    ),
    (
        "For the proxy that signs people in to the console, by this DNS name: console-proxy.pem and .key",
        "Для прокси, через который люди входят в консоль, под этим именем DNS: console-proxy.pem и .key",
    ),
    (
        "Folder with ca.pem and ca.key; the new files go there, too",
        "Папка с ca.pem и ca.key; новые файлы появятся там же",
    ),
    (
        "For this node, as fra1/edge-03: <pop>-<node>.pem and .key",
        "Для этого узла, например fra1/edge-03: <pop>-<node>.pem и .key",
    ),
    (
        "For the control plane, reached under these hostnames or addresses: control.pem and .key",
        "Для управляющего сервера, доступного под этими именами или адресами: control.pem и .key",
    ),
    (
        "For an operator, to be shown to the admin API (batoff --client-cert): operator-<name>.pem and .key",
        "Для оператора, чтобы показывать API оператора (batoff --client-cert): operator-<name>.pem и .key",
    ),
    ("How long it is good", "На сколько дней"),
    (
        "Show whose a certificate is, how long it is good, who issued it, and whether its key fits; exits with 1 if not all is well",
        "Показать, чей это сертификат, до какого срока, кем выпущен и подходит ли ключ; код выхода 1, если не всё в порядке",
    ),
    (
        "Certificates (PEM); the key of each is looked for beside it, as <name>.key",
        "Сертификаты (PEM); ключ каждого ищется рядом, под именем <name>.key",
    ),
    (
        "The authority to compare with; ca.pem beside the certificate unless given",
        "Удостоверяющий центр для сравнения; если не указан, ca.pem рядом с сертификатом",
    ),
    (
        "Issue certificates anew to the same holders, with new keys; the old files are kept as <name>.pem.old and .key.old",
        "Выпустить сертификаты тем же владельцам заново, с новыми ключами; старые файлы останутся как <name>.pem.old и .key.old",
    ),
    ("Folder with ca.pem and ca.key", "Папка с ca.pem и ca.key"),
    (
        "Certificates (PEM) to be replaced; the key of each lies beside it, as <name>.key",
        "Сертификаты (PEM) на замену; ключ каждого лежит рядом, под именем <name>.key",
    ),
    ("How long they are good", "На сколько дней"),
    // dev
    (
        "Print one line of JSON when everything is ready, and nothing else on standard output",
        "Когда всё готово, вывести одну строку JSON, и больше ничего на стандартный вывод",
    ),
    ("First of the ports; 0 takes free ones", "Первый из портов; 0 берёт свободные"),
    ("How many PoPs, of one node each", "Сколько площадок, по одному узлу в каждой"),
    (
        "How many control planes, over as many members of etcd when more than one",
        "Сколько управляющих серверов; если больше одного, то над стольким же числом участников etcd",
    ),
    (
        "Keep all data in this folder, which may exist and hold other files",
        "Хранить данные в этой папке; она может существовать, и в ней могут быть другие файлы",
    ),
    ("a temporary one", "временная"),
    (
        "Run one purge of each kind, show HIT → purge → MISS on each PoP, and exit 0 or 1; with several replicas, kill some",
        "По одной очистке каждого вида: показать HIT → очистка → MISS на каждой площадке и выйти с 0 или 1; если серверов несколько, убить некоторые",
    ),
    (
        "Start a program again when it dies, on the same addresses with the same data",
        "Запускать умершую программу снова, на тех же адресах с теми же данными",
    ),
    (
        "Show the programs' logs on standard error, too",
        "Показывать и журналы программ, на стандартном выводе ошибок",
    ),
];
