//! Shows on a running daemon that its socket, its pages and its caches are as they should be.

use std::path::Path;
use std::time::Duration;

use batoff_edge::boottime;
use batoff_wire::local::page::{BLOCK_BYTES, Page, boot_id};
use batoff_wire::local::pb::cache_status::Presence;
use batoff_wire::local::pb::local_client::LocalClient;
use batoff_wire::local::pb::lookup_reply::State;
use batoff_wire::local::pb::{self, Verdict, from_cache, to_cache};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use super::config::{CHECK, LocalSection, Mode};
use crate::shared::report::{CheckError, Report, marks_behind, note_marks, note_parents};
use crate::shared::visitor::{VisitArgs, Visitor};

/// For the daemon to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The canary's URL. The name is reserved (RFC 6761), so no site owns it.
const PATH: &str = "/.well-known/batoff-check-canary";

/// No site owns it.
const UNOWNED: &str = "https://batoff-check.invalid/canary";

/// The canary's handle.
const HANDLE: &[u8] = b"canary";

/// What to look at besides.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CheckArgs {
    /// Where a cache listens for visitors, in plain HTTP: host:port. A page there tells whether another cache lies behind it.
    #[arg(long, value_name = "ADDRESS", requires = "host")]
    pub connect: Option<String>,
    /// The hostname to ask it for: one of the site's.
    #[arg(long, value_name = "HOSTNAME", requires = "connect")]
    pub host: Option<String>,
    /// Path and query of a page there that may be cached.
    #[arg(long, default_value = "/", value_name = "TARGET")]
    pub page: String,
}

/// Makes the check. It registers an object of its own under a name of its own, and takes it back; nothing that is cached
/// is touched.
pub async fn check(
    args: &CheckArgs,
    section: &LocalSection,
    has_parents: bool,
) -> Result<Report, CheckError> {
    let mut report = Report::default();
    let mut client = connect(&section.socket).await?;
    report.holds(format!("the daemon answers at {}", section.socket.display()));

    let status = client.status(pb::StatusRequest {}).await.map_err(|status| no_answer(&status))?.into_inner();
    for name in section.caches.keys() {
        match status.caches.iter().find(|cache| cache.cache == *name) {
            Some(cache) => look_at(&mut report, cache, &status.instance),
            None => report.broken(
                format!("{name} is declared"),
                "the running daemon does not know it; restart it with this configuration",
            ),
        }
    }
    canary(&mut report, &mut client).await.map_err(|status| no_answer(&status))?;
    if let (Some(connect), Some(host)) = (&args.connect, &args.host) {
        // Under a query of the check's own, so that it has to be fetched.
        let separator = if args.page.contains('?') { '&' } else { '?' };
        let page = format!("{}{separator}batoff-check={:016x}", args.page, rand::random::<u64>());
        let visit = VisitArgs { connect: connect.clone(), host: host.clone(), page };
        let fetched = Visitor::new(&visit)?.read().await?;
        if has_parents {
            note_parents(&mut report, true, &fetched.headers(), &[]);
        } else {
            note_marks(&mut report, &marks_behind(fetched.headers()));
        }
    }
    Ok(report)
}

async fn connect(socket: &Path) -> Result<LocalClient<Channel>, CheckError> {
    let shown = socket.display();
    let stopped = |error: &dyn std::fmt::Display| {
        CheckError(format!(
            "cannot open {shown}: {error}; is the daemon running, and is this user in the group of the socket \
             ([caches.local] group)?"
        ))
    };
    // For its error, which the transport would hide.
    tokio::net::UnixStream::connect(socket).await.map_err(|error| stopped(&error))?;
    let endpoint = Endpoint::from_shared(format!("unix:{shown}")).map_err(|error| stopped(&error))?;
    let channel = endpoint.connect_timeout(PATIENCE).timeout(PATIENCE).connect().await;
    Ok(LocalClient::new(channel.map_err(|error| stopped(&error))?))
}

/// One cache, and its page.
fn look_at(report: &mut Report, cache: &pb::CacheStatus, instance: &[u8]) {
    let name = &cache.cache;
    let claim = format!("{name} ({}) is in sync, with {} objects", cache.mode, cache.objects);
    match cache.presence() {
        Presence::InSync => report.holds(claim),
        Presence::Resyncing => report.broken(claim, "it is still naming what it holds; look again in a moment"),
        Presence::Awaited => report.broken(
            claim,
            "it has no session, and purges wait for it; start it, or see in its log why it cannot connect",
        ),
        Presence::Fenced | Presence::Unspecified => report.broken(
            claim,
            "it has no session and serves nothing from its cache; start it, or see in its log why it cannot connect",
        ),
    }
    if cache.mode != Mode::Page.as_str() {
        return;
    }
    let claim = format!("{name} may read its page, and it says what it should");
    match page(Path::new(&cache.page), instance) {
        Err(wrong) => report.broken(claim, wrong),
        Ok(page) => {
            report.holds(claim);
            let serves = page.session != 0 && boottime().as_micros().saturating_mul(1_000) < page.serve_until;
            report.note(
                serves || cache.presence() != Presence::InSync,
                &format!("{name} may serve"),
                "the node holds no lease now; see why it is not ready: /readyz of this daemon",
            );
        }
    }
}

