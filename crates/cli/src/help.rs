//! The parser, its help and its errors, in the language of the user.
//!
//! English is clap's own and stands at each argument. In Russian the same parser gets other texts, and its errors are
//! written here, from what clap says of them. Flags, names and values stay as they are: they are typed.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, CommandFactory, Error, FromArgMatches};

use crate::args::Cli;
use crate::russian::{self, in_russian};

/// Where clap's words would stand; the rest it fills in.
const TEMPLATE: &str = "{about-with-newline}\nИспользование: {usage}\n\n{all-args}{after-help}";

/// What was asked for.
///
/// # Errors
/// Why the words on the command line are none of ours, or the help or version that they ask for.
pub fn parse() -> Result<Cli, Error> {
    Cli::from_arg_matches(&command().try_get_matches()?)
}

/// The command line, for this user.
pub fn command() -> Command {
    if russian::is_spoken() { in_russian_whole() } else { Cli::command() }
}

fn in_russian_whole() -> Command {
    let mut command = translated(Cli::command());
    // `batoff help` is made by this.
    command.build();
    named(command)
}

/// Names the commands `help`, which clap has made.
fn named(command: Command) -> Command {
    command.mut_subcommands(|sub| match sub.get_name() {
        "help" => sub.about("Показать эту справку или справку о команде"),
        _ => named(sub),
    })
}

/// Whether clap's own words will do for this user.
pub fn is_plain(error: &Error) -> bool {
    !russian::is_spoken() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
}

/// Why the command line is not one, in Russian.
pub fn explain(error: &Error) -> String {
    of_error(error)
}

fn translated(mut command: Command) -> Command {
    // clap's own have no text that could be exchanged.
    command = command.disable_help_flag(true).arg(own("help", 'h', ArgAction::Help));
    if command.get_version().is_some() {
        command = command.disable_version_flag(true).arg(own("version", 'V', ArgAction::Version));
    }
    if let Some(about) = command.get_about().map(text) {
        command = command.about(about);
    }
    if let Some(about) = command.get_long_about().map(text) {
        command = command.long_about(about);
    }
    if let Some(after) = command.get_after_help().map(text) {
        command = command.after_help(after);
    }
    command
        .help_template(TEMPLATE)
        .subcommand_help_heading("Команды")
        .subcommand_value_name("КОМАНДА")
        .mut_args(argument)
        .mut_subcommands(translated)
}

fn own(name: &'static str, short: char, action: ArgAction) -> Arg {
    Arg::new(name).long(name).short(short).action(action).help(if name == "help" {
        "Print help"
    } else {
        "Print version"
    })
}

fn text(english: &StyledStr) -> String {
    in_russian(&english.to_string())
}

fn argument(arg: Arg) -> Arg {
    let heading = match arg.get_help_heading() {
        Some(_) => "Соединение",
        None if arg.is_positional() => "Аргументы",
        None => "Параметры",
    };
    let mut help = arg.get_help().map(|help| sentence(&help.to_string())).unwrap_or_default();
    let takes_value = arg.get_action().takes_values();
    let default: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if takes_value && default.iter().any(|value| !value.is_empty()) {
        help.push_str(&format!(" [по умолчанию: {}]", default.join(" ")));
    }
    let possible: Vec<_> =
        arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    if takes_value && !possible.is_empty() {
        help.push_str(&format!(" [возможно: {}]", possible.join(", ")));
    }
    arg.help_heading(heading)
        .hide_default_value(takes_value)
        .hide_possible_values(takes_value)
        .help(help.trim_start().to_owned())
}

/// A help text, whose end may say in square brackets what clap would say.
fn sentence(english: &str) -> String {
    let whole = in_russian(english);
    if whole != english {
        return whole;
    }
    let at = [" [env: ", " [default: "].iter().filter_map(|mark| english.find(mark)).min();
    let (said, marks) = english.split_at(at.unwrap_or(english.len()));
    let marks = marks.split_inclusive(']').map(|mark| match mark.trim().strip_prefix("[default: ") {
        Some(value) => format!(" [по умолчанию: {}]", in_russian(value.trim_end_matches(']'))),
        None => mark.replace("[env: ", "[переменная: "),
    });
    format!("{}{}", in_russian(said), marks.collect::<String>())
}

