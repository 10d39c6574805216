//! `batoff audit`: who did what, for the operator; and whether that is still all of it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use batoff_client::{AuditQuery, AuditRecord, AuditVerdict};
use clap::{Args, Subcommand};
use sha2::{Digest, Sha256};

use crate::args::Format;
use crate::exit::Failure;
use crate::output::{self, Narrow};
use crate::settings::Settings;
use crate::when;

/// `batoff audit …`
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List what was done, newest first; with --site, only what was about that site
    List(AuditListArgs),
    /// Write the log to standard output, oldest first, one JSON document a line
    Export {
        /// The number of the first entry
        #[arg(long, value_name = "N", default_value_t = 1)]
        from: u64,
    },
    /// Check that nothing in the log was changed, taken out or cut off; prints its head, to be kept elsewhere
    Verify {
        /// The head that an earlier check printed: shows that everything up to there is still as it was
        #[arg(long)]
        head: Option<String>,
        /// Check an exported file instead; asks nobody
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub struct AuditListArgs {
    /// Only what this actor did: admin, token:TOKEN_ID or user:NAME
    #[arg(long)]
    actor: Option<String>,
    /// Only this kind, such as purge, site.change or token.revoke
    #[arg(long)]
    action: Option<String>,
    /// Only since then: a time (2026-04-20T08:12:31Z) or an age (90s, 15m, 24h, 7d)
    #[arg(long)]
    since: Option<String>,
    /// Only before then: a time or an age
    #[arg(long)]
    until: Option<String>,
    /// At most so many entries
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
}

/// `batoff audit …`; `site` is what the command line names, for the environment's is for purges.
pub async fn run(command: AuditCommand, site: Option<String>, settings: &Settings) -> Result<(), Failure> {
    match command {
        AuditCommand::List(args) => list(args, site, settings).await,
        AuditCommand::Export { from } => export(from, settings).await,
        AuditCommand::Verify { head, file: Some(file) } => {
            let verdict = verdict_of_file(&file, head.as_deref())?;
            tell(&verdict, settings.format())
        }
        AuditCommand::Verify { head, file: None } => {
            let verdict = settings.admin()?.verify_audit(head.as_deref()).await;
            tell(&verdict.map_err(Failure::of_admin)?, settings.format())
        }
    }
}

async fn list(args: AuditListArgs, site: Option<String>, settings: &Settings) -> Result<(), Failure> {
    let past =
        |text: Option<String>| text.as_deref().map(|text| when::past(text, SystemTime::now())).transpose();
    let query = AuditQuery {
        site,
        actor: args.actor,
        action: args.action,
        since: past(args.since)?,
        until: past(args.until)?,
    };
    let found = settings.admin()?.audit(&query, args.limit as usize).await;
    let entries = found.map_err(Failure::of_admin)?;
    if settings.format() == Format::Json {
        return entries.iter().try_for_each(output::json);
    }
    let mut table = output::table([
        ("TIME", Narrow::Stay),
        ("ACTOR", Narrow::Wrap),
        ("ACTION", Narrow::Stay),
        ("SITE", Narrow::Go(1)),
        ("WHAT", Narrow::Wrap),
        ("FROM", Narrow::Go(2)),
        ("RESULT", Narrow::Stay),
    ]);
    for entry in &entries {
        table.add_row([
            entry.at.clone(),
            entry.actor.clone(),
            entry.action.clone(),
            output::or_dash(entry.site.clone()),
            output::or_dash(about(entry)),
            output::or_dash(entry.address.clone()),
            result(entry),
        ]);
    }
    table.print("no entries")
}

fn about(entry: &AuditRecord) -> Option<String> {
    let change = entry.change.as_ref().map(ToString::to_string);
    let parts: Vec<String> =
        [entry.what.clone(), entry.object.clone(), change].into_iter().flatten().collect();
    Some(parts.join(" ")).filter(|text| !text.is_empty())
}

fn result(entry: &AuditRecord) -> String {
    let code = entry.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
    let more = entry.unlisted.map(|more| format!(", {more} more before")).unwrap_or_default();
    format!("{}{code}{more}", entry.result)
}

async fn export(from: u64, settings: &Settings) -> Result<(), Failure> {
    let mut export = settings.admin()?.export_audit(from).await.map_err(Failure::of_admin)?;
    while let Some(bytes) = export.next().await.map_err(Failure::of_admin)? {
        output::bytes(&bytes)?;
    }
    Ok(())
}

/// What is found out is printed; a chain that is not whole is a failure.
fn tell(verdict: &AuditVerdict, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => output::json(verdict)?,
        Format::Human => {
            for flaw in &verdict.flaws {
                output::say(&format!("entry {}: {}", flaw.number, flaw.what))?;
            }
            for change in &verdict.store_changes {
                let (number, log) = (&change["number"], change["log_id"].as_str().unwrap_or_default());
                output::say(&format!(
                    "entry {number}: the store is a copy or a restored backup from here on: {log}"
                ))?;
            }
            output::say(&format!("looked at {}, the first is {}", counted(verdict.entries), verdict.first))?;
            output::say(&format!("head: {}", verdict.head))?;
        }
    }
    let why = match verdict.known_head.as_deref() {
        _ if verdict.ok => return Ok(()),
        None | Some("confirmed") => "the audit log is not whole",
        Some("missing") => {
            "the audit log ends before the head that was given: it was cut off, or an older state put back"
        }
        Some("forgotten") => "the head that was given was forgotten since: nothing can be said about it",
        Some("foreign") => "the head that was given is of another replica's log",
        Some(_) => "the audit log is another one than the head that was given says",
    };
    Err(Failure::Failed(why.to_owned()))
}

