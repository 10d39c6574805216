use axum::http::header::{LOCATION, SET_COOKIE};
use http::{Method, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::plane::Plane;
use super::{Browser, PASSWORD};

fn location(response: &Response<String>) -> &str {
    response.headers().get(LOCATION).map_or("", |path| path.to_str().unwrap())
}

fn session(response: &Response<String>) -> Option<String> {
    let lines = response.headers().get_all(SET_COOKIE).iter().map(|line| line.to_str().unwrap());
    let mut cookies = lines.filter(|line| line.starts_with("batoff="));
    cookies.next().map(|line| line.split(';').next().unwrap().to_owned())
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_operator_signs_in_changes_the_password_and_signs_out() {
    let plane = Plane::start().await;
    let mut browser = Browser::of_nobody(&plane);
    assert_eq!(location(&browser.get("/purges?site=shop").await), "/sign-in?next=%2Fpurges%3Fsite%3Dshop");
    let page = browser.get("/sign-in?next=%2Fpurges").await;
    assert_eq!(page.status(), 200);
    assert!(page.body().contains("name=\"next\" value=\"/purges\""), "{}", page.body());

    let wrong = browser.ask(Method::POST, "/sign-in", "name=admin&password=wrong&code=&next=%2Fpurges").await;
    assert_eq!((wrong.status().as_u16(), session(&wrong)), (422, None));
    assert!(
        wrong.body().contains("The name or the password is wrong.")
            && !wrong.body().contains("value=\"wrong\"")
    );

    let one_time = encoded(plane.console_password());
    let form = format!("name=admin&password={one_time}&code=&next=%2Fpurges");
    let signed_in = browser.ask(Method::POST, "/sign-in", &form).await;
    assert_eq!((signed_in.status().as_u16(), location(&signed_in)), (303, "/account"));
    let first = session(&signed_in).unwrap();
    browser.cookie = Some(first.clone());
    assert_eq!(location(&browser.get("/purges").await), "/account", "nothing before the password is changed");
    assert_eq!(browser.get("/account").await.status(), 200);

    let new = encoded(PASSWORD);
    let differs = format!("present={one_time}&new={new}&repeat=another");
    assert_eq!(browser.ask(Method::POST, "/account/password", &differs).await.status(), 422);
    let form = format!("present={one_time}&new={new}&repeat={new}");
    let changed = browser.ask(Method::POST, "/account/password", &form).await;
    assert_eq!((changed.status().as_u16(), location(&changed)), (303, "/account"), "{}", changed.body());
    let second = session(&changed).unwrap();
    assert_ne!(first, second);
    assert_eq!(
        location(&browser.get("/account").await),
        "/sign-in?next=%2Faccount",
        "the old session is over"
    );
    browser.cookie = Some(second);
    assert_eq!(browser.get("/purges").await.status(), 200);

    let out = browser.ask(Method::POST, "/sign-out", "").await;
    assert_eq!((location(&out), session(&out).as_deref()), ("/sign-in", Some("batoff=")));
    assert_eq!(location(&browser.get("/purges").await), "/sign-in?next=%2Fpurges");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authenticator_is_offered_with_its_drawing_and_its_key() {
    let plane = Plane::start().await;
    let browser = Browser::of(&plane, crate::accounts::Role::Viewer, &["shop"]).await;
    let form = format!("present={}", encoded(PASSWORD));
    assert_eq!(location(&browser.ask(Method::POST, "/account/authenticator", &form).await), "/account");
    let page = browser.get("/account").await;
    assert!(page.body().contains("class=\"qr\"") && page.body().contains("/account/authenticator/confirm"));
    let wrong = browser.ask(Method::POST, "/account/authenticator/confirm", "code=000").await;
    assert_eq!(wrong.status(), 422);
    assert!(wrong.body().contains("class=\"qr\""), "it can be tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_has_a_listener_of_its_own() {
    let plane = Plane::start().await;
    let mut socket = tokio::net::TcpStream::connect(plane.running().addresses.console).await.unwrap();
    let request = "GET /sign-in HTTP/1.1\r\nhost: console.example\r\nconnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("action=\"/sign-in\""), "{answer}");
}