fn of_error(error: &Error) -> String {
    let of = |kind| error.get(kind).map(words).unwrap_or_default();
    let arg = || of(ContextKind::InvalidArg);
    let first = match error.kind() {
        ErrorKind::UnknownArgument => format!("неизвестный аргумент {}", arg()),
        ErrorKind::InvalidSubcommand => format!("неизвестная команда {}", of(ContextKind::InvalidSubcommand)),
        ErrorKind::InvalidValue if of(ContextKind::InvalidValue).is_empty() => {
            format!("{}: нужно значение", arg())
        }
        ErrorKind::InvalidValue => {
            format!("{}: недопустимое значение {}", arg(), of(ContextKind::InvalidValue))
        }
        ErrorKind::ValueValidation => {
            let why =
                std::error::Error::source(error).map(|why| in_russian(&why.to_string())).unwrap_or_default();
            format!("{}: недопустимое значение {}: {why}", arg(), of(ContextKind::InvalidValue))
        }
        ErrorKind::NoEquals => format!("{}: перед значением нужен знак =", arg()),
        ErrorKind::TooManyValues => format!("{}: лишнее значение {}", arg(), of(ContextKind::InvalidValue)),
        ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => format!("{}: не столько значений", arg()),
        ErrorKind::ArgumentConflict => match of(ContextKind::PriorArg) {
            other if other.is_empty() || other == arg() => format!("{} указан дважды", arg()),
            other => format!("{} и {other} вместе указать нельзя", arg()),
        },
        ErrorKind::MissingRequiredArgument => format!("не указано: {}", arg()),
        ErrorKind::MissingSubcommand => format!("нужна команда: {}", of(ContextKind::ValidSubcommand)),
        ErrorKind::InvalidUtf8 => "в командной строке есть символы не в UTF-8".to_owned(),
        // Help and version, which `translated` has written, and what has to do with files.
        _ => return error.to_string(),
    };
    let mut lines = vec![format!("ошибка: {first}")];
    for (kind, about) in [
        (ContextKind::ValidValue, "возможно"),
        (ContextKind::SuggestedArg, "похоже на"),
        (ContextKind::SuggestedSubcommand, "похоже на"),
        (ContextKind::SuggestedValue, "похоже на"),
    ] {
        let said = of(kind);
        if !said.is_empty() {
            lines.push(format!("  {about}: {said}"));
        }
    }
    let usage = of(ContextKind::Usage);
    if let Some(usage) = usage.strip_prefix("Usage: ") {
        lines.push(format!("\nИспользование: {usage}"));
    }
    lines.push("\nПодробнее: --help.\n".to_owned());
    lines.join("\n")
}

fn words(value: &ContextValue) -> String {
    match value {
        ContextValue::None => String::new(),
        ContextValue::Strings(all) => all.join(", "),
        ContextValue::StyledStrs(all) => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two words in a row of a language that is not the reader's; names, flags and values are typed as they are.
    fn english_in(text: &str) -> Option<&str> {
        let is_word = |word: &&str| word.len() > 1 && word.chars().all(|c| c.is_ascii_lowercase());
        // Where a command has several, its usages take a line each.
        let is_usage =
            |line: &&str| line.starts_with("Использование: ") || line.trim_start().starts_with("batoff ");
        text.lines().filter(|line| !is_usage(line)).find(|line| {
            line.split_whitespace().collect::<Vec<_>>().windows(2).any(|two| two.iter().all(is_word))
        })
    }

    fn each(command: &mut Command, look: &mut impl FnMut(&mut Command)) {
        if command.get_name() == "help" {
            return;
        }
        look(command);
        for sub in command.get_subcommands_mut() {
            each(sub, look);
        }
    }

    #[test]
    fn every_command_and_flag_is_explained_in_russian() {
        let mut command = in_russian_whole();
        let mut seen = 0;
        each(&mut command, &mut |command| {
            for text in [command.render_help().to_string(), command.render_long_help().to_string()] {
                assert_eq!(english_in(&text), None, "{text}");
                assert!(
                    text.contains("Использование: batoff") && text.contains("Показать эту справку"),
                    "{text}"
                );
            }
            for arg in command.get_arguments() {
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(
                    help.chars().any(|c| matches!(c, 'а'..='я')),
                    "{} of {}: {help:?}",
                    arg.get_id(),
                    command.get_name()
                );
            }
            seen += 1;
        });
        assert!(seen > 20, "{seen} commands");
    }

    #[test]
    fn errors_of_the_command_line_are_in_russian_and_name_what_was_typed() {
        for (typed, named) in [
            (&["purge", "--no-such-flag"][..], "неизвестный аргумент --no-such-flag"),
            (&["purgee"], "неизвестная команда purgee"),
            (&["list", "--state", "gone"], "недопустимое значение gone"),
            (&["list", "--limit", "0"], "недопустимое значение 0"),
            (&["list", "--limit", "x"], "недопустимое значение x"),
            (&["purge", "--tag"], "нужно значение"),
            (&["purge", "--everything", "--tag", "a"], "вместе указать нельзя"),
            (&["purge", "--wait", "https://x/"], "не число секунд"),
            (&["status"], "не указано: <TASK>"),
            (&["certs", "issue", "--dir", "x"], "не указано"),
        ] {
            let words = std::iter::once("batoff").chain(typed.iter().copied());
            let error = in_russian_whole().try_get_matches_from(words).unwrap_err();
            let said = of_error(&error);
            assert!(said.starts_with("ошибка: ") && said.contains(named), "{typed:?}: {said}");
            assert_eq!(english_in(&said), None, "{typed:?}: {said}");
        }
    }

    #[test]
    fn the_same_words_mean_the_same_in_both_languages() {
        in_russian_whole().debug_assert();
        for typed in [
            &["batoff", "purge", "--tag", "a", "--wait"][..],
            &["batoff", "-o", "json", "list", "--limit", "3"],
        ] {
            let of = |command: Command| {
                format!("{:?}", Cli::from_arg_matches(&command.try_get_matches_from(typed).unwrap()))
            };
            assert_eq!(of(Cli::command()), of(in_russian_whole()));
        }
        let help = in_russian_whole().try_get_matches_from(["batoff", "purge", "--help"]).unwrap_err();
        assert!(!help.use_stderr() && of_error(&help).contains("Очистить URL"));
        let help = in_russian_whole().try_get_matches_from(["batoff", "help", "sites", "list"]).unwrap_err();
        assert!(!help.use_stderr() && of_error(&help).contains("Все сайты"), "{help}");
    }
}
