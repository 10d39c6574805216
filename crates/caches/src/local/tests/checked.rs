//! `batoff-edge check local`

use batoff_types::message::LeasePolicy::Revalidate;

use super::node::{Node, eventually};
use super::shelf::Cache;
use crate::local::check::{self, CheckArgs};
use crate::local::{LocalSection, Mode};
use crate::shared::report::{CheckError, Report};

async fn check(section: &LocalSection) -> Result<Report, CheckError> {
    check::check(&CheckArgs::default(), section, false).await
}

#[tokio::test]
async fn a_running_set_up_holds_and_what_is_missing_is_named() {
    let node = Node::start(Revalidate, &[("web", Mode::Page), ("img", Mode::Lookup)]).await;
    let web = Cache::start(&node, "web").await;
    web.fill("/a", "t").await;
    let img = Cache::start(&node, "img").await;
    let report = check(&node.section).await.unwrap();
    report.verdict().unwrap_or_else(|error| panic!("{error}\n{report}"));
    assert!(report.to_string().contains("web (page) is in sync, with 1 objects"), "{report}");
    assert_eq!(node.index.stats().entries, 1, "nothing of the check stays");
    assert_eq!(web.serves(), ["/a"]);

    drop(img);
    eventually("it is missed", async || {
        let report = check(&node.section).await.unwrap();
        report.verdict().is_err() && report.to_string().contains("WRONG  img (lookup) is in sync")
    })
    .await;
    node.fence.close();
    node.caches.iter().for_each(|cache| cache.serve_until(batoff_types::Moment::ZERO));
    let report = check(&node.section).await.unwrap().to_string();
    assert!(report.contains("WRONG  web may serve"), "{report}");

    let pages = node.section.pages.join("web.page");
    std::fs::remove_file(&pages).unwrap();
    let report = check(&node.section).await.unwrap().to_string();
    assert!(report.contains("WRONG  web may read its page"), "{report}");
}

#[tokio::test]
async fn a_daemon_that_is_not_there_is_said() {
    let node = Node::start(Revalidate, &[("web", Mode::Page)]).await;
    let nowhere = node.section.socket.with_extension("none");
    let section = crate::local::LocalSection { socket: nowhere, ..node.section.clone() };
    let error = check(&section).await.unwrap_err().to_string();
    assert!(error.contains("local.none") && error.contains("is the daemon running"), "{error}");
}