fn counted(entries: u64) -> String {
    if entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") }
}

/// The same for an export, by its own lines alone.
fn verdict_of_file(path: &Path, known: Option<&str>) -> Result<AuditVerdict, Failure> {
    let unreadable = |why: String| Failure::Failed(format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    verdict_of(&text, known).map_err(|why| unreadable(why.to_owned()))
}

/// The end of a line, behind which nothing is hashed: `,"hash":"` 64 hex digits `"}`.
const HASH_BYTES: usize = 9 + 64 + 2;

fn verdict_of(text: &str, known: Option<&str>) -> Result<AuditVerdict, &'static str> {
    #[derive(serde::Deserialize)]
    struct ExportHead {
        chain: String,
        first: u64,
        previous: String,
    }
    let mut lines = text.lines();
    let head = lines.next().and_then(|line| serde_json::from_str::<ExportHead>(line).ok());
    let ExportHead { chain, first, previous } = head.ok_or("its first line does not say where it begins")?;
    let mut hash = [0; 32];
    hex::decode_to_slice(&previous, &mut hash).map_err(|_| "its first line has no hash")?;
    let mut verdict = AuditVerdict {
        ok: true,
        first,
        entries: 0,
        head: String::new(),
        known_head: known.map(|_| "missing".to_owned()),
        flaws: Vec::new(),
        flaws_total: 0,
        store_changes: Vec::new(),
    };
    let known = known.map(|known| known.rsplit_once(':').ok_or("that is no head")).transpose()?;
    let meet = |verdict: &mut AuditVerdict, number: u64, hash: &[u8; 32]| {
        if let Some((place, digits)) = known
            && place == format!("{chain}:{number}")
        {
            let is = digits == hex::encode(hash);
            verdict.known_head = Some(if is { "confirmed" } else { "differs" }.to_owned());
        }
    };
    meet(&mut verdict, first - 1, &hash);
    let mut next = first;
    for line in lines {
        let cut = line.len().checked_sub(HASH_BYTES).filter(|cut| line.is_char_boundary(*cut));
        let (front, end) = line.split_at(cut.unwrap_or(0));
        hash = Sha256::new().chain_update(hash).chain_update(front).chain_update("}").finalize().into();
        let entry = serde_json::from_str::<AuditRecord>(line).ok();
        let fits = end == format!(",\"hash\":\"{}\"}}", hex::encode(hash));
        if !fits || entry.is_none_or(|entry| entry.number != next) {
            verdict.flaws_total += 1;
            if verdict.flaws.is_empty() {
                let what = "it, or something before it, was changed or taken out".to_owned();
                verdict.flaws.push(batoff_client::AuditFlaw { number: next, what });
            }
        }
        meet(&mut verdict, next, &hash);
        next += 1;
        verdict.entries += 1;
    }
    verdict.head = format!("{chain}:{}:{}", next - 1, hex::encode(hash));
    verdict.ok =
        verdict.flaws_total == 0 && verdict.known_head.as_deref().is_none_or(|known| known == "confirmed");
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An export of three entries.
    fn export() -> String {
        let mut hash = [7u8; 32];
        let mut text = format!("{{\"chain\":\"1\",\"first\":5,\"previous\":\"{}\"}}\n", hex::encode(hash));
        for number in 5..8 {
            let front = format!(
                r#"{{"number":{number},"at":"2026-04-20T08:12:31.000Z","actor":"admin","action":"purge","result":"done""#
            );
            hash = Sha256::new().chain_update(hash).chain_update(&front).chain_update("}").finalize().into();
            text.push_str(&format!("{front},\"hash\":\"{}\"}}\n", hex::encode(hash)));
        }
        text
    }

    #[test]
    fn an_export_is_checked_by_its_own_lines() {
        let whole = verdict_of(&export(), None).unwrap();
        assert!(whole.ok && whole.entries == 3 && whole.head.starts_with("1:7:"), "{whole:?}");
        let confirmed = verdict_of(&export(), Some(&whole.head)).unwrap();
        assert_eq!((confirmed.ok, confirmed.known_head.as_deref()), (true, Some("confirmed")));
        let cut: String = export().lines().take(3).map(|line| format!("{line}\n")).collect();
        let missing = verdict_of(&cut, Some(&whole.head)).unwrap();
        assert_eq!((missing.ok, missing.known_head.as_deref()), (false, Some("missing")));
    }

    #[test]
    fn each_flipped_byte_of_an_export_is_noticed() {
        let text = export();
        let head = verdict_of(&text, None).unwrap().head;
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(text) = String::from_utf8(bytes) else { continue };
            // Whether it is still an export, and if so, the same one.
            let noticed = verdict_of(&text, Some(&head)).map_or(true, |verdict| !verdict.ok);
            assert!(noticed, "byte {at}");
        }
    }
}
