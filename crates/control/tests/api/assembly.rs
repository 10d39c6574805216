//! The control plane as the program starts it, with the test's clock, and its API once more over a log that can fail.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use batoff_control::api;
use batoff_control::clock::Clock;
use batoff_control::commit::Commit;
use batoff_control::config::Config;
use batoff_control::http_server::{self, Listening};
use batoff_control::server::{self, Running};
use batoff_control::service::Services;
use batoff_program::gate::{Gate, Limits};
use batoff_program::listen::ListenersSection;
use batoff_program::traces::Exporter;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::faulty_store::{Faults, FaultyStore};

pub struct Assembly {
    /// Where the API listens whose log can fail.
    pub api: SocketAddr,
    /// Where nodes connect to.
    pub grpc: SocketAddr,
    running: Running,
    serving: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

impl Assembly {
    /// Starts on the data in `dir`, which `batoff-control init` has made.
    pub async fn start(
        dir: &Path,
        clock: Clock,
        settings: &[(String, String)],
    ) -> (Self, Arc<Services>, Faults) {
        let running = server::start(config(dir, settings), clock, None).await.unwrap();
        let faults = Faults::default();
        let services = with_faults(&running.services, faults.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (api, grpc) = (listener.local_addr().unwrap(), running.addresses.grpc);
        let stop = CancellationToken::new();
        let router = api::router(Arc::clone(&services));
        let gate = Gate::new("api", Limits::of(1_024));
        let patience = ListenersSection::default().patience();
        let revoked = batoff_control::revoked::Revoked::default().subscribe();
        let how = Listening { gate, patience, proxies: Vec::new(), tls: None, revoked };
        let serving = tokio::spawn(http_server::serve(listener, how, router, stop.clone()));
        (Self { api, grpc, running, serving, stop }, services, faults)
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
        self.running.drain().await;
    }
}

/// Settings are variables of the environment and their values.
fn config(dir: &Path, settings: &[(String, String)]) -> Config {
    let anywhere = "listen = '127.0.0.1:0'";
    let text = format!(
        "[data]\ndir = {dir:?}\n[api]\n{anywhere}\n[admin]\n{anywhere}\n[console]\n{anywhere}\n[metrics]\n{anywhere}\n\
         [grpc]\n{anywhere}\nplaintext = true\n"
    );
    Config::parse(&text, settings.iter().cloned()).unwrap()
}

/// The same parts, but for a way into the log that fails on demand.
fn with_faults(services: &Services, faults: Faults) -> Arc<Services> {
    let store = FaultyStore::new(Arc::clone(&services.store), faults);
    let commit = Commit::new(
        Arc::clone(&store) as _,
        Arc::clone(&services.catalog),
        Arc::clone(&services.ids),
        services.clock.clone(),
        services.config.limits.submissions_in_flight,
        services.draining.clone(),
    );
    Arc::new(Services {
        config: Arc::clone(&services.config),
        clock: services.clock.clone(),
        ids: Arc::clone(&services.ids),
        tenure: services.tenure.clone(),
        places: Arc::clone(&services.places),
        log_id: services.log_id,
        store,
        catalog: Arc::clone(&services.catalog),
        accounts: Arc::clone(&services.accounts),
        commit: Arc::new(commit),
        audit: Arc::clone(&services.audit),
        tracker: Arc::clone(&services.tracker),
        overview: Arc::clone(&services.overview),
        certificates: Arc::clone(&services.certificates),
        revoked: Arc::clone(&services.revoked),
        hub: Arc::clone(&services.hub),
        traces: services.traces.clone(),
        exporter: Exporter::default(),
        admin_token: services.admin_token,
        followers: services.followers.clone(),
        draining: services.draining.clone(),
    })
}
