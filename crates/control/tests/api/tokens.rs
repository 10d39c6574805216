use std::time::{Duration, Instant};

use crate::checks::check;
use crate::rig::Rig;

#[tokio::test]
async fn a_revoked_token_is_refused_within_a_second_and_remembered_as_revoked() {
    let rig = Rig::start().await;
    let token = rig.issue("shop").await;
    let purge = |rig: &Rig| rig.post(r#"{"tags":["a"]}"#).token(&token.text).secret(&token.secret);
    assert_eq!(purge(&rig).send().await.status, 202);
    let began = Instant::now();
    assert!(rig.services.catalog.revoke("shop", token.token.id, "somebody").await.unwrap());
    check("revoked", &purge(&rig).send().await, 401, "invalid_token");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());

    let rig = rig.restart().await;
    check("revoked", &purge(&rig).send().await, 401, "invalid_token");
    let revoked = rig.services.catalog.revoked("shop");
    assert_eq!(revoked.len(), 1);
    assert_eq!((revoked[0].token.id, &*revoked[0].revoked_by), (token.token.id, "somebody"));
    assert_eq!(revoked[0].last_use.map(|last| last.address), Some("127.0.0.1".parse().unwrap()));
}

#[tokio::test]
async fn the_last_use_is_known_to_the_minute_and_survives_a_restart() {
    let rig = Rig::start().await;
    let token = rig.issue("shop").await;
    let id = token.token.id;
    let ask = async |rig: &Rig| {
        let request = rig.get("/v1/sites/shop/purges").token(&token.text).secret(&token.secret);
        assert_eq!(request.send().await.status, 200);
        rig.services.catalog.last_use(id).unwrap()
    };
    assert_eq!(rig.services.catalog.last_use(id), None);
    // Who has the token without its secret does not use it.
    let forged = rig.get("/v1/sites/shop/purges").token(&token.text).secret("bts_live_wrong");
    assert_eq!(forged.send().await.status, 401);
    assert_eq!(rig.services.catalog.last_use(id), None);
    let first = ask(&rig).await;
    rig.advance_millis(59_000);
    assert_eq!(ask(&rig).await, first, "once a minute");
    rig.advance_millis(1_000);
    let second = ask(&rig).await;
    assert_eq!(second.at.0, first.at.0 + 60_000);
    let rig = rig.restart().await;
    assert_eq!(rig.services.catalog.last_use(id), Some(second));
}
