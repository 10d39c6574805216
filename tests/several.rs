//! A client that knows several control planes, and one of them dies in the middle.

use std::time::Duration;

use batoff_client::{Client, Credentials, Endpoint, PurgeRequest, Task};
use batoff_tests::{SITE, System, SystemPlan};

const PATIENCE: Duration = Duration::from_secs(30);

fn purge(path: &str) -> PurgeRequest {
    PurgeRequest::default().url(System::url(path))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_with_one_is_waited_for_and_followed_with_the_others() {
    let mut system = System::start(SystemPlan { nodes: 1, replicas: 3, ..SystemPlan::default() }).await;
    let all: Vec<_> = system.customers.iter().map(|customer| customer.api.as_str()).collect();
    let endpoint = Endpoint::new(&all.join(",")).unwrap();
    let credentials = Credentials::new(&system.customer.token, &system.customer.secret);
    let client = Client::new(endpoint, credentials).unwrap();

    let mut events = client.events(SITE, None).await.unwrap();
    let submission = client.prepare(SITE, &purge("/a"), None).unwrap();
    let task = client.send(&submission).await.unwrap();
    let told: Task = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(told.task_id, task.task_id);
    system.control.kill();

    let done = client.wait(SITE, &task.task_id, PATIENCE).await.unwrap();
    assert!(done.is_completed(), "{done:?}");
    // The same bytes once more, as if the answer had been lost with the first: the same purge.
    assert_eq!(client.send(&submission).await.unwrap().task_id, task.task_id);
    let next = client.submit(SITE, &purge("/b")).await.unwrap();
    assert_ne!(next.task_id, task.task_id);

    let mut last = events.last_id().map(str::to_owned);
    let followed = async {
        loop {
            match events.next().await {
                Ok(Some(told)) if told.task_id == next.task_id => return,
                Ok(Some(_)) => last = events.last_id().map(str::to_owned),
                Ok(None) | Err(_) => events = client.events(SITE, last.as_deref()).await.unwrap(),
            }
        }
    };
    tokio::time::timeout(PATIENCE, followed).await.unwrap();
}
