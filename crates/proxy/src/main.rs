//! `batoff-proxy`: the reference caching reverse proxy with the edge daemon inside.

use std::process::ExitCode;
use std::sync::Arc;

use batoff_edge::InProcess;
use batoff_edge::{DaemonConfig, certs};
use batoff_index::IndexConfig;
use batoff_program::config::ConfigError;
use batoff_program::exit::{Exit, Failure, run};
use batoff_program::flags::{self, Flags};
use batoff_program::listen::bind;
use batoff_program::monitor;
use batoff_program::monitored::Monitored;
use batoff_program::signals::Signals;
use batoff_program::supervisor::Supervisor;
use batoff_program::traces::{Exporter, Traces};
use batoff_proxy::config::ProxyConfig;
use batoff_proxy::figures;
use batoff_proxy::monitor::Monitor;
use batoff_proxy::{Locator, Proxy, Shield, Store};
use clap::Parser;
use serde_json::json;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

const PROGRAM: &str = "batoff-proxy";

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A caching reverse proxy that takes purges back at once.
#[derive(Parser)]
#[command(name = PROGRAM, version)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
}

fn main() -> ExitCode {
    match flags::parse::<Cli>() {
        Ok(cli) if cli.flags.check => run(PROGRAM, async move { check(&cli.flags) }),
        Ok(cli) => run(PROGRAM, serve(cli.flags)),
        Err(exit) => exit,
    }
}

fn check(flags: &Flags) -> Result<(), Failure> {
    let config: ProxyConfig = flags.load()?;
    let mut lines = certs::checked(&DaemonConfig::try_from(&config)?)?;
    exporter(&config)?;
    lines.push(format!("log     {}", config.log.level));
    lines.push(format!("proxy   {}", config.proxy.listen));
    lines.push(format!("metrics {}", config.metrics.listen));
    lines.push(format!("traces  {}", config.traces.described()));
    flags::checked(&flags.config, &lines);
    Ok(())
}

/// What tells a collector of traced purges, if one is configured.
fn exporter(config: &ProxyConfig) -> Result<(Traces, Exporter), ConfigError> {
    let node = config.node.name()?.to_string();
    Exporter::prepare(&config.traces, PROGRAM, env!("CARGO_PKG_VERSION"), &node)
}

async fn serve(flags: Flags) -> Result<(), Failure> {
    let config: ProxyConfig = flags.load()?;
    let daemon = DaemonConfig::try_from(&config)?;
    let origins = config.proxy.origins()?;
    let children = config.children()?;
    let (traces, exporter) = exporter(&config)?;
    config.log.install()?;
    let recorder = batoff_program::figures::install(&[])
        .map_err(|error| Failure::internal("the metrics recorder", error))?;
    figures::declare();
    let signals = Signals::listen(flags.exit_with_parent)?;
    exporter.run_on(&Handle::current());

    let opened = DaemonConfig::open::<Locator>(daemon, IndexConfig::default())?;
    let proxy = &config.proxy;
    let store: &'static Store = Box::leak(Box::new(Store::new(
        opened.index(),
        opened.path(),
        proxy.memory_bytes,
        proxy.object_bytes_max,
    )));
    let visitors = bind("proxy.listen", proxy.listen).await?;
    let monitoring = bind("metrics.listen", config.metrics.listen).await?;
    let at = |listener: &tokio::net::TcpListener, wanted| listener.local_addr().unwrap_or(wanted);
    let addresses = json!({
        "proxy": at(&visitors, proxy.listen),
        "metrics": at(&monitoring, config.metrics.listen),
        "pid": std::process::id(),
    });

    let shield = Shield::new(opened.standing(), children);
    let overflow = opened.overflow();
    let handle = opened.tell(traces).start(vec![Box::new(InProcess::new("proxy", store))]);
    let stop_monitoring = CancellationToken::new();
    let vital = handle.vital();
    let monitored: Arc<dyn Monitored> = Arc::new(Monitor { daemon: handle.monitor(), store });
    let router = monitor::router(PROGRAM, Some(recorder), Arc::clone(&monitored));
    let monitoring = monitor::serve(monitoring, monitor::gate(), router, stop_monitoring.clone());
    tokio::spawn(vital.watch("monitoring", &stop_monitoring, monitoring));
    let mut server =
        Proxy::new(store, handle.fence(), origins, shield, proxy.keep_tag_header, overflow, config.listeners);
    server
        .reserve_descriptors()
        .map_err(|error| Failure::new(Exit::Temporary, format!("listeners.connections_max: {error}")))?;
    let server = server.serve(visitors, signals.stop.clone());
    let server = tokio::spawn(vital.watch("visitors", &signals.stop, server));
    if flags.announce {
        flags::announce(&addresses)?;
    }
    let supervisor = Supervisor::ready(vital.clone(), &[], monitored);
    loop {
        tokio::select! {
            () = signals.stop.cancelled() => break,
            () = signals.reload.notified() => supervisor.reloading(|| {
                handle.reload();
                exporter.reload();
            }),
            () = vital.failed() => return Err(Failure::vital()),
        }
    }
    tracing::info!("draining");
    supervisor.stopping();
    // The fence first: what is still answered below comes from the origin.
    handle.shutdown().await;
    exporter.finish().await;
    server.await.map_err(|error| Failure::internal("the accept loop", error))?;
    stop_monitoring.cancel();
    Ok(())
}
