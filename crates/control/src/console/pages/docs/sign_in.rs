//! How one signs in to the console, with an account of ours or through an authenticating proxy: for who sets it up.

use crate::console::words::words;

words! {
    /// What the operators' page says of it.
    pub enum SignInText {
        Title: "Who signs in here", "Кто сюда входит";
        Accounts: "Either somebody has an account here (**Users**): a password, if wanted a code of an authenticator, and a role for sites. Or an authenticating proxy signs people in (oauth2-proxy, Authelia, Apache with mod_auth_openidc, nginx with `auth_request`), and nobody needs a password here.", "Либо у человека есть учётная запись здесь (**Пользователи**): пароль, при желании код из приложения, и роль для сайтов. Либо людей впускает сервер авторизации (oauth2-proxy, Authelia, Apache с mod_auth_openidc, nginx с `auth_request`), и пароль здесь не нужен никому.";
        Proxy: "Through a proxy", "Через сервер авторизации";
        ProxyAbout: "With each request the proxy says who asks and in which groups he is; what members of a group may do stands in `control.toml`. Who is in no group that is named there is not let in.", "С каждым запросом сервер сообщает, кто просит и в каких он группах; что разрешено членам группы, задано в `control.toml`. Кого нет ни в одной из названных там групп, того не впускают.";
        Certificate: "Its word is taken on connections alone that show its client certificate: `batoff certs issue --dir pki --console-proxy sso.example.net` makes one. The headers of anybody else are as if they were absent.", "Ему верят только на соединениях с его клиентским сертификатом: его выпускает `batoff certs issue --dir pki --console-proxy sso.example.net`. Такие же заголовки от других не учитываются.";
        Nginx: "Of nginx. It must put its own headers in the place of what a client sends, and send `Sec-Fetch-Site` and `Origin` on as they came:", "Для nginx. Он должен ставить свои заголовки вместо присланных клиентом, а `Sec-Fetch-Site` и `Origin` передавать как есть:";
        Refused: "A header that comes twice, or once more with underscores, is refused, and so is the name of an account with a password: who did what must be certain. Name the proxy's address in `api.trusted_proxies`, so that the audit log has people's addresses and not the proxy's.", "Заголовок, пришедший дважды или ещё раз с подчёркиваниями, отклоняется, как и имя учётной записи с паролем: должно быть ясно, кто что сделал. Укажите адрес сервера в `api.trusted_proxies`, чтобы в аудите были адреса людей, а не его.";
        Sessions: "No session begins here: one is signed out as soon as one is signed out there. The first operator still signs in with a password, where the proxy lets him or `required` is not set.", "Сеанс здесь не начинается: выйти там — значит выйти и здесь. Первый оператор по-прежнему входит по паролю, если сервер его пропускает или `required` не задано.";
    }
}

/// What `control.toml` says of the proxy.
pub const CONFIG: &str = r#"[console.proxy]
ca = "/etc/batoff/ca.pem"
name = "sso.example.net"
required = true
sign_out_url = "/oauth2/sign_out"

[[console.proxy.groups]]
group = "cdn-operators"
role = "operator"

[[console.proxy.groups]]
group = "shop-editors"
role = "member"
sites = ["shop"]
"#;

/// What nginx says, as in `deploy/README.md`.
pub const NGINX: &str = r#"location / {
    auth_request /oauth2/auth;
    auth_request_set $user $upstream_http_x_auth_request_email;
    auth_request_set $groups $upstream_http_x_auth_request_groups;
    proxy_pass https://control.example.net:8081;
    proxy_http_version 1.1;
    proxy_ssl_certificate /etc/nginx/console-proxy.pem;
    proxy_ssl_certificate_key /etc/nginx/console-proxy.key;
    proxy_ssl_trusted_certificate /etc/nginx/ca.pem;
    proxy_ssl_verify on;
    proxy_set_header X-Forwarded-User $user;       # in the place of what a client sends: this must not be left out
    proxy_set_header X-Forwarded-Groups $groups;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header Host $host;
    proxy_buffering off;                           # news come as a stream
}
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_page_shows_a_configuration_that_is_one() {
        let rest = "[data]\ndir = '/var/lib/batoff'\n[console]\nlisten = '0.0.0.0:8081'\ncert = 'console.pem'\nkey = 'console.key'\n\
                    [grpc]\nlisten = '127.0.0.1:0'\nplaintext = true\n";
        let config = Config::parse(&format!("{rest}{CONFIG}"), std::iter::empty()).unwrap();
        let proxy = config.console.proxy.unwrap();
        assert_eq!((proxy.name.as_str(), proxy.groups.len(), proxy.required), ("sso.example.net", 2, true));
    }

    #[test]
    fn the_page_shows_what_the_installation_chapter_shows() {
        let chapter = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/README.md");
        assert!(std::fs::read_to_string(chapter).unwrap().contains(NGINX));
    }
}
