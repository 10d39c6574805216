use std::net::SocketAddr;

use batoff_client::{
    AdminClient, Client, Credentials, Endpoint, Error, IssueToken, ListQuery, NewSite, Nodes, SiteLimits,
    SitePatch,
};

use super::folder::{DemoCredentials, Folder};
use super::plan::NodePlan;
use crate::exit::Failure;

/// The site of the demonstration.
const SITE: &str = "demo";

/// Its hostnames; `.test` is reserved, so none of them is anybody's.
const HOSTS: [&str; 3] = ["www.example.test", "static.example.test", "img.example.test"];

/// Makes the demo site, or finds it in a folder that was used before; its hostnames.
pub async fn site(admin: &AdminClient) -> Result<Vec<String>, Failure> {
    let hostnames = HOSTS.map(str::to_owned).to_vec();
    match admin.site(SITE).await {
        Ok(site) if HOSTS.iter().all(|host| site.hostnames.iter().any(|name| name == host)) => {
            Ok(site.hostnames)
        }
        Ok(_) => {
            let patch = SitePatch { hostnames: Some(hostnames), ..SitePatch::default() };
            Ok(admin.update_site(SITE, &patch).await?.hostnames)
        }
        Err(Error::Refused(problem)) if problem.status == 404 => {
            let site = NewSite {
                site_id: SITE.to_owned(),
                hostnames,
                limits: SiteLimits::default(),
                takes_names: false,
            };
            Ok(admin.create_site(&site).await?.hostnames)
        }
        Err(error) => Err(error.into()),
    }
}

/// The credentials that the folder keeps, as long as they are good; otherwise new ones.
pub async fn credentials(
    admin: &AdminClient,
    api: SocketAddr,
    folder: &Folder,
) -> Result<DemoCredentials, Failure> {
    if let Some(kept) = folder.credentials().filter(|kept| kept.site == SITE) {
        let endpoint = Endpoint::new(&format!("http://{api}"))?;
        let client = Client::new(endpoint, Credentials::new(&kept.token, &kept.secret))?;
        let query = ListQuery { limit: Some(1), ..ListQuery::default() };
        match client.list(SITE, &query).await {
            Ok(_) => return Ok(kept),
            // Of an earlier life of the folder: its control plane knows nothing of them any more.
            Err(Error::Refused(problem)) if matches!(problem.status, 401 | 403) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let wanted =
        IssueToken { label: "batoff dev".to_owned(), scopes: vec!["purge".to_owned()], expires_at: None };
    let issued = admin.issue_token(SITE, &wanted).await?;
    let credentials = DemoCredentials {
        site: SITE.to_owned(),
        token_id: issued.token_id,
        token: issued.token,
        secret: issued.secret,
    };
    folder.keep_credentials(&credentials)?;
    Ok(credentials)
}

/// The folder may have been started with other PoPs. Nodes that are not planned are gone for good, so purges must not
/// wait for them; those that went earlier and are planned again may come back.
pub async fn settle_nodes(admin: &AdminClient, planned: &[NodePlan]) -> Result<(), Failure> {
    let Nodes { nodes, removed } = admin.nodes().await?;
    for node in nodes {
        if !planned.iter().any(|plan| plan.name.pop() == node.pop && plan.name.node() == node.node) {
            admin.remove_node(&node.pop, &node.node, true).await?;
        }
    }
    for NodePlan { name, .. } in planned {
        if removed.contains(&name.to_string()) {
            admin.admit_node(name.pop(), name.node()).await?;
        }
    }
    Ok(())
}