/// What a page says, or what is wrong with it.
fn page(path: &Path, instance: &[u8]) -> Result<Page, String> {
    let shown = path.display();
    let cannot_be_read = |error: std::io::Error| {
        format!("{shown}: {error}; whoever runs the cache has to be in the group ([caches.local] group)")
    };
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(cannot_be_read)?;
    // It may be written at this moment.
    for _ in 0..100 {
        let bytes = std::fs::read(path).map_err(cannot_be_read)?;
        let block: &[u8; BLOCK_BYTES] =
            bytes.first_chunk().ok_or_else(|| format!("{shown} is too short; restart the daemon"))?;
        let Ok(page) = Page::decode(block) else { continue };
        if Some(page.boot_id) != boot_id(&boot) || page.instance.to_bytes() != instance {
            return Err(format!(
                "{shown} is not the running daemon's: it was replaced; restart the daemon and the cache"
            ));
        }
        return Ok(page);
    }
    Err(format!("{shown} holds no page; do not write to it, and restart the daemon"))
}

/// Registers an object, looks it up, and takes it back.
async fn canary(report: &mut Report, client: &mut LocalClient<Channel>) -> Result<(), Status> {
    let (outgoing, sent) = mpsc::channel(4);
    let hello = pb::Hello { cache: CHECK.to_owned(), software: "batoff-edge check local".to_owned() };
    // The channel is new, and as long as what is said.
    for body in [from_cache::Body::Hello(hello), from_cache::Body::HeldAll(pb::HeldAll {})] {
        let _ = outgoing.try_send(pb::FromCache { body: Some(body) });
    }
    let mut incoming = client.watch(ReceiverStream::new(sent)).await?.into_inner();
    let pb::Welcome { session, owned_hostname, .. } = in_sync(&mut incoming).await?;
    report.holds("a cache gets a session");

    let token = client.begin_fill(pb::BeginFillRequest {}).await?.into_inner().token;
    let late = token.map(|token| pb::FillToken { generation: token.generation.wrapping_add(1), ..token });
    let object = |url: &str, handle: &'static [u8], token| pb::CommitRequest {
        session,
        object: Some(pb::Object {
            url: url.to_owned(),
            handle: handle.into(),
            cache_tag: Vec::new(),
            token,
            tags_cut: false,
        }),
    };
    let refused = client.commit(object(UNOWNED, b"unowned", token)).await?.into_inner().verdict();
    let claim = "nothing is stored under a hostname that no site owns";
    report.note(refused == Verdict::Discard, claim, format!("the daemon said {}", refused.as_str_name()));
    if owned_hostname.is_empty() {
        report.holds("no more can be tried: this node knows of no site yet (batoff sites create)");
        return Ok(());
    }
    let url = format!("https://{owned_hostname}{PATH}");
    let stored = client.commit(object(&url, HANDLE, token)).await?.into_inner().verdict();
    let claim = "what is fetched now is stored";
    report.note(stored == Verdict::Store, claim, format!("the daemon said {}", stored.as_str_name()));
    let refused = client.commit(object(&url, b"late", late)).await?.into_inner().verdict();
    let claim = "what was fetched before a reset is not";
    report.note(refused == Verdict::Discard, claim, format!("the daemon said {}", refused.as_str_name()));

    let looked = lookup(client, session, &url).await?;
    let claim = "what is stored is found";
    report.note(looked == State::Fresh, claim, format!("the daemon said {}", looked.as_str_name()));
    let gone = pb::GoneObject { url: url.clone(), handle: HANDLE.into() };
    client.gone(pb::GoneRequest { session, objects: vec![gone] }).await?;
    let looked = lookup(client, session, &url).await?;
    let claim = "what has gone is not";
    report.note(looked == State::Unknown, claim, format!("the daemon said {}", looked.as_str_name()));
    Ok(())
}

async fn lookup(client: &mut LocalClient<Channel>, session: u64, url: &str) -> Result<State, Status> {
    let request = pb::LookupRequest { session, url: url.to_owned(), handle: HANDLE.into() };
    Ok(client.lookup(request).await?.into_inner().state())
}

/// The session, once it is in sync.
async fn in_sync(incoming: &mut Streaming<pb::ToCache>) -> Result<pb::Welcome, Status> {
    let mut session = pb::Welcome::default();
    loop {
        let message = tokio::time::timeout(PATIENCE, incoming.message()).await;
        let message = message.map_err(|_| Status::deadline_exceeded("no answer within 5 s"))??;
        match message.and_then(|message| message.body) {
            Some(to_cache::Body::Welcome(welcome)) => session = welcome,
            Some(to_cache::Body::InSync(_)) => return Ok(session),
            Some(_) => {}
            None => return Err(Status::internal("the session ended")),
        }
    }
}

fn no_answer(status: &Status) -> CheckError {
    CheckError(format!(
        "the daemon refused: {} ({:?}); are check and daemon of the same release?",
        status.message(),
        status.code()
    ))
}
