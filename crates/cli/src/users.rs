//! `batoff users`: who may sign in to the console, for the operator.

use std::io::IsTerminal;

use batoff_client::{AddedUser, Error, NewUser, UserPatch, UserReport};
use clap::{Args, Subcommand, ValueEnum};

use crate::args::Format;
use crate::exit::Failure;
use crate::output::{self, Narrow};
use crate::settings::Settings;

/// `batoff users …`
#[derive(Debug, Subcommand)]
pub enum UsersCommand {
    /// All users of the console with their roles, sites and last sign-in
    List,
    /// Add a user with a one-time password, which is shown this once and must be changed at the first sign-in
    Add {
        /// 1 to 64 of a-z, 0-9 and . _ @ -
        name: String,
        /// What the user may do
        #[arg(long, value_enum)]
        role: UserRole,
        #[command(flatten)]
        sites: UserSites,
        /// Language of the pages
        #[arg(long, value_enum, default_value_t)]
        language: PageLanguage,
    },
    /// One user
    Show {
        /// The user
        name: String,
    },
    /// Change what a user may do; with another role, or disabled, the user is signed out everywhere
    Update {
        /// The user
        name: String,
        /// What the user may do
        #[arg(long, value_enum)]
        role: Option<UserRole>,
        #[command(flatten)]
        sites: UserSites,
        /// Language of the pages
        #[arg(long, value_enum)]
        language: Option<PageLanguage>,
        /// The user cannot sign in
        #[arg(long, conflicts_with = "enable")]
        disable: bool,
        /// The user can sign in again
        #[arg(long)]
        enable: bool,
    },
    /// Give a user a new one-time password, shown this once; ends all sessions and forgets failed sign-ins
    Reset {
        /// The user
        name: String,
        /// Ask for no code of an authenticator any more, for a user who has lost it
        #[arg(long)]
        codes: bool,
    },
    /// Ask a user for no code of an authenticator any more, for one who has lost it and knows the password
    DropCodes {
        /// The user
        name: String,
    },
    /// Sign a user out everywhere: all sessions end within a second
    SignOut {
        /// The user
        name: String,
    },
    /// Remove a user; all sessions end within a second
    Remove {
        /// The user
        name: String,
        /// Do not ask, on a terminal either
        #[arg(long, short)]
        yes: bool,
    },
}

/// For which sites.
#[derive(Debug, Args)]
pub struct UserSites {
    /// A site the user is for; may be repeated or separated by commas; an operator is for all
    #[arg(long = "for-site", value_name = "SITE", value_delimiter = ',')]
    for_sites: Vec<String>,
}

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UserRole {
    /// Everything, of every site
    Operator,
    /// Tokens and purges of the named sites
    Manager,
    /// Purges of the named sites
    Member,
    /// Read what is of the named sites
    Viewer,
}

/// Language of the pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PageLanguage {
    /// As the browser prefers
    #[default]
    Auto,
    /// English
    En,
    /// Russian
    Ru,
}

impl UserRole {
    fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Manager => "manager",
            Self::Member => "member",
            Self::Viewer => "viewer",
        }
    }
}

impl PageLanguage {
    fn tag(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::En => "en",
            Self::Ru => "ru",
        }
    }
}

