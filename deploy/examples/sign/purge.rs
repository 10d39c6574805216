//! Purges a URL and tags, and waits until no node can serve them any more: the Rust SDK, which signs and tries again.
//!
//! ```sh
//! export BATOFF_API=https://purge.example.net BATOFF_SITE=shop BATOFF_TOKEN=bto_live_… BATOFF_SECRET=bts_live_…
//! cargo run -p batoff-client --example purge https://www.example.com/index.html product:42 category:shoes
//! ```

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use batoff_client::{Client, Credentials, Endpoint, Error, PurgeRequest};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match purge().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Title, code and detail of the API's answer, and each bad item.
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn purge() -> Result<(), Error> {
    let set = |name: &str| env::var(name).map_err(|_| Error::Unusable(format!("set {name}")));
    let (site, key) = (set("BATOFF_SITE")?, env::var("BATOFF_KEY").ok());
    let credentials = Credentials::new(&set("BATOFF_TOKEN")?, &set("BATOFF_SECRET")?);
    let client = Client::new(Endpoint::new(&set("BATOFF_API")?)?, credentials)?;

    let mut items = env::args().skip(1);
    let url = items.next().ok_or_else(|| Error::Unusable("usage: purge URL [TAG…]".to_owned()))?;
    let purge = items.fold(PurgeRequest::default().url(url), PurgeRequest::tag);

    // Signed once: all tries carry the same bytes, and are one purge. With a key (the id of a deployment) so is a second
    // run of this program.
    let submission = client.prepare(&site, &purge, key.as_deref())?;
    let task = client.send(&submission).await?;
    println!("{}", task.task_id); // from here on it takes effect, whatever happens to this program

    let task = client.wait(&site, &task.task_id, Duration::from_secs(60)).await?;
    if !task.is_completed() {
        return Err(Error::Unusable(format!("not completed after 60 s: {}", task.state)));
    }
    let nodes = task.nodes.unwrap_or_default().total;
    println!("completed in {} ms on {nodes} nodes", task.propagation_ms.unwrap_or_default());
    Ok(())
}
