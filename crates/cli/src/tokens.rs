//! `batoff tokens`: a site's API tokens, for the operator.

use std::time::SystemTime;

use batoff_client::{Error, IssueToken, TokenReport};
use clap::{Subcommand, ValueEnum};

use crate::args::Format;
use crate::exit::Failure;
use crate::output::{self, Narrow};
use crate::settings::Settings;
use crate::when;

/// `batoff tokens …`
#[derive(Debug, Subcommand)]
pub enum TokensCommand {
    /// Issue a token with its signing secret; both are shown this once
    Issue {
        /// The site
        #[arg(value_name = "SITE")]
        site_name: String,
        /// What it is for, in your words
        #[arg(long, default_value = "")]
        label: String,
        /// What it may do
        #[arg(long, value_enum, default_value_t)]
        scope: Scope,
        /// When it ends: a time (2027-01-01T00:00:00Z) or a period from now (90d) [default: never]
        #[arg(long)]
        expires: Option<String>,
    },
    /// A site's tokens (never the tokens themselves)
    List {
        /// The site
        #[arg(value_name = "SITE")]
        site_name: String,
        /// Those that were revoked instead
        #[arg(long)]
        revoked: bool,
    },
    /// Revoke a token; it is refused everywhere within a second
    Revoke {
        /// The site
        #[arg(value_name = "SITE")]
        site_name: String,
        /// The token's id, from the list
        token_id: String,
    },
}

/// What a token may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// Submit and read
    #[default]
    Purge,
    /// Read only, dry runs included
    Read,
}

/// `batoff tokens …`
pub async fn run(command: TokensCommand, settings: &Settings) -> Result<(), Failure> {
    let admin = settings.admin()?;
    match command {
        TokensCommand::Issue { site_name, label, scope, expires } => {
            let scope = match scope {
                Scope::Purge => "purge",
                Scope::Read => "read",
            };
            let expires_at =
                expires.as_deref().map(|text| when::future(text, SystemTime::now())).transpose()?;
            let wanted = IssueToken { label, scopes: vec![scope.to_owned()], expires_at };
            let issued = admin.issue_token(&site_name, &wanted).await.map_err(about(&site_name))?;
            if settings.format() == Format::Json {
                return output::json(&issued);
            }
            output::text(&format!(
                "BATOFF_SITE={site_name}\nBATOFF_TOKEN={}\nBATOFF_SECRET={}",
                issued.token, issued.secret
            ))?;
            output::note(&format!("Token {}: keep both lines, they are not shown again.", issued.token_id));
            Ok(())
        }
        TokensCommand::List { site_name, revoked: false } => {
            print(&admin.tokens(&site_name).await.map_err(about(&site_name))?, settings.format())
        }
        TokensCommand::List { site_name, revoked: true } => {
            let tokens = admin.revoked_tokens(&site_name).await.map_err(about(&site_name))?;
            print_revoked(&tokens, settings.format())
        }
        TokensCommand::Revoke { site_name, token_id } => {
            admin.revoke_token(&site_name, &token_id).await.map_err(about(&site_name))?;
            match settings.format() {
                Format::Json => output::json(&serde_json::json!({ "token_id": token_id, "revoked": true })),
                Format::Human => output::say(&format!(
                    "token {token_id} revoked: it is refused everywhere within a second"
                )),
            }
        }
    }
}

fn about(site: &str) -> impl Fn(Error) -> Failure {
    let what = format!("site {site}");
    move |error| Failure::of_admin(error).about(&what)
}

fn print(tokens: &[TokenReport], format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return tokens.iter().try_for_each(output::json);
    }
    let mut table = output::table([
        ("TOKEN ID", Narrow::Stay),
        ("LABEL", Narrow::Wrap),
        ("SCOPES", Narrow::Go(2)),
        ("CREATED", Narrow::Go(4)),
        ("BY", Narrow::Go(5)),
        ("EXPIRES", Narrow::Go(1)),
        ("LAST USED", Narrow::Go(3)),
    ]);
    for token in tokens {
        table.add_row([
            token.token_id.clone(),
            token.label.clone(),
            token.scopes.join(", "),
            output::or_dash(token.created_at.clone()),
            output::or_dash(token.created_by.clone()),
            output::or_dash(token.expires_at.clone()),
            output::or_dash(last_used(token)),
        ]);
    }
    table.print("no tokens")
}

fn print_revoked(tokens: &[TokenReport], format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return tokens.iter().try_for_each(output::json);
    }
    let mut table = output::table([
        ("TOKEN ID", Narrow::Stay),
        ("LABEL", Narrow::Wrap),
        ("REVOKED", Narrow::Stay),
        ("BY", Narrow::Go(1)),
        ("LAST USED", Narrow::Go(2)),
    ]);
    for token in tokens {
        table.add_row([
            token.token_id.clone(),
            token.label.clone(),
            output::or_dash(token.revoked_at.clone()),
            output::or_dash(token.revoked_by.clone()),
            output::or_dash(last_used(token)),
        ]);
    }
    table.print("no tokens")
}

fn last_used(token: &TokenReport) -> Option<String> {
    let from = token.last_used_from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
    token.last_used_at.as_ref().map(|at| format!("{at}{from}"))
}