/// `batoff users …`
pub async fn run(command: UsersCommand, settings: &Settings) -> Result<(), Failure> {
    let admin = settings.admin()?;
    let format = settings.format();
    match command {
        UsersCommand::List => {
            let users = admin.users().await.map_err(Failure::of_admin)?;
            print(&users, format)
        }
        UsersCommand::Show { name } => print(&[admin.user(&name).await.map_err(about(&name))?], format),
        UsersCommand::Add { name, role, sites, language } => {
            let new = NewUser {
                name: name.clone(),
                role: role.name().to_owned(),
                sites: sites.for_sites,
                language: Some(language.tag().to_owned()),
            };
            shown_once(&admin.add_user(&new).await.map_err(about(&name))?, format)
        }
        UsersCommand::Update { name, role, sites, language, disable, enable } => {
            let patch = UserPatch {
                role: role.map(|role| role.name().to_owned()),
                sites: (!sites.for_sites.is_empty()).then_some(sites.for_sites),
                language: language.map(|language| language.tag().to_owned()),
                disabled: (disable || enable).then_some(disable),
            };
            if patch == UserPatch::default() {
                return Err(Failure::Usage(
                    "nothing to change: give --role, --for-site, --language, --disable or --enable"
                        .to_owned(),
                ));
            }
            print(&[admin.update_user(&name, &patch).await.map_err(about(&name))?], format)
        }
        UsersCommand::Reset { name, codes } => {
            shown_once(&admin.reset_user(&name, codes).await.map_err(about(&name))?, format)
        }
        UsersCommand::DropCodes { name } => {
            admin.drop_user_codes(&name).await.map_err(about(&name))?;
            let document = serde_json::json!({ "name": name, "codes": false });
            done(format, &document, &format!("user {name} signs in with the password alone"))
        }
        UsersCommand::SignOut { name } => {
            admin.sign_out_user(&name).await.map_err(about(&name))?;
            let document = serde_json::json!({ "name": name, "signed_out": true });
            done(format, &document, &format!("user {name} is signed out everywhere"))
        }
        UsersCommand::Remove { name, yes } => {
            if !yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
                let answer = output::ask(&format!("Type {name} to remove the user: "))?;
                if answer != name {
                    return Err(Failure::Failed("nobody was removed".to_owned()));
                }
            }
            admin.remove_user(&name).await.map_err(about(&name))?;
            let document = serde_json::json!({ "name": name, "removed": true });
            done(format, &document, &format!("user {name} removed: all sessions end within a second"))
        }
    }
}

fn done(format: Format, document: &serde_json::Value, text: &str) -> Result<(), Failure> {
    match format {
        Format::Json => output::json(document),
        Format::Human => output::say(text),
    }
}

fn about(user: &str) -> impl Fn(Error) -> Failure {
    let what = format!("user {user}");
    move |error| Failure::of_admin(error).about(&what)
}

fn shown_once(added: &AddedUser, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return output::json(added);
    }
    output::text(&format!("user={}\npassword={}", added.user.name, added.password))?;
    output::note(&format!(
        "One-time password of user {}: it is not shown again, and must be changed at the first sign-in.",
        added.user.name
    ));
    Ok(())
}

fn print(users: &[UserReport], format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return users.iter().try_for_each(output::json);
    }
    let mut table = output::table([
        ("USER", Narrow::Stay),
        ("ROLE", Narrow::Stay),
        ("SITES", Narrow::Wrap),
        ("STATE", Narrow::Go(2)),
        ("CODES", Narrow::Go(3)),
        ("LAST SIGN-IN", Narrow::Go(1)),
        ("CREATED", Narrow::Go(4)),
        ("BY", Narrow::Go(5)),
    ]);
    for user in users {
        let state = match user {
            UserReport { disabled: true, .. } => Some("disabled"),
            UserReport { must_change_password: true, .. } => Some("one-time password"),
            _ => None,
        };
        let left = |left: usize| format!("on, {left} for recovery");
        table.add_row([
            user.name.clone(),
            user.role.clone(),
            if user.role == "operator" { "all".to_owned() } else { user.sites.join(", ") },
            output::or_dash(state),
            output::or_dash(user.recovery_codes.map(left)),
            output::or_dash(last_sign_in(user)),
            user.created_at.clone(),
            user.created_by.clone(),
        ]);
    }
    table.print("no users")
}

fn last_sign_in(user: &UserReport) -> Option<String> {
    let from = user.last_sign_in_from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
    user.last_sign_in_at.as_ref().map(|at| format!("{at}{from}"))
}
