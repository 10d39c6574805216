//! `batoff-proxy`: the reference caching reverse proxy with the edge daemon inside.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use batoff_edge::cache::InProcess;
use batoff_edge::config::load;
use batoff_edge::program::{self, Flags, Signals};
use batoff_edge::{Daemon, DaemonConfig, certs, logs, metrics, monitor};
use batoff_index::IndexConfig;
use batoff_proxy::config::ProxyConfig;
use batoff_proxy::figures::{self, Figures};
use batoff_proxy::{Locator, Proxy, Shield, Store};
use clap::Parser;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A caching reverse proxy that takes purges back at once.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
}

fn main() -> ExitCode {
    match program::parse::<Cli>() {
        Ok(cli) => program::run(run(cli.flags)).into(),
        Err(exit) => exit.into(),
    }
}

async fn run(flags: Flags) -> anyhow::Result<()> {
    let config: ProxyConfig = load(&flags.config)?;
    let daemon = DaemonConfig::try_from(&config)?;
    let origins = config.proxy.origins()?;
    let children = config.children()?;
    logs::filter(&config.log)?;
    if flags.check {
        certs::check(&daemon.control)?;
        let mut lines = program::checked_daemon(&daemon, &config.log);
        lines.push(format!("proxy   {}", config.proxy.listen));
        lines.push(format!("metrics {}", config.metrics.listen));
        program::checked(&flags.config, &lines);
        return Ok(());
    }
    logs::install(&config.log)?;
    let recorder = metrics::install("batoff-proxy").context("the metrics recorder")?;
    figures::declare();
    let signals = Signals::listen(flags.exit_with_parent)?;

    let opened = Daemon::open::<Locator>(daemon, IndexConfig::default())?;
    let proxy = &config.proxy;
    let store: &'static Store = Box::leak(Box::new(Store::new(
        opened.index(),
        opened.path(),
        proxy.memory_bytes,
        proxy.object_bytes_max,
    )));
    let visitors = bind("proxy.listen", proxy.listen).await?;
    let monitoring = bind("metrics.listen", config.metrics.listen).await?;
    let addresses = json!({
        "proxy": visitors.local_addr()?.to_string(),
        "metrics": monitoring.local_addr()?.to_string(),
        "pid": std::process::id(),
    });

    let shield = Shield::new(opened.standing(), children);
    let handle = opened.start(vec![Box::new(InProcess::new("proxy", store))]);
    let stop_monitoring = CancellationToken::new();
    let figures = Figures { daemon: handle.monitor(), store };
    let vital = handle.vital();
    let monitoring = monitor::serve(monitoring, recorder, Arc::new(figures), stop_monitoring.clone());
    tokio::spawn(vital.watch("monitoring", &stop_monitoring, monitoring));
    let mut server =
        Proxy::new(store, handle.fence(), origins, shield, proxy.keep_tag_header, config.listeners);
    server.reserve_descriptors().context("listeners.connections_max")?;
    let server = server.serve(visitors, signals.stop.clone());
    let server = tokio::spawn(vital.watch("visitors", &signals.stop, server));
    if flags.announce {
        program::announce(&addresses)?;
    }

    loop {
        tokio::select! {
            () = signals.stop.cancelled() => break,
            () = signals.reload.notified() => handle.reload(),
            () = vital.failed() => anyhow::bail!("stopped because of the error logged above"),
        }
    }
    tracing::info!("draining");
    // The fence first: what is still answered below comes from the origin.
    handle.shutdown().await;
    server.await.context("the accept loop")?;
    stop_monitoring.cancel();
    Ok(())
}

async fn bind(key: &'static str, address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {key} = {address}"))
}
