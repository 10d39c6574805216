//! A process that has to wait for its seat says so, and can be ended.

use batoff_tests::{System, eventually, readiness_at};

use super::three;

/// How many seconds it says that it still has to wait.
fn seconds_to_wait(reason: &str) -> Option<u64> {
    let (seconds, rest) =
        reason.strip_prefix("waits ")?.split_once(" s more, until an earlier process of ")?;
    rest.contains("has certainly stopped").then_some(())?;
    seconds.parse().ok()
}

#[tokio::test]
async fn who_waits_for_a_seat_says_for_how_long_and_ends_at_once_when_it_is_asked_to() {
    let system = System::start(three()).await;
    let (mut twin, monitor) = system.twin_of_the_second();
    twin.begin();
    let waits = async || {
        let (status, reason) = readiness_at(&monitor).await?;
        assert_eq!(status, 503, "it is not ready: {reason}");
        seconds_to_wait(&reason)
    };
    let first = eventually("it says for how long it waits", &waits).await;
    assert!((10..=40).contains(&first), "a process of which nothing is known may act for 30 s: {first}");
    eventually("that becomes less", || async { waits().await.filter(|seconds| *seconds < first) }).await;
    let alive = batoff_tests::http().get(format!("{monitor}/healthz")).send().await.unwrap();
    assert_eq!(alive.status().as_u16(), 200, "whoever waits is well");

    assert_eq!(twin.stop().await, 0, "it ends well:\n{}", twin.log());
    assert!(
        !twin.log().contains("has the replica's seat"),
        "it ends before the wait is over:\n{}",
        twin.log()
    );
    // The one that ran has heard that somebody else is registered, and says what to do.
    eventually("the first says why it is not ready", || async {
        let (status, reason) = system.readiness(1).await;
        (status == 503 && reason.contains("stop one of the two")).then_some(())
    })
    .await;
}
